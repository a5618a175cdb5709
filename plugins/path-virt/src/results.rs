//! Functions that give paths: the program gets its own name of what the file system says.

use crate::mapping::{self, LONGEST, real};
use crate::told;
use dmtcp_plugin_api::abi::Event;
use libc::{c_char, c_int, c_void, size_t, ssize_t};
use std::ffi::CStr;

unsafe extern "C" {
    fn realloc(block: *mut c_void, size: size_t) -> *mut c_void;
}

/// Whether the program may see other names than the file system's.
fn differs() -> bool {
    mapping::current().is_some() || told::wanted(Event::RealToVirtualPath)
}

/// What the program calls a path that the file system has named.
fn own_name<'a>(found: &'a [u8], buffer: &'a mut [u8; LONGEST]) -> &'a [u8] {
    match mapping::own(found, buffer) {
        Some(length) => &buffer[..length],
        None => found,
    }
}

/// Reads a link whole, and gives the program as much of its own name of it as there is room for, as readlink(2) does.
fn link(text: *mut c_char, room: size_t, read: impl FnOnce(*mut c_char, size_t) -> ssize_t) -> ssize_t {
    if text.is_null() || room == 0 || !differs() {
        return read(text, room);
    }
    let (mut found, mut buffer) = ([0u8; LONGEST], [0u8; LONGEST]);
    let length = read(found.as_mut_ptr().cast(), LONGEST);
    let Some(found) = usize::try_from(length).ok().and_then(|length| found.get(..length)) else { return length };
    let own = own_name(found, &mut buffer);
    let length = own.len().min(room);
    // SAFETY: the program's buffer has `room` bytes.
    unsafe { std::ptr::copy_nonoverlapping(own.as_ptr(), text.cast(), length) };
    length as ssize_t
}

/// Has a path written whole, and gives the program its own name of it; null and ERANGE if there is no room for that.
fn directory(into: *mut c_char, room: size_t, write: impl FnOnce(*mut c_char, size_t) -> *mut c_char) -> *mut c_char {
    if into.is_null() || room == 0 || !differs() {
        let given = write(into, room);
        return if into.is_null() { own_block(given) } else { given };
    }
    let (mut found, mut buffer) = ([0u8; LONGEST], [0u8; LONGEST]);
    if write(found.as_mut_ptr().cast(), LONGEST).is_null() {
        return std::ptr::null_mut();
    }
    let length = found.iter().position(|byte| *byte == 0).unwrap_or(LONGEST);
    let own = own_name(&found[..length], &mut buffer);
    if own.len() >= room {
        // SAFETY: the calling thread's errno.
        unsafe { *libc::__errno_location() = libc::ERANGE };
        return std::ptr::null_mut();
    }
    // SAFETY: the path with its zero fits.
    unsafe {
        std::ptr::copy_nonoverlapping(own.as_ptr(), into.cast(), own.len());
        into.add(own.len()).write(0);
    }
    into
}

/// Replaces a path, in a buffer that has room for any, by the program's name.
fn own_path(path: *mut c_char) -> *mut c_char {
    if path.is_null() || !differs() {
        return path;
    }
    let mut buffer = [0u8; LONGEST];
    // SAFETY: the function has written a zero-terminated path there.
    let Some(own) = mapping::own(unsafe { CStr::from_ptr(path) }.to_bytes(), &mut buffer) else { return path };
    // SAFETY: it is shorter than the buffers, and a zero is behind it.
    unsafe { std::ptr::copy_nonoverlapping(buffer.as_ptr(), path.cast(), own + 1) };
    path
}

/// Replaces a path in a block of libc's malloc, which the program will free, by the program's name.
fn own_block(path: *mut c_char) -> *mut c_char {
    if path.is_null() || !differs() {
        return path;
    }
    // SAFETY: the block is the function's result; whichever malloc made it, its realloc is the one that the program
    // sees, and the program runs: this is no hook.
    let larger = unsafe { realloc(path.cast(), LONGEST) }.cast::<c_char>();
    if larger.is_null() { path } else { own_path(larger) }
}

/// The program has given a buffer for any path, or the result is a block.
fn own(path: *mut c_char, given: *mut c_char) -> *mut c_char {
    if given.is_null() { own_block(path) } else { own_path(path) }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The program's name.
    fn readlink(path: *const c_char, text: *mut c_char, room: size_t) -> ssize_t {
        real(path, |path| link(text, room, |text, room| next(path, text, room)))
    }
    /// The program's name.
    fn readlinkat(at: c_int, path: *const c_char, text: *mut c_char, room: size_t) -> ssize_t {
        real(path, |path| link(text, room, |text, room| next(at, path, text, room)))
    }
    /// The program's name.
    fn __readlink_chk(path: *const c_char, text: *mut c_char, room: size_t, size: size_t) -> ssize_t {
        if room > size { return next(path, text, room, size); }
        real(path, |path| link(text, room, |text, room| next(path, text, room, room)))
    }
    /// The program's name.
    fn realpath(path: *const c_char, resolved: *mut c_char) -> *mut c_char {
        own(real(path, |path| next(path, resolved)), resolved)
    }
    /// The program's name.
    fn __realpath_chk(path: *const c_char, resolved: *mut c_char, size: size_t) -> *mut c_char {
        own(real(path, |path| next(path, resolved, size)), resolved)
    }
    /// The program's name.
    fn canonicalize_file_name(path: *const c_char) -> *mut c_char {
        own_block(real(path, next))
    }
    /// The program's name.
    fn getcwd(buffer: *mut c_char, room: size_t) -> *mut c_char {
        directory(buffer, room, next)
    }
    /// The program's name.
    fn __getcwd_chk(buffer: *mut c_char, room: size_t, size: size_t) -> *mut c_char {
        if room > size { return next(buffer, room, size); }
        directory(buffer, room, |buffer, room| next(buffer, room, room))
    }
}
