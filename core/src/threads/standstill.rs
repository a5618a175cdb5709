//! The process stands still again (SIGSTOP), after it was continued for a checkpoint or came back from an image of that time.
//!
//! Who is to continue it waits for the news of that (WCONTINUED), and there is none of a process that does not stand still:
//! so where others can be kept from going on, by a barrier, the process stands still before they are told that it has come
//! there. Its own threads cannot tell that any more; a helper does.
//!
//! ```text
//!   checkpoint thread --helper--> SIGSTOP to the process, looks until all of its threads stand still, tells
//!   stops like all others
//! ```
//! All: there is no news of a process of which one thread is still on its way.

use super::{first_alive, helper, status, stop as tasks};
use dmtcp_plugin_api::sys;

/// How long the process may take to stand still, in nanoseconds: somebody from outside may have continued it at once.
const LIMIT: u64 = 1_000_000_000;
const LOOK_AGAIN: u64 = 100_000;

fn stop(process: i32, tid: i32) {
    let args = [process as usize, tid as usize, libc::SIGSTOP as usize, 0, 0, 0];
    // SAFETY: no memory is passed.
    let _ = unsafe { sys::call(libc::SYS_tgkill as i32, args) };
}

/// Stops the process; returns when somebody continues it.
pub fn stand_still() {
    stop(sys::pid(), sys::tid());
}

/// Stops the process, and tells as soon as it stands still; returns when somebody continues it.
pub fn stand_still_and(mut tell: impl FnMut()) {
    let (process, thread) = (sys::pid(), first_alive());
    let threads: Vec<i32> = tasks::tasks().into_iter().filter(|tid| tasks::is_alive(*tid)).collect();
    let mut told = false;
    let mut errand = || {
        stop(process, thread);
        let start = sys::clock(libc::CLOCK_MONOTONIC);
        while !threads.iter().all(|tid| status::stands_still(*tid)) && sys::clock(libc::CLOCK_MONOTONIC) - start < LIMIT
        {
            sys::nap(LOOK_AGAIN);
        }
        tell();
        told = true;
    };
    helper::run(&mut errand);
    if !told {
        tell();
        stand_still();
    }
}
