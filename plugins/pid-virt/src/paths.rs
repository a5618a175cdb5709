//! Names in /proc that hold an id: `/proc/ID/...` and `/proc/.../task/ID/...`.
//!
//! The program writes the virtual id; the file system has the real one. A name that holds the id of nobody stays, unless
//! that is really somebody else's: then nothing has that name. What the links /proc/self and /proc/thread-self say is
//! virtual; what is listed in /proc, and what stands in its files, is not translated.

use crate::table;
use dmtcp_plugin_api::ids::Table;
use libc::{DIR, FILE, c_char, c_int, c_uint, c_void, mode_t};
use std::ffi::CStr;
use std::io::Write;

const PROC: &[u8] = b"/proc/";
/// The name in /proc that nobody has.
const NOBODY: i32 = 0;
/// Longer names than this hold no id.
const LONGEST: usize = 256;

/// Calls with the file system's name.
#[inline(always)]
fn real<R>(path: *const c_char, function: impl FnOnce(*const c_char) -> R) -> R {
    match table::current() {
        Some(table) if !path.is_null() => translated(table, path, function),
        _ => function(path),
    }
}

#[inline(never)]
fn translated<R>(table: Table, path: *const c_char, function: impl FnOnce(*const c_char) -> R) -> R {
    // SAFETY: the program passes a zero-terminated path, as the wrapped functions demand.
    let name = unsafe { CStr::from_ptr(path) }.to_bytes();
    let mut buffer = [0u8; LONGEST];
    match name.strip_prefix(PROC).and_then(|rest| rewrite(table, rest, &mut buffer)) {
        Some(()) => function(buffer.as_ptr().cast()),
        None => function(path),
    }
}

fn number(component: &[u8]) -> Option<i32> {
    let digits = !component.is_empty() && component.iter().all(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(component).ok()?.parse().ok()).flatten()
}

/// The real name of what follows /proc, with its zero; `None`: nothing changes, or it is too long.
fn rewrite(table: Table, rest: &[u8], into: &mut [u8; LONGEST]) -> Option<()> {
    let mut out = &mut into[..LONGEST - 1];
    out.write_all(&PROC[..PROC.len() - 1]).ok()?;
    let mut before: &[u8] = b"";
    let mut changed = false;
    for (index, component) in rest.split(|&b| b == b'/').enumerate() {
        out.write_all(b"/").ok()?;
        match number(component).filter(|_| index == 0 || before == b"task") {
            Some(id) => {
                let real = table.real(id).or_else(|| table.known(id).is_none().then_some(id)).unwrap_or(NOBODY);
                changed |= real != id;
                write!(out, "{real}").ok()?;
            }
            None => out.write_all(component).ok()?,
        }
        before = component;
    }
    changed.then_some(())
}

/// What a link of /proc to the caller says, with virtual ids; its length.
fn own_link(path: *const c_char, into: *mut c_char, room: usize) -> Option<isize> {
    let table = table::current()?;
    // SAFETY: as in `translated`; a null path is the file system's to refuse.
    let name = if path.is_null() { return None } else { unsafe { CStr::from_ptr(path) } }.to_bytes();
    let mut text = [0u8; 64];
    let mut out = &mut text[..];
    let (process, thread) = (dmtcp_plugin_api::sys::pid(), dmtcp_plugin_api::sys::tid());
    match name {
        b"/proc/self" => write!(out, "{}", table.ensure(process)),
        b"/proc/thread-self" => write!(out, "{}/task/{}", table.ensure(process), table.ensure(thread)),
        _ => return None,
    }
    .ok()?;
    let left = out.len();
    let length = (text.len() - left).min(room);
    // SAFETY: the program has room for so many bytes.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), into.cast(), length) };
    Some(length as isize)
}

type Stat = *mut c_void;

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// By the real name.
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { real(path, |path| next(path, flags, mode)) }
    /// By the real name.
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { real(path, |path| next(path, flags, mode)) }
    /// By the real name.
    fn __open_2(path: *const c_char, flags: c_int) -> c_int { real(path, |path| next(path, flags)) }
    /// By the real name.
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int { real(path, |path| next(path, flags)) }
    /// By the real name.
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        real(path, |path| next(at, path, flags, mode))
    }
    /// By the real name.
    fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        real(path, |path| next(at, path, flags, mode))
    }
    /// By the real name.
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn opendir(path: *const c_char) -> *mut DIR { real(path, next) }
    /// By the real name; the caller's own id is the virtual one.
    fn readlink(path: *const c_char, into: *mut c_char, room: usize) -> isize {
        own_link(path, into, room).unwrap_or_else(|| real(path, |path| next(path, into, room)))
    }
    /// As readlink.
    fn readlinkat(at: c_int, path: *const c_char, into: *mut c_char, room: usize) -> isize {
        own_link(path, into, room).unwrap_or_else(|| real(path, |path| next(at, path, into, room)))
    }
    /// By the real name.
    fn access(path: *const c_char, mode: c_int) -> c_int { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn faccessat(at: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int {
        real(path, |path| next(at, path, mode, flags))
    }
    /// By the real name.
    fn chdir(path: *const c_char) -> c_int { real(path, next) }
    /// By the real name.
    fn stat(path: *const c_char, into: Stat) -> c_int { real(path, |path| next(path, into)) }
    /// By the real name.
    fn stat64(path: *const c_char, into: Stat) -> c_int { real(path, |path| next(path, into)) }
    /// By the real name.
    fn lstat(path: *const c_char, into: Stat) -> c_int { real(path, |path| next(path, into)) }
    /// By the real name.
    fn lstat64(path: *const c_char, into: Stat) -> c_int { real(path, |path| next(path, into)) }
    /// By the real name.
    fn fstatat(at: c_int, path: *const c_char, into: Stat, flags: c_int) -> c_int {
        real(path, |path| next(at, path, into, flags))
    }
    /// By the real name.
    fn fstatat64(at: c_int, path: *const c_char, into: Stat, flags: c_int) -> c_int {
        real(path, |path| next(at, path, into, flags))
    }
    /// By the real name: stat(2) of programs that were built against glibc 2.32 or older.
    fn __xstat(version: c_int, path: *const c_char, into: Stat) -> c_int { real(path, |path| next(version, path, into)) }
    /// As __xstat.
    fn __xstat64(version: c_int, path: *const c_char, into: Stat) -> c_int {
        real(path, |path| next(version, path, into))
    }
    /// As __xstat.
    fn __lxstat(version: c_int, path: *const c_char, into: Stat) -> c_int {
        real(path, |path| next(version, path, into))
    }
    /// As __xstat.
    fn __lxstat64(version: c_int, path: *const c_char, into: Stat) -> c_int {
        real(path, |path| next(version, path, into))
    }
    /// By the real name.
    fn statx(at: c_int, path: *const c_char, flags: c_int, mask: c_uint, into: Stat) -> c_int {
        real(path, |path| next(at, path, flags, mask, into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmtcp_plugin_api::ids::LENGTH;
    use dmtcp_plugin_api::sys;

    #[test]
    fn ids_in_names_become_real_ones() {
        let address = sys::map_anonymous(LENGTH).unwrap();
        // SAFETY: fresh memory of the right length, never unmapped.
        let table = unsafe { Table::begin(address, 1, 32768) };
        table.set(100, 5000);
        table.set(101, 5001);
        let real = |name: &str| {
            let mut buffer = [0; LONGEST];
            rewrite(table, name.as_bytes(), &mut buffer)
                .map(|()| CStr::from_bytes_until_nul(&buffer).unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(real("100/fd/100").unwrap(), "/proc/5000/fd/100");
        assert_eq!(real("self/task/101/comm").unwrap(), "/proc/self/task/5001/comm");
        assert_eq!(real("100/task/101").unwrap(), "/proc/5000/task/5001");
        assert_eq!(real("5000/stat").unwrap(), "/proc/0/stat");
        assert_eq!((real("77/stat"), real("meminfo"), real("sys/kernel/pid_max")), (None, None, None));
        assert_eq!(real(&format!("100/{}", "x".repeat(300))), None);
    }
}
