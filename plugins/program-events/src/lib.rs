//! Plugin `program-events`: tells the other plugins what the program does with descriptors, threads and programs.
//!
//! | module | events |
//! |---|---|
//! | [`descriptors`] | OPEN_FD, REOPEN_FD, CLOSE_FD, DUP_FD |
//! | [`threads`] | PTHREAD_START, PTHREAD_RETURN, PTHREAD_EXIT |
//! | [`programs`] | PRE_EXEC (POST_EXEC is the core's) |
//! | [`resuming`] | THREAD_RESUME |
//! | [`vforks`] | VFORK_PREPARE (the others are the core's, as those of fork) |
//!
//! It is loaded only beside a plugin that the user has given, and looks at nothing while no plugin asks for an event. It is
//! outside of all other plugins: paths are the program's.
//!
//! What can go wrong: a call that gets by, since nothing but libc's functions is wrapped: raw system calls, and what libc
//! does inside itself (`system`, `popen`, `tmpfile`, `opendir`). Events tell; what a plugin saves it finds
//! by looking at the process.

mod descriptors;
mod programs;
mod resuming;
mod threads;
mod vforks;

use dmtcp_plugin_api::abi::Event;
use dmtcp_plugin_api::{hook, plugin};
use std::sync::atomic::Ordering;

plugin! {
    name: "program-events",
    priority: -900,
    requires: [],
    wrappers: [
        descriptors::WRAPPERS, programs::WRAPPERS, resuming::WRAPPERS, threads::WRAPPERS, vforks::WRAPPERS,
    ],
    init: |_| true,
}

hook!(AtforkChild, |_| {
    resuming::after_fork();
    vforks::after_fork();
});
hook!(Restart, resuming::after_restart);

/// Whether any plugin asks for an event, here and now. It comes after the thread's THREAD_RESUME.
#[inline]
fn wanted(event: Event) -> bool {
    if resuming::OWED.load(Ordering::Relaxed) != 0 {
        resuming::tell_own();
    }
    dmtcp_plugin_api::core::core().is_some_and(|core| core.wanted(event))
}

/// Tells all plugins of an event.
fn tell<T>(event: Event, payload: &mut T) {
    if let Some(core) = dmtcp_plugin_api::core::core() {
        core.happened(event, std::ptr::from_mut(payload).cast());
    }
}

/// Tells of an event that comes with nothing.
fn tell_of(event: Event) {
    if let Some(core) = dmtcp_plugin_api::core::core() {
        core.happened(event, std::ptr::null_mut());
    }
}
