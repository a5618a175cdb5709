//! Saying what went wrong, in whatever process of a restart it went wrong.

use dmtcp_launcher::failure;
use std::fmt::Display;
use std::os::fd::{BorrowedFd, RawFd};

/// Writes a line to a descriptor; -1, or a closed one, loses it.
pub fn write(descriptor: RawFd, line: &str) {
    if descriptor >= 0 {
        // SAFETY: only borrowed for the call; a closed number gives EBADF.
        let _ = nix::unistd::write(unsafe { BorrowedFd::borrow_raw(descriptor) }, line.as_bytes());
    }
}

/// Ends a process that is not dmtcp_restart itself any more, but not the application yet.
pub fn die(descriptor: RawFd, error: impl Display) -> ! {
    write(descriptor, &format!("dmtcp_restart: {error}\n"));
    // SAFETY: ends the process without running what the program it was copied from has registered for its own end.
    unsafe { libc::_exit(failure::code()) }
}
