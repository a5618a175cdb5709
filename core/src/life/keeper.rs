//! The end of a process whose first thread has ended before the others.
//!
//! libc ends a process when the last thread that it has counted leaves, as if that thread called exit(0). It counts ours,
//! too, so the program's last one would leave without ending anything. It comes to that only if the first thread ends by
//! itself: where main returns, all end. A first thread that calls pthread_exit(3), or is cancelled, therefore gets a
//! *keeper*: one more thread that shares the program's descriptors, waits until no other thread of the program is left,
//! and calls exit(3). To a checkpoint it is a thread of the program: it is stopped, written and brought back.
//!
//! ```text
//!   first thread   pthread_exit -- keeper is made -- ended (a zombie as long as others are there)
//!   others         ........................................ ended
//!   keeper                         looks, looks, looks, ........... exit(0)
//! ```
//! What can go wrong: there may be no room for one more thread. Then the process stays when its last thread has left.

use crate::interface::hooks;
use crate::threads::slot::{self, Role};
use crate::threads::{spawn, stop};
use crate::{log, signal};
use dmtcp_plugin_api::core::Level;
use dmtcp_plugin_api::sys;
use libc::{c_int, c_void, pthread_t};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Whether the process has a keeper.
static KEPT: AtomicBool = AtomicBool::new(false);
/// libc's name of the first thread.
static FIRST: AtomicU64 = AtomicU64::new(0);

/// The keeper's stack: handlers for the end of the program run on it.
const STACK: usize = 1 << 20;
/// How often the keeper looks who is left, in nanoseconds.
const LOOK_AGAIN: u64 = 20_000_000;

unsafe extern "C" {
    fn exit(status: c_int) -> !;
    fn pthread_self() -> pthread_t;
}

/// The calling thread is the first one, of a program that has just been started or of a fork's child.
pub fn begin() {
    KEPT.store(false, Ordering::Release);
    // SAFETY: it takes nothing and changes nothing.
    FIRST.store(unsafe { pthread_self() }, Ordering::Release);
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The first thread leaves a keeper behind.
    fn pthread_exit(value: *mut c_void) -> () {
        if sys::tid() == sys::pid() {
            leave_keeper();
        }
        next(value);
    }
    /// As pthread_exit, if it is the first thread that is to end.
    fn pthread_cancel(thread: pthread_t) -> c_int {
        if thread == FIRST.load(Ordering::Acquire) {
            leave_keeper();
        }
        next(thread)
    }
}

fn leave_keeper() {
    if !super::is_member() || KEPT.swap(true, Ordering::AcqRel) {
        return;
    }
    let mask = super::CHECKPOINT_THREAD_MASK & !signal::bit();
    if let Err(error) = spawn::spawn(spawn::Maker::Anybody, keep, 0, STACK, mask) {
        let said = format!("no thread can be made that ends the process after its last one (errno {error})");
        log::line(Level::Warning, "core", &said);
    }
}

extern "C" fn keep(_: *mut c_void) -> *mut c_void {
    while !is_last() {
        sys::nap(LOOK_AGAIN);
    }
    // SAFETY: the program has no thread any more that could be disturbed; this one has its descriptors.
    unsafe { exit(0) }
}

/// Whether no thread of the program is left but the calling one. A restart that gives all of them other ids may come in the
/// middle: then those that were listed are nobody's.
pub fn is_last() -> bool {
    let is_ours = |tid| {
        tid == sys::tid()
            || hooks::is_thread(tid)
            || slot::all().any(|s| s.tid() == tid && s.role() == Role::Checkpoint)
    };
    let tasks = stop::tasks();
    !tasks.is_empty() && tasks.into_iter().all(|tid| is_ours(tid) || !stop::is_alive(tid))
}
