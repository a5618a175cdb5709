//! ATFORK_PREPARE, ATFORK_PARENT, ATFORK_FAILED: libc calls us before and after a fork, whoever asked for it. A vfork that
//! plugins ask about is a fork as well (`program-events`), which VFORK_PREPARE announces: its events are those of vfork.
//!
//! What libc does not say is whether there is a child. A fork that fails sets `errno` and one that succeeds leaves it
//! alone, so it is 0 over the fork, and what it was afterwards.
//!
//! What can go wrong: a fork handler that was registered before ours and sets `errno` makes a fork look like one that
//! failed. Those of the libraries that are initialised before us are few, and lock.

use super::happened::{self, errno, set_errno};
use dmtcp_plugin_api::abi::Event;
use std::cell::Cell;
use std::ffi::c_int;

/// Nobody asks about the fork.
const UNTOLD: c_int = -1;

thread_local! {
    /// The calling thread's `errno` before the fork that it is in, or [`UNTOLD`].
    static BEFORE: Cell<c_int> = const { Cell::new(UNTOLD) };
    /// Whether the next fork of the calling thread stands for a vfork.
    static IS_ANNOUNCED: Cell<bool> = const { Cell::new(false) };
    /// Whether the last one did.
    static IS_VFORK: Cell<bool> = const { Cell::new(false) };
}

/// VFORK_PREPARE has been told: the next fork of the calling thread stands for a vfork.
pub fn announce_vfork() {
    IS_ANNOUNCED.set(true);
}

/// Whether the fork that the calling thread is in, or has come out of as its child, stands for a vfork.
pub fn is_vfork() -> bool {
    IS_VFORK.get()
}

fn of_this_fork(fork: Event, vfork: Event) -> Event {
    if is_vfork() { vfork } else { fork }
}

/// Runs before a fork.
pub extern "C" fn before() {
    IS_VFORK.set(IS_ANNOUNCED.replace(false));
    let asked = [Event::AtforkPrepare, Event::AtforkParent, Event::AtforkFailed];
    if !is_vfork() && !asked.into_iter().any(|event| happened::wanted(event as u32)) {
        return;
    }
    if !is_vfork() {
        happened::happened(Event::AtforkPrepare as u32, std::ptr::null_mut());
    }
    BEFORE.set(errno());
    set_errno(0);
}

/// Runs in the parent after it, first of all.
pub fn in_parent() {
    let before = BEFORE.replace(UNTOLD);
    if before == UNTOLD {
        return;
    }
    let event = if errno() == 0 {
        set_errno(before);
        of_this_fork(Event::AtforkParent, Event::VforkParent)
    } else {
        of_this_fork(Event::AtforkFailed, Event::VforkFailed)
    };
    happened::happened(event as u32, std::ptr::null_mut());
}

/// Runs in the child after it, first of all.
pub fn in_child() {
    let before = BEFORE.replace(UNTOLD);
    if before != UNTOLD {
        set_errno(before);
    }
}

/// In the child: what plugins in C are told of it.
pub fn of_child() -> Event {
    of_this_fork(Event::AtforkChild, Event::VforkChild)
}
