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

/// Replaces the text of a link, which has no zero, by the program's name. What does not fit is cut off, as in readlink(2).
fn own_link(text: *mut c_char, length: ssize_t, room: size_t) -> ssize_t {
    if length <= 0 || !differs() {
        return length;
    }
    let mut buffer = [0u8; LONGEST];
    // SAFETY: the function has written `length` bytes there.
    let found = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length as usize) };
    let Some(own) = mapping::own(found, &mut buffer) else { return length };
    let own = own.min(room);
    // SAFETY: the program's buffer has `room` bytes.
    unsafe { std::ptr::copy_nonoverlapping(buffer.as_ptr(), text.cast(), own) };
    own as ssize_t
}

/// Replaces a path in a buffer of so many bytes by the program's name; null and ERANGE if that does not fit.
fn own_path(path: *mut c_char, room: size_t) -> *mut c_char {
    if path.is_null() || !differs() {
        return path;
    }
    let mut buffer = [0u8; LONGEST];
    // SAFETY: the function has written a zero-terminated path there.
    let Some(own) = mapping::own(unsafe { CStr::from_ptr(path) }.to_bytes(), &mut buffer) else { return path };
    if own >= room {
        // SAFETY: the calling thread's errno.
        unsafe { *libc::__errno_location() = libc::ERANGE };
        return std::ptr::null_mut();
    }
    // SAFETY: the path with its zero fits.
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
    if larger.is_null() { path } else { own_path(larger, LONGEST) }
}

/// The program's buffer has this many bytes if it has any: else the result is a block.
fn own(path: *mut c_char, given: *mut c_char, room: size_t) -> *mut c_char {
    if given.is_null() { own_block(path) } else { own_path(path, room) }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The program's name.
    fn readlink(path: *const c_char, text: *mut c_char, room: size_t) -> ssize_t {
        own_link(text, real(path, |path| next(path, text, room)), room)
    }
    /// The program's name.
    fn readlinkat(at: c_int, path: *const c_char, text: *mut c_char, room: size_t) -> ssize_t {
        own_link(text, real(path, |path| next(at, path, text, room)), room)
    }
    /// The program's name.
    fn __readlink_chk(path: *const c_char, text: *mut c_char, room: size_t, size: size_t) -> ssize_t {
        own_link(text, real(path, |path| next(path, text, room, size)), room)
    }
    /// The program's name.
    fn realpath(path: *const c_char, resolved: *mut c_char) -> *mut c_char {
        own(real(path, |path| next(path, resolved)), resolved, LONGEST)
    }
    /// The program's name.
    fn __realpath_chk(path: *const c_char, resolved: *mut c_char, size: size_t) -> *mut c_char {
        own(real(path, |path| next(path, resolved, size)), resolved, LONGEST)
    }
    /// The program's name.
    fn canonicalize_file_name(path: *const c_char) -> *mut c_char {
        own_block(real(path, next))
    }
    /// The program's name.
    fn getcwd(buffer: *mut c_char, room: size_t) -> *mut c_char {
        own(next(buffer, room), buffer, room)
    }
    /// The program's name.
    fn __getcwd_chk(buffer: *mut c_char, room: size_t, size: size_t) -> *mut c_char {
        own(next(buffer, room, size), buffer, room)
    }
}
