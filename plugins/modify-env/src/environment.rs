//! The program's environment, edited while all its threads are stopped.
//!
//! libc's setenv takes a lock that a stopped thread may hold, so it is not called. Instead a new array is built in memory
//! of our own and `environ` made to point to it, which POSIX allows a program to do; libc notices and copies the array
//! before it changes it. Neither old nor new arrays are ever freed: a thread may be reading them.

use crate::file::Change;
use std::ffi::{CStr, c_char};

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// The entries now.
fn entries() -> Vec<*mut c_char> {
    let mut out = Vec::new();
    // SAFETY: libc keeps `environ` null or a null-terminated array; no thread of the program is running.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            out.push(*entry);
            entry = entry.add(1);
        }
    }
    out
}

/// An entry's value, if it is of this variable.
fn value<'a>(entry: *const c_char, name: &[u8]) -> Option<&'a [u8]> {
    // SAFETY: entries are zero-terminated texts that nobody frees while the program is stopped.
    unsafe { CStr::from_ptr(entry) }.to_bytes().strip_prefix(name)?.strip_prefix(b"=")
}

/// A variable's value.
pub fn variable(name: &[u8]) -> Option<Vec<u8>> {
    entries().into_iter().find_map(|entry| value(entry, name)).map(<[u8]>::to_vec)
}

/// Makes the changes, one after the other.
pub fn change(changes: &[Change]) {
    let mut entries = entries();
    for change in changes {
        let place = entries.iter().position(|entry| value(*entry, &change.name).is_some());
        let Some(new) = &change.value else {
            entries.retain(|entry| value(*entry, &change.name).is_none());
            continue;
        };
        let text = [&change.name[..], b"=", new, b"\0"].concat();
        let text: *mut c_char = Box::leak(text.into_boxed_slice()).as_mut_ptr().cast();
        match place {
            Some(place) => entries[place] = text,
            None => entries.push(text),
        }
    }
    entries.push(std::ptr::null_mut());
    // SAFETY: the new array is null-terminated and stays for ever; no thread of the program is running.
    unsafe { environ = Box::leak(entries.into_boxed_slice()).as_mut_ptr() };
}
