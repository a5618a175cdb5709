//! What there is of timers, asked of the kernel; nothing is consumed.
//!
//! ```text
//!   PRESUSPEND     glance: when each POSIX timer expires next
//!                  threads stop; what is pending then is kept by the core
//!   PRECHECKPOINT  look: every timer, and what has expired since its owner stopped
//! ```
//! A signal of a timer that expires while threads are stopped stays in the kernel's queue, and would be lost with the
//! process. The kernel shows only that a signal of a number is pending, not whose: it is taken for that of each timer of that
//! number that has expired since the glance; if there is none, of each that is over.

use crate::state::{Interval, Notice, Posix, Time, Timers};
use crate::{clock, kernel, listing};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{proc_files, sys};

const LISTING: &str = "/proc/thread-self/../../timers";
/// Ids that are tried where the kernel has no list: they count from 0 in each process.
const TRIED: i32 = 1024;

/// Id and time of the next expiration on the timer's own clock.
static GLANCE: Round<Vec<(i32, u64)>> = Round::new(Vec::new());

/// The hook for PRESUSPEND.
pub fn glance(_: Core) {
    let entries = proc_files::read_file(LISTING).ok().and_then(|text| listing::parse(&text)).unwrap_or_default();
    let seen = entries.iter().filter_map(|entry| {
        let time = kernel::left(entry.id).ok().filter(|time| time.remaining != 0)?;
        Some((entry.id, sys::clock(entry.clock).saturating_add(time.remaining)))
    });
    let seen: Vec<_> = seen.collect();
    GLANCE.with(|kept| *kept = seen);
}

/// All timers of the process.
pub fn look(core: Core) -> Timers {
    let mut timers = Timers { posix: posix(core), ..Timers::default() };
    let interval = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF]
        .map(|which| Interval { which, time: kernel::interval(which).unwrap_or_default() });
    // Read after the times: what is pending by now has expired before, or still runs in what was read.
    let shared = pending_of(None);
    timers.expired = expired(&timers.posix, &GLANCE.take(), shared);
    for Interval { which, mut time } in interval {
        // Over, and not delivered: a periodic ITIMER_REAL is set going again by its delivery.
        if time.remaining == 0 && shared & bit(kernel::signal_of(which)) != 0 {
            time.remaining = kernel::MICROSECOND;
        }
        if time.remaining != 0 {
            timers.interval.push(Interval { which, time });
        }
    }
    timers
}

/// Timers whose signal is in the kernel's queues.
fn expired(timers: &[Posix], glanced: &[(i32, u64)], shared: u64) -> Vec<i32> {
    let pending: Vec<&Posix> = timers.iter().filter(|timer| is_pending(&timer.notice, shared)).collect();
    let since_glance = |timer: &Posix| {
        let deadline = glanced.iter().find(|(id, _)| *id == timer.id).map(|(_, deadline)| *deadline);
        // One that has only one expiration, and runs, was set anew after that had been delivered.
        let is_over = timer.time.remaining == 0 || timer.time.interval != 0;
        is_over && deadline.is_some_and(|deadline| deadline <= sys::clock(timer.clock))
    };
    let (sure, other): (Vec<&Posix>, Vec<&Posix>) = pending.into_iter().partition(|timer| since_glance(timer));
    // One that was set after the glance, and is over: nothing else explains the signal.
    let set_since = other.into_iter().filter(|timer| {
        let same = |one: &&Posix| (one.notice.signal, one.notice.thread) == (timer.notice.signal, timer.notice.thread);
        timer.time == Time::default() && !sure.iter().any(same)
    });
    let set_since: Vec<&Posix> = set_since.collect();
    sure.iter().chain(&set_since).map(|timer| timer.id).collect()
}

fn posix(core: Core) -> Vec<Posix> {
    let text = match proc_files::read_file(LISTING) {
        Ok(text) => text,
        Err(libc::ENOENT) => {
            if (0..TRIED).any(|id| kernel::left(id).is_ok()) {
                core.unsupported("POSIX timers: this kernel does not list them (no CONFIG_CHECKPOINT_RESTORE)");
            }
            return Vec::new();
        }
        Err(error) => {
            core.fail(&format!("the POSIX timers of the process cannot be read from /proc: error {error}"));
            return Vec::new();
        }
    };
    let Some(entries) = listing::parse(&text) else {
        core.fail("the POSIX timers of the process cannot be told: /proc/PID/timers is in an unknown format");
        return Vec::new();
    };
    let threads = core.threads();
    let entries = entries.into_iter().filter_map(|entry| {
        let time = kernel::left(entry.id).ok()?;
        Some(settle(core, &threads, Posix { id: entry.id, clock: entry.clock, notice: entry.notice, time }))
    });
    entries.collect()
}

/// Replaces what cannot be made once more by what does the same.
fn settle(core: Core, threads: &[i32], mut timer: Posix) -> Posix {
    // The signals of a thread that has ended reach nobody.
    if timer.notice.thread.is_some_and(|tid| !threads.contains(&tid)) {
        timer.notice = Notice { kind: libc::SIGEV_NONE, thread: None, ..timer.notice };
    }
    if timer.clock == clock::SOME_THREAD {
        if threads.len() > 1 {
            core.unsupported(&format!(
                "POSIX timer {}: the kernel does not tell which thread's processor time it counts",
                timer.id
            ));
        }
        timer.clock = clock::of_thread(core.application_task());
    }
    // Nor does the processor time of a thread that has ended go on. That of a living one is never 0.
    if timer.clock < 0 && sys::clock(timer.clock) == 0 {
        timer = Posix { clock: libc::CLOCK_MONOTONIC, time: Time::default(), ..timer };
    }
    timer
}

/// Whether a signal of this kind is in the kernel's queues; `shared`: what is pending for the process.
fn is_pending(notice: &Notice, shared: u64) -> bool {
    let pending = || notice.thread.map_or(shared, |tid| pending_of(Some(tid)));
    notice.kind != libc::SIGEV_NONE && pending() & bit(notice.signal) != 0
}

fn bit(signal: i32) -> u64 {
    1u64.checked_shl((signal - 1) as u32).unwrap_or(0)
}

/// Signals that are pending for a thread, or for the process.
fn pending_of(thread: Option<i32>) -> u64 {
    let (path, name) = match thread {
        Some(tid) => (proc_files::task_path(tid, "status"), "SigPnd:\t"),
        None => ("/proc/thread-self/status".into(), "ShdPnd:\t"),
    };
    let Ok(text) = proc_files::read_file(&path) else { return 0 };
    let text = String::from_utf8_lossy(&text);
    let field = text.lines().find_map(|line| line.strip_prefix(name));
    field.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}
