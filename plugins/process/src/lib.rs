//! Plugin `process`: what belongs to the process as a whole and to no descriptor: working directory, umask, limits,
//! scheduling, settings of prctl(2).
//!
//! | module | owns |
//! |---|---|
//! | [`confinement`] | what is lost: filters of seccomp(2), segments of modify_ldt(2) |
//! | [`directory`] | working directory, root directory and umask, as the kernel tells them |
//! | [`limits`] | resource limits |
//! | [`scheduling`] | policy, nice value, processors, I/O priority of each thread |
//! | [`settings`] | process-wide prctl(2) settings, membarrier(2), small files of /proc |
//! | [`state`] | what is written into the image |
//! | [`restart`] | the restart half |
//!
//! The restart half sets what other restart halves may stand on; limits, scheduling and settings come last of all, in
//! restored memory, because they can forbid what is still to be done. Settings that only a thread itself can read or make
//! (timer slack, parent-death signal, no_new_privs) are not here: they are the core's.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

mod confinement;
mod directory;
mod limits;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it runs in dmtcp_restart")]
mod restart;
mod scheduling;
mod settings;
mod state;

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{hook, plugin, restart_half};
use state::State;

/// The name that sections and messages carry.
const NAME: &str = "process";

plugin! {
    name: "process",
    priority: -200,
    requires: [],
    wrappers: [],
    init: |_| {
        directory::note_root();
        confinement::note();
        true
    },
}

/// What RESTART works from: it is part of the memory that comes back.
static STATE: Round<Option<State>> = Round::new(None);

hook!(PreSuspend, check);
hook!(PreCheckpoint, describe);
hook!(Restart, restore);

fn check(core: Core) {
    if let Err(sentence) = directory::check_root().and_then(|()| confinement::check()) {
        core.fail(&sentence);
    }
}

fn describe(core: Core) {
    let task = core.application_task();
    if task == 0 {
        return;
    }
    match directory::look(task) {
        Ok(place) => {
            for loss in confinement::losses() {
                core.unsupported(&loss);
            }
            let (limits, threads, settings) = (limits::look(), scheduling::look(core), settings::look());
            let state = State { place, limits, threads, settings, filters: confinement::filters() };
            core.json(State::SECTION, &state);
            STATE.with(|kept| *kept = Some(state));
        }
        Err(sentence) => core.fail(&sentence),
    }
}

fn restore(core: Core) {
    directory::note_root();
    confinement::note();
    let Some(state) = STATE.take() else { return };
    scheduling::restore(core, &state.threads);
    settings::restore(core, &state.settings);
    limits::restore(core, &state.limits);
}

restart_half!("process", restart::Half);
