//! Descriptors that come and go. `open` and its kin take a mode only sometimes, and `fcntl` an argument; they are passed on
//! in any case, which on this architecture is one register more that nobody reads.

use crate::{tell, wanted};
use dmtcp_plugin_api::abi::{CloseFd, DupFd, Event, OpenFd, ReopenFd};
use libc::{FILE, c_char, c_int, c_long, mode_t};

unsafe extern "C" {
    fn fileno(stream: *mut FILE) -> c_int;
}

fn opened(fd: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    if fd >= 0 && wanted(Event::OpenFd) {
        tell(Event::OpenFd, &mut OpenFd { fd, path, flags, mode });
    }
    fd
}

/// Flags of open(2) for a mode of fopen(3).
fn flags_of(mode: *const c_char) -> c_int {
    // SAFETY: the program passes a zero-terminated mode, as fopen demands.
    let mode = unsafe { std::ffi::CStr::from_ptr(mode) }.to_bytes();
    let both = mode.contains(&b'+');
    let (one, more) = match mode.first() {
        Some(b'w') => (libc::O_WRONLY, libc::O_CREAT | libc::O_TRUNC),
        Some(b'a') => (libc::O_WRONLY, libc::O_CREAT | libc::O_APPEND),
        _ => (libc::O_RDONLY, 0),
    };
    (if both { libc::O_RDWR } else { one }) | more
}

fn stream_opened(stream: *mut FILE, path: *const c_char, mode: *const c_char) -> *mut FILE {
    if !stream.is_null() && wanted(Event::OpenFd) {
        // SAFETY: the stream has just been opened.
        opened(unsafe { fileno(stream) }, path, flags_of(mode), 0o666);
    }
    stream
}

fn stream_reopened(stream: *mut FILE, path: *const c_char, mode: *const c_char) -> *mut FILE {
    if !stream.is_null() && wanted(Event::ReopenFd) {
        // SAFETY: the stream has just been opened.
        let fd = unsafe { fileno(stream) };
        tell(Event::ReopenFd, &mut ReopenFd { fd, path, flags: flags_of(mode) });
    }
    stream
}

fn duplicated(old_fd: c_int, new_fd: c_int) -> c_int {
    if new_fd >= 0 && wanted(Event::DupFd) {
        tell(Event::DupFd, &mut DupFd { old_fd, new_fd });
    }
    new_fd
}

fn closed(fd: c_int) {
    if fd >= 0 && wanted(Event::CloseFd) {
        tell(Event::CloseFd, &mut CloseFd { fd });
    }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// OPEN_FD.
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(next(path, flags, mode), path, flags, mode) }
    /// OPEN_FD.
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(next(path, flags, mode), path, flags, mode) }
    /// OPEN_FD.
    fn __open_2(path: *const c_char, flags: c_int) -> c_int { opened(next(path, flags), path, flags, 0) }
    /// OPEN_FD.
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int { opened(next(path, flags), path, flags, 0) }
    /// OPEN_FD; the path may be relative to a directory.
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(next(at, path, flags, mode), path, flags, mode) }
    /// As openat.
    fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(next(at, path, flags, mode), path, flags, mode) }
    /// As openat.
    fn __openat_2(at: c_int, path: *const c_char, flags: c_int) -> c_int { opened(next(at, path, flags), path, flags, 0) }
    /// As openat.
    fn __openat64_2(at: c_int, path: *const c_char, flags: c_int) -> c_int { opened(next(at, path, flags), path, flags, 0) }
    /// OPEN_FD.
    fn creat(path: *const c_char, mode: mode_t) -> c_int {
        opened(next(path, mode), path, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, mode)
    }
    /// OPEN_FD.
    fn creat64(path: *const c_char, mode: mode_t) -> c_int {
        opened(next(path, mode), path, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, mode)
    }
    /// OPEN_FD.
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE { stream_opened(next(path, mode), path, mode) }
    /// OPEN_FD.
    fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE { stream_opened(next(path, mode), path, mode) }
    /// REOPEN_FD.
    fn freopen(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
        stream_reopened(next(path, mode, stream), path, mode)
    }
    /// REOPEN_FD.
    fn freopen64(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
        stream_reopened(next(path, mode, stream), path, mode)
    }
    /// CLOSE_FD, while it is still open.
    fn close(fd: c_int) -> c_int {
        closed(fd);
        next(fd)
    }
    /// CLOSE_FD, while it is still open.
    fn fclose(stream: *mut FILE) -> c_int {
        if !stream.is_null() && wanted(Event::CloseFd) {
            // SAFETY: the program passes an open stream, as fclose demands.
            closed(unsafe { fileno(stream) });
        }
        next(stream)
    }
    /// DUP_FD.
    fn dup(old: c_int) -> c_int { duplicated(old, next(old)) }
    /// DUP_FD.
    fn dup2(old: c_int, new: c_int) -> c_int { duplicated(old, next(old, new)) }
    /// DUP_FD.
    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int { duplicated(old, next(old, new, flags)) }
    /// DUP_FD, if it duplicates.
    fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
        let result = next(fd, command, argument);
        if matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) { duplicated(fd, result) } else { result }
    }
    /// As fcntl.
    fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int {
        let result = next(fd, command, argument);
        if matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) { duplicated(fd, result) } else { result }
    }
}
