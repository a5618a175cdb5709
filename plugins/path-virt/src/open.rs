//! Functions that open files. `open` and its kin take a mode only sometimes; it is passed on in any case, which on this
//! architecture is one register more that nobody reads.

use crate::mapping::{LONGEST, real};
use libc::{DIR, FILE, c_char, c_int, mode_t};
use std::ffi::CStr;

/// Calls a function that changes a template in place, with the file system's name.
fn template<R>(template: *mut c_char, function: impl FnOnce(*mut c_char) -> R) -> R {
    if template.is_null() {
        return function(template);
    }
    real(template, |name| {
        if name == template.cast_const() {
            return function(template);
        }
        // SAFETY: the program passes a zero-terminated template, as the wrapped function demands, and a name is
        // zero-terminated; neither changes while the slices are used.
        let (theirs, ours) = unsafe { (CStr::from_ptr(template).to_bytes(), CStr::from_ptr(name).to_bytes()) };
        // What both have in common is their end, and the function changes nothing else.
        let common = theirs.iter().rev().zip(ours.iter().rev()).take_while(|(a, b)| a == b).count();
        let (length, real) = (theirs.len(), ours.len());
        let mut buffer = [0u8; LONGEST];
        buffer[..real].copy_from_slice(ours);
        let result = function(buffer.as_mut_ptr().cast());
        // SAFETY: the last `common` bytes of the template, which the program lets the function change.
        unsafe {
            let end = template.cast::<u8>().add(length - common);
            std::ptr::copy_nonoverlapping(buffer[real - common..].as_ptr(), end, common);
        }
        result
    })
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// Opens by the real name.
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { real(path, |path| next(path, flags, mode)) }
    /// Opens by the real name.
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { real(path, |path| next(path, flags, mode)) }
    /// Opens by the real name.
    fn __open_2(path: *const c_char, flags: c_int) -> c_int { real(path, |path| next(path, flags)) }
    /// Opens by the real name.
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int { real(path, |path| next(path, flags)) }
    /// Opens by the real name.
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        real(path, |path| next(at, path, flags, mode))
    }
    /// Opens by the real name.
    fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        real(path, |path| next(at, path, flags, mode))
    }
    /// Opens by the real name.
    fn __openat_2(at: c_int, path: *const c_char, flags: c_int) -> c_int { real(path, |path| next(at, path, flags)) }
    /// Opens by the real name.
    fn __openat64_2(at: c_int, path: *const c_char, flags: c_int) -> c_int { real(path, |path| next(at, path, flags)) }
    /// Opens by the real name.
    fn creat(path: *const c_char, mode: mode_t) -> c_int { real(path, |path| next(path, mode)) }
    /// Opens by the real name.
    fn creat64(path: *const c_char, mode: mode_t) -> c_int { real(path, |path| next(path, mode)) }
    /// Opens by the real name.
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE { real(path, |path| next(path, mode)) }
    /// Opens by the real name.
    fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE { real(path, |path| next(path, mode)) }
    /// Opens by the real name.
    fn freopen(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
        real(path, |path| next(path, mode, stream))
    }
    /// Opens by the real name.
    fn freopen64(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
        real(path, |path| next(path, mode, stream))
    }
    /// Opens by the real name.
    fn opendir(path: *const c_char) -> *mut DIR { real(path, next) }
    /// Creates by the real name; the program's template gets its own.
    fn mkstemp(name: *mut c_char) -> c_int { template(name, next) }
    /// As mkstemp.
    fn mkstemp64(name: *mut c_char) -> c_int { template(name, next) }
    /// As mkstemp.
    fn mkostemp(name: *mut c_char, flags: c_int) -> c_int { template(name, |name| next(name, flags)) }
    /// As mkstemp.
    fn mkostemp64(name: *mut c_char, flags: c_int) -> c_int { template(name, |name| next(name, flags)) }
    /// As mkstemp.
    fn mkstemps(name: *mut c_char, suffix: c_int) -> c_int { template(name, |name| next(name, suffix)) }
    /// As mkstemp.
    fn mkstemps64(name: *mut c_char, suffix: c_int) -> c_int { template(name, |name| next(name, suffix)) }
    /// As mkstemp; it gives the template back.
    fn mkdtemp(name: *mut c_char) -> *mut c_char {
        let made = template(name, next);
        if made.is_null() { made } else { name }
    }
}
