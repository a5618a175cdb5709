//! Plugin `timer`: POSIX timers, interval timers, alarm(2).
//!
//! | module | owns |
//! |---|---|
//! | [`kernel`] | the system calls |
//! | [`listing`] | /proc/PID/timers |
//! | [`look`] | what there is, and what has just expired |
//! | [`restore`] | making it anew in restored memory |
//! | [`clock`] | clocks that count a thread's processor time |
//! | [`state`] | what is noted, and written for `dmtcp_inspect` |
//! | [`restart`] | the restart half, which only explains |
//!
//! Nothing is kept while the application runs: the kernel is asked at a checkpoint, and a resume has nothing to put back. A
//! timer comes back under its id, on its clock, with the time that was left of it: the time between checkpoint and restart
//! does not count. SIGEV_THREAD is libc's: a thread like any other, and a timer that signals it.
//!
//! What the kernel does not let us do:
//! * tell a timer that was set to a time of day from one that was set to a time span: both go on with what was left;
//! * set the overrun count: timer_getoverrun(2) says 0 until the next expiration after a restart;
//! * set clocks of processor time, which start anew with the process: timers on them get what was left too. What programs
//!   are told of these clocks is plugin `pid-virt`'s.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

mod clock;
mod kernel;
mod listing;
mod look;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it runs in dmtcp_restart")]
mod restart;
mod restore;
mod state;

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{hook, ids, plugin, restart_half};
use state::Timers;

/// The name that sections and messages carry.
const NAME: &str = "timer";

plugin! {
    name: "timer",
    priority: 20,
    requires: [],
    wrappers: [clock::WRAPPERS],
    init: |_| true,
}

/// What RESTART works from: it is part of the memory that comes back.
static TIMERS: Round<Option<Timers>> = Round::new(None);

hook!(PreSuspend, look::glance);
hook!(PreCheckpoint, describe);
hook!(Restart, restore);

fn describe(core: Core) {
    let mut timers = look::look(core);
    timers.translate(|tid| ids::to_virtual(core, tid));
    if !timers.is_empty() {
        core.json(Timers::SECTION, &timers);
    }
    TIMERS.with(|kept| *kept = Some(timers));
}

fn restore(core: Core) {
    if let Some(mut timers) = TIMERS.take() {
        timers.translate(|tid| ids::to_real(core, tid));
        restore::restore(core, &timers);
    }
}

restart_half!("timer", restart::Half);
