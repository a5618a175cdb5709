//! Names in /proc that hold an id: `/proc/ID/...` and `/proc/.../task/ID/...`.
//!
//! The program writes the virtual id; the file system has the real one. A name that holds the id of nobody stays, unless
//! that is really somebody else's: then nothing has that name. What the links /proc/self and /proc/thread-self say is
//! virtual; what stands in files is for `proc_text`, what is listed for `listing`.

use crate::translate::errno;
use crate::{proc_text, table};
use dmtcp_plugin_api::ids::Table;
use dmtcp_plugin_api::{proc_files, sys};
use libc::{DIR, FILE, c_char, c_int, c_uint, c_void, mode_t};
use std::ffi::CStr;
use std::io::Write;

const PROC: &[u8] = b"/proc/";
/// The name in /proc that nobody has.
const NOBODY: i32 = 0;
/// Longer names than this hold no id.
const LONGEST: usize = 256;

/// What a function gives that takes a name.
pub trait Outcome {
    /// Whether it failed.
    fn is_failure(&self) -> bool;
}

impl Outcome for c_int {
    fn is_failure(&self) -> bool {
        *self == -1
    }
}

impl Outcome for isize {
    fn is_failure(&self) -> bool {
        *self == -1
    }
}

impl<T> Outcome for *mut T {
    fn is_failure(&self) -> bool {
        self.is_null()
    }
}

/// Calls with the file system's name of what is at a place: a directory's descriptor, or AT_FDCWD. If a restart falls between
/// the look at an id and the call, the name is of before.
#[inline(always)]
fn real_at<R: Outcome>(at: c_int, path: *const c_char, function: impl Fn(*const c_char) -> R) -> R {
    loop {
        let restarts = table::restarts();
        let outcome = match table::current() {
            Some(table) if !path.is_null() => translated(table, at, path, &function),
            _ => function(path),
        };
        if !outcome.is_failure() || table::restarts() == restarts || errno() != libc::ENOENT {
            return outcome;
        }
    }
}

/// As [`real_at`], for a name that is not relative to a descriptor.
#[inline(always)]
pub fn real<R: Outcome>(path: *const c_char, function: impl Fn(*const c_char) -> R) -> R {
    real_at(libc::AT_FDCWD, path, function)
}

#[inline(never)]
fn translated<R>(table: Table, at: c_int, path: *const c_char, function: impl FnOnce(*const c_char) -> R) -> R {
    // SAFETY: the program passes a zero-terminated path, as the wrapped functions demand.
    let name = unsafe { CStr::from_ptr(path) }.to_bytes();
    let mut buffer = [0u8; LONGEST];
    let rewritten = match name.strip_prefix(PROC) {
        Some(rest) => rewrite(table, PROC, rest, true, &mut buffer),
        None => relative(at, name).and_then(|lists| rewrite(table, b"", name, lists, &mut buffer)),
    };
    match rewritten {
        Some(()) => function(buffer.as_ptr().cast()),
        None => function(path),
    }
}

/// Whether a name that is not absolute may hold an id, and then whether its first component may be one.
fn relative(at: c_int, name: &[u8]) -> Option<bool> {
    let task = name.starts_with(b"task/") || name.windows(6).any(|part| part == b"/task/");
    let first = name.first().is_some_and(u8::is_ascii_digit);
    if name.starts_with(b"/") || !(task || first) {
        return None;
    }
    let base = match at {
        libc::AT_FDCWD => proc_files::read_link("/proc/thread-self/cwd").ok()?,
        number => link_of(number)?,
    };
    let lists = lists_ids(&base);
    (lists || base.starts_with(PROC)).then_some(lists)
}

fn link_of(number: c_int) -> Option<Vec<u8>> {
    proc_files::read_link(&proc_files::task_path(sys::tid(), &format!("fd/{number}"))).ok()
}

/// Whether the names in a directory are ids.
fn lists_ids(directory: &[u8]) -> bool {
    directory == b"/proc" || directory.starts_with(PROC) && directory.ends_with(b"/task")
}

/// As [`lists_ids`], by a descriptor.
pub fn is_list_of_ids(number: c_int) -> bool {
    link_of(number).is_some_and(|link| lists_ids(&link))
}

/// What a program reads of a file that it has just opened; the number of it.
fn with_ids(path: *const c_char, number: c_int) -> c_int {
    // SAFETY: as in `translated`; the file system has just taken it.
    let name = || unsafe { CStr::from_ptr(path) }.to_bytes();
    if number >= 0 && table::current().is_some() && proc_text::may_hold_ids(name()) {
        proc_text::show_ids(number);
    }
    number
}

/// As [`with_ids`], for a stream.
#[allow(clippy::disallowed_methods, reason = "it reads one word of the stream, which nobody else knows yet")]
fn stream_with_ids(path: *const c_char, stream: *mut FILE) -> *mut FILE {
    if !stream.is_null() && table::current().is_some() {
        // SAFETY: the stream has just been made.
        with_ids(path, unsafe { libc::fileno(stream) });
    }
    stream
}

fn number(component: &[u8]) -> Option<i32> {
    let digits = !component.is_empty() && component.iter().all(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(component).ok()?.parse().ok()).flatten()
}

/// The real name, with its zero, of a prefix and what follows it; `first`: the first component of that may be an id. `None`:
/// nothing changes, or it is too long.
fn rewrite(table: Table, prefix: &[u8], rest: &[u8], first: bool, into: &mut [u8; LONGEST]) -> Option<()> {
    let mut out = &mut into[..LONGEST - 1];
    out.write_all(prefix).ok()?;
    let mut before: &[u8] = b"";
    let mut changed = false;
    for (index, component) in rest.split(|&b| b == b'/').enumerate() {
        if index > 0 {
            out.write_all(b"/").ok()?;
        }
        match number(component).filter(|_| index == 0 && first || before == b"task") {
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
    let (process, thread) = (sys::pid(), sys::tid());
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
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { with_ids(path, real(path, |path| next(path, flags, mode))) }
    /// By the real name.
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { with_ids(path, real(path, |path| next(path, flags, mode))) }
    /// By the real name.
    fn __open_2(path: *const c_char, flags: c_int) -> c_int { with_ids(path, real(path, |path| next(path, flags))) }
    /// By the real name.
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int { with_ids(path, real(path, |path| next(path, flags))) }
    /// By the real name.
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        with_ids(path, real_at(at, path, |path| next(at, path, flags, mode)))
    }
    /// By the real name.
    fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        with_ids(path, real_at(at, path, |path| next(at, path, flags, mode)))
    }
    /// By the real name.
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE { stream_with_ids(path, real(path, |path| next(path, mode))) }
    /// By the real name.
    fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE { stream_with_ids(path, real(path, |path| next(path, mode))) }
    /// By the real name.
    fn opendir(path: *const c_char) -> *mut DIR { real(path, next) }
    /// By the real name; the caller's own id is the virtual one.
    fn readlink(path: *const c_char, into: *mut c_char, room: usize) -> isize {
        own_link(path, into, room).unwrap_or_else(|| real(path, |path| next(path, into, room)))
    }
    /// As readlink.
    fn readlinkat(at: c_int, path: *const c_char, into: *mut c_char, room: usize) -> isize {
        own_link(path, into, room).unwrap_or_else(|| real_at(at, path, |path| next(at, path, into, room)))
    }
    /// By the real name.
    fn access(path: *const c_char, mode: c_int) -> c_int { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn faccessat(at: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int {
        real_at(at, path, |path| next(at, path, mode, flags))
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
        real_at(at, path, |path| next(at, path, into, flags))
    }
    /// By the real name.
    fn fstatat64(at: c_int, path: *const c_char, into: Stat, flags: c_int) -> c_int {
        real_at(at, path, |path| next(at, path, into, flags))
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
        real_at(at, path, |path| next(at, path, flags, mask, into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmtcp_plugin_api::ids::LENGTH;

    #[test]
    fn ids_in_names_become_real_ones() {
        let address = sys::map_anonymous(LENGTH).unwrap();
        // SAFETY: fresh memory of the right length, never unmapped.
        let table = unsafe { Table::begin(address, 1, 32768) };
        table.set(100, 5000);
        table.set(101, 5001);
        let real = |name: &str| {
            let mut buffer = [0; LONGEST];
            rewrite(table, PROC, name.as_bytes(), true, &mut buffer)
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
