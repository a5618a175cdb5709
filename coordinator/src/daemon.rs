//! Going to the background, and holding nothing that belongs to whoever started us.
//!
//! A daemon that keeps a pipe of its parent open makes `dmtcp_launch prog | cat` wait for ever: every descriptor but
//! the listening one is closed.

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Takes over a descriptor that the command line names.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    nix::fcntl::fcntl(
        // SAFETY: only asks whether the number is open; nothing takes ownership of it here.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(number) },
        nix::fcntl::FcntlArg::F_GETFD,
    )?;
    // SAFETY: the number is open, and whoever started us handed it over for this alone; nothing else here uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Continues in a child that belongs to no terminal; the calling process ends with 0. What is printed goes to the log
/// file, or nowhere.
pub fn detach(listener: &impl AsRawFd, log_file: Option<&Path>) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let log = match log_file {
        Some(path) => OpenOptions::new().append(true).create(true).open(path)?,
        None => null.try_clone()?,
    };
    // SAFETY: no other thread exists yet, so the child may go on like the parent.
    match unsafe { fork() }? {
        // Not through exit handlers: the child goes on with what they would clean up.
        // SAFETY: _exit is always sound.
        ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
        ForkResult::Child => {}
    }
    setsid()?;
    // SAFETY: ignoring a signal runs no code.
    unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) }?;
    let place = |null: &File, log: &File| -> Result<(), Errno> {
        dup2_stdin(null)?;
        dup2_stdout(log)?;
        dup2_stderr(log)
    };
    place(&null, &log)?;
    drop((null, log));
    close_others(listener.as_raw_fd());
    Ok(())
}

/// Closes every descriptor from 3 on except one.
fn close_others(kept: RawFd) {
    for (first, last) in [(3, kept - 1), (kept + 1, RawFd::MAX)] {
        if first <= last {
            // SAFETY: nothing in this process owns a descriptor in these ranges yet: it has just begun.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}
