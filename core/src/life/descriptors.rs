//! The two descriptor tables: the application's, and the checkpoint thread's own.
//!
//! With a table of its own the checkpoint thread shows in no /proc/self/fd, survives an application that closes
//! everything, and never drops the application's POSIX locks by a close.

use crate::{life, threads};
use dmtcp_plugin_api::{arena, sys};

/// PIDFD_THREAD (kernel 6.9): a pidfd of a thread that is not the first one.
const PIDFD_THREAD: usize = libc::O_EXCL as usize;

/// Gives the calling thread a table of its own, with nothing in it but this descriptor of the application's.
pub fn separate(kept: Option<u32>) -> Result<(), String> {
    // SAFETY: the thread stops sharing its descriptors; the copies that it gets are closed.
    unsafe { sys::call(libc::SYS_unshare as i32, [libc::CLONE_FILES as usize, 0, 0, 0, 0, 0]) }
        .map_err(|e| format!("the checkpoint thread cannot have descriptors of its own (unshare: errno {e})"))?;
    let (below, above) = match kept {
        None => (None, Some(0)),
        Some(number) => (number.checked_sub(1), number.checked_add(1)),
    };
    below
        .map_or(Ok(()), |last| sys::close_range(0, last))
        .and_then(|()| above.map_or(Ok(()), |first| sys::close_range(first, u32::MAX)))
        .map_err(|e| format!("the checkpoint thread cannot close its copies of descriptors (errno {e})"))
}

/// A copy of an application's descriptor in the calling thread's table; negative errno on failure.
pub fn copy(number: i32) -> i32 {
    if !arena::on_checkpoint_stack() {
        return sys::fcntl(number, libc::F_DUPFD_CLOEXEC, 0).map_or_else(|e| -e, |copy| copy as i32);
    }
    if !life::is_member() {
        return -libc::ESRCH;
    }
    let task = threads::first_alive();
    let flags = if task == sys::pid() { 0 } else { PIDFD_THREAD };
    // SAFETY: no memory is passed.
    unsafe {
        let pidfd = match sys::call(libc::SYS_pidfd_open as i32, [task as usize, flags, 0, 0, 0, 0]) {
            Ok(pidfd) => sys::Fd::own(pidfd as i32),
            Err(e) => return -e,
        };
        match sys::call(libc::SYS_pidfd_getfd as i32, [pidfd.number() as usize, number as usize, 0, 0, 0, 0]) {
            Ok(copy) => copy as i32,
            Err(e) => -e,
        }
    }
}
