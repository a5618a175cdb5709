//! Events that come from what the program does, on the thread that does it: plugins wrap, and tell the core.
//!
//! Nobody is told who does not ask: a plugin in Rust says for which events it has hooks, one in C gets all of them.
//! There are no events of our own threads, none inside a hook, and none in a process that is no member (the child of a vfork that nobody asks about).

use crate::interface::{self, hooks};
use crate::{config, life, log, threads};
use dmtcp_plugin_api::abi::{EXEC_STATE, Event, PostExec};
use dmtcp_plugin_api::{arena, sys};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

/// A bit for each event that somebody asks for, by its number.
static WANTED: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Whether the calling thread is inside a hook.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Somebody asks for these events.
pub fn want(events: u32) {
    WANTED.fetch_or(events, Ordering::AcqRel);
}

/// `CoreApi::asked`.
pub extern "C" fn asked(event: u32) -> bool {
    event < u32::BITS && WANTED.load(Ordering::Acquire) & 1 << event != 0
}

/// `CoreApi::wanted`.
pub extern "C" fn wanted(event: u32) -> bool {
    asked(event)
        && !INSIDE.get()
        && !threads::spawn::is_spawning()
        && !arena::on_checkpoint_stack()
        && !hooks::is_hook_thread()
        && life::is_member()
}

/// `CoreApi::happened`. The calling thread's `errno` stays as it is.
pub extern "C" fn happened(event: u32, data: *mut c_void) {
    let Some(event) = Event::ALL.into_iter().find(|e| *e as u32 == event) else { return };
    if event == Event::VforkPrepare {
        super::forks::announce_vfork();
    }
    if !wanted(event as u32) {
        return;
    }
    let before = errno();
    INSIDE.set(true);
    let outcome = super::in_order(event, data, || {
        interface::plugins::deliver(event, data);
        Ok(())
    });
    if let Err(reason) = outcome {
        log::tell(&reason);
    }
    INSIDE.set(false);
    set_errno(before);
}

/// The calling thread's `errno`.
pub fn errno() -> c_int {
    // SAFETY: libc's variable of this thread.
    unsafe { *__errno_location() }
}

/// Sets it.
pub fn set_errno(to: c_int) {
    // SAFETY: as for `errno`.
    unsafe { *__errno_location() = to };
}

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// In a program that was executed by one whose plugins were told: gives them their descriptor back. All have been through
/// INIT; the program has not begun.
pub fn after_exec() {
    let Some(state) = config::variable(EXEC_STATE) else { return };
    config::forget(EXEC_STATE);
    let mut numbers = state.split(':').map(|word| word.parse::<u64>().ok());
    let (Some(Some(fd)), Some(Some(inode))) = (numbers.next(), numbers.next()) else { return };
    // Another file under that number: the variable has been inherited from somebody else.
    if sys::fstat(fd as i32).is_ok_and(|status| status.st_ino == inode) {
        // SAFETY: no memory is passed.
        let _ = unsafe { sys::call(libc::SYS_lseek as i32, [fd as usize, 0, libc::SEEK_SET as usize, 0, 0, 0]) };
        let mut payload = PostExec { serialization_fd: fd as i32 };
        happened(Event::PostExec as u32, (&raw mut payload).cast());
        sys::close(fd as i32);
    }
}
