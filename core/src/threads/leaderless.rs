//! Signals that are pending for a process whose first thread has ended.
//!
//! Usually the first thread takes them out of the kernel's queue and puts them back (`pending`): it is the only one that
//! the kernel lets forge those that it made itself (kill(2), the end of a child, a timer). Where it has ended, they are
//! looked at by a tracer and stay in the queue; after a restart the task that stands in for the first thread, and ends
//! at once, queues them before it does.

use super::pending::{self, Info};
use super::{first_alive, stop, tracer};
use dmtcp_plugin_api::sys;
use std::cell::UnsafeCell;

struct Shared(UnsafeCell<Vec<Info>>);
// SAFETY: written by the checkpoint thread while all others are parked; read in restored memory before any other task runs.
unsafe impl Sync for Shared {}

static PENDING: Shared = Shared(UnsafeCell::new(Vec::new()));

/// Looks at what is pending, if nobody is there to take it; but never at `ours`. The error is a sentence.
pub fn look(ours: u64) -> Result<(), String> {
    // SAFETY: the caller is the checkpoint thread, and all others are parked.
    let kept = unsafe { &mut *PENDING.0.get() };
    kept.clear();
    if stop::is_alive(sys::pid()) || pending::of_process() & !ours == 0 {
        return Ok(());
    }
    let found = tracer::peek_shared(first_alive()).ok_or(
        "signals are pending for the process, its first thread has ended, and the others may not be traced (ptrace)",
    )?;
    kept.extend(found.into_iter().filter(|info| pending::bit_of(info) & ours == 0));
    Ok(())
}

/// Queues them again. For the task that stands in for the first thread, with all signals blocked.
pub fn put_back() {
    // SAFETY: no other task runs yet.
    for info in unsafe { &*PENDING.0.get() } {
        pending::queue_for_process(info);
    }
}
