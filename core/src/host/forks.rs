//! ATFORK_PREPARE, ATFORK_PARENT, ATFORK_FAILED: libc calls us before and after a fork, whoever asked for it.
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
}

/// Runs before a fork.
pub extern "C" fn before() {
    let asked = [Event::AtforkPrepare, Event::AtforkParent, Event::AtforkFailed];
    if !asked.into_iter().any(|event| happened::wanted(event as u32)) {
        return;
    }
    happened::happened(Event::AtforkPrepare as u32, std::ptr::null_mut());
    BEFORE.set(errno());
    set_errno(0);
}

/// Runs in the parent after it, first of all.
pub fn in_parent() {
    let before = BEFORE.replace(UNTOLD);
    if before == UNTOLD {
        return;
    }
    let event = if errno() == 0 { Event::AtforkParent } else { Event::AtforkFailed };
    if event == Event::AtforkParent {
        set_errno(before);
    }
    happened::happened(event as u32, std::ptr::null_mut());
}

/// Runs in the child after it, first of all.
pub fn in_child() {
    let before = BEFORE.replace(UNTOLD);
    if before != UNTOLD {
        set_errno(before);
    }
}
