//! What is listed in /proc and in /proc/.../task: names that are ids.
//!
//! A name that is not longer than the one that the kernel gave is written over it; another one goes, with its entry, into
//! room of the thread's own, which holds until the thread lists the next one. What getdents64(2) has no room for with its
//! new name comes with the next call.

use crate::paths::{is_list_of_ids, real};
use crate::table;
use crate::translate::{fail, shown};
use dmtcp_plugin_api::ids::Table;
use dmtcp_plugin_api::sys;
use libc::{DIR, c_char, c_int, c_void};
use std::cell::Cell;

/// `struct dirent` of x86_64: where its place, its length and its name are; the same with and without large files.
const OFFSET: usize = 8;
const LENGTH: usize = 16;
const NAME: usize = 19;
/// Bytes of an entry whose name is an id.
const ROOM: usize = 40;

thread_local! {
    static ENTRY: Cell<[u64; ROOM / 8]> = const { Cell::new([0; ROOM / 8]) };
}

type Entry = *mut u8;

/// The id that an entry is the name of.
fn id_of(entry: Entry) -> Option<i32> {
    // SAFETY: the entry has just come from libc; its name is zero-terminated.
    let name = unsafe { std::ffi::CStr::from_ptr(entry.add(NAME).cast::<c_char>()) }.to_bytes();
    number(name)
}

fn number(name: &[u8]) -> Option<i32> {
    let digits = !name.is_empty() && name.len() < 10 && name.iter().all(u8::is_ascii_digit);
    digits.then(|| name.iter().fold(0, |id, digit| id * 10 + i32::from(digit - b'0')))
}

/// Writes a name into an entry with so much room for it.
///
/// # Safety
/// The entry must have that room.
unsafe fn rename(entry: Entry, room: usize, id: i32) -> bool {
    let mut digits = [0u8; 12];
    let length = {
        use std::io::Write;
        let mut out = &mut digits[..];
        if write!(out, "{id}").is_err() {
            return false;
        }
        12 - out.len()
    };
    let fits = length < room;
    if fits {
        // SAFETY: the promise of this function; the byte after the digits is zero.
        unsafe { std::ptr::copy_nonoverlapping(digits.as_ptr(), entry.add(NAME), length + 1) };
    }
    fits
}

/// An entry with a virtual id as its name; `None`: a stranger whom nobody can name.
fn renamed(table: Table, entry: Entry, id: i32) -> Option<Entry> {
    let name = match shown(table, id) {
        0 => return None,
        name if name == id => return Some(entry),
        name => name,
    };
    // SAFETY: the entry is as long as it says.
    unsafe {
        let length = usize::from(entry.add(LENGTH).cast::<u16>().read_unaligned());
        if rename(entry, length.saturating_sub(NAME), name) {
            return Some(entry);
        }
        let own = ENTRY.with(Cell::as_ptr).cast::<u8>();
        std::ptr::copy_nonoverlapping(entry, own, NAME);
        own.add(LENGTH).cast::<u16>().write(ROOM as u16);
        rename(own, ROOM - NAME, name).then_some(own)
    }
}

/// The next entry, if this directory lists ids with a virtual one.
fn listed(directory: *mut DIR, next: impl Fn() -> *mut c_void) -> *mut c_void {
    loop {
        let entry = next().cast::<u8>();
        let Some(table) = table::current().filter(|_| !entry.is_null()) else { return entry.cast() };
        // SAFETY: libc has just read from the stream, which begins with its descriptor.
        let number = || unsafe { directory.cast::<c_int>().read() };
        let Some(id) = id_of(entry).filter(|_| is_list_of_ids(number())) else { return entry.cast() };
        if let Some(entry) = renamed(table, entry, id) {
            return entry.cast();
        }
    }
}

/// How entries are laid out that the kernel gives.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Where the name is.
    name: usize,
    /// Whether the type of what is listed is the last byte; else it stands before the name.
    ends_with_type: bool,
}

impl Layout {
    /// Of getdents64(2).
    pub const NEW: Self = Self { name: NAME, ends_with_type: false };
    /// Of getdents(2).
    pub const OLD: Self = Self { name: NAME - 1, ends_with_type: true };

    /// How long an entry is with its name.
    fn length_with(self, name: usize) -> usize {
        (self.name + name + 1 + usize::from(self.ends_with_type)).next_multiple_of(8)
    }
}

/// What the kernel lists at once, with virtual ids, in a buffer of the same size; where to go on, if there is no room for all.
/// `None`: nothing is left of it.
fn rewritten(table: Table, layout: Layout, given: &[u8], room: usize) -> Option<(Vec<u8>, Option<u64>)> {
    let mut out: Vec<u8> = Vec::with_capacity(room);
    let mut at = 0;
    let mut last = None;
    while let Some(head) = given.get(at..at + layout.name) {
        let length = usize::from(u16::from_ne_bytes([head[LENGTH], head[LENGTH + 1]])).max(layout.name);
        let entry = given.get(at..at + length).unwrap_or(head);
        let name = entry[layout.name..].split(|&b| b == 0).next().unwrap_or_default();
        let new = match number(name).map(|id| (id, shown(table, id))) {
            Some((_, 0)) => None,
            Some((id, name)) if id != name => Some(name.to_string().into_bytes()),
            _ => Some(name.to_vec()),
        };
        if let Some(name) = new {
            let length = layout.length_with(name.len());
            if out.len() + length > room {
                return Some((out, last));
            }
            let start = out.len();
            out.extend_from_slice(&entry[..layout.name]);
            out[start + LENGTH..start + LENGTH + 2].copy_from_slice(&(length as u16).to_ne_bytes());
            out.extend_from_slice(&name);
            out.resize(start + length, 0);
            if let (true, Some(kind)) = (layout.ends_with_type, entry.last()) {
                out[start + length - 1] = *kind;
            }
        }
        last = entry.get(OFFSET..OFFSET + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
        at += length;
    }
    (!out.is_empty()).then_some((out, None))
}

/// getdents64(2) or getdents(2) by a call that gives real ids.
pub fn raw_listing(layout: Layout, number: c_int, into: *mut c_void, room: usize, call: impl Fn() -> isize) -> isize {
    loop {
        let filled = call();
        let Some(table) = table::current().filter(|_| filled > 0 && is_list_of_ids(number)) else { return filled };
        // SAFETY: the kernel has just filled so many bytes of the program's buffer.
        let given = unsafe { std::slice::from_raw_parts(into.cast::<u8>(), filled as usize) };
        let Some((bytes, rest)) = rewritten(table, layout, given, room) else { continue };
        if bytes.is_empty() {
            return fail(libc::EINVAL) as isize;
        }
        if let Some(offset) = rest {
            let _ = sys::seek(number, offset as i64, libc::SEEK_SET);
        }
        // SAFETY: the buffer has room for as many as the program has said, and there are not more.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), into.cast(), bytes.len()) };
        return bytes.len() as isize;
    }
}

type Entries = *mut Entry;
type Filter = Option<extern "C" fn(*const u8) -> c_int>;
type Compare = Option<unsafe extern "C" fn(*const c_void, *const c_void) -> c_int>;

/// scandir(3) by a call that gives all entries with real ids, in memory of libc's.
#[allow(clippy::disallowed_methods, reason = "the entries are libc's, and the program will free them")]
fn scanned(table: Table, into: *mut Entries, count: c_int, filter: Filter, compare: Compare) -> c_int {
    // SAFETY: the call has left an array of so many entries there.
    let entries = unsafe { std::slice::from_raw_parts_mut(*into, count as usize) };
    let mut kept = 0;
    for index in 0..entries.len() {
        let entry = match id_of(entries[index]) {
            None => Some(entries[index]),
            // SAFETY: the entry came from libc's allocator; ROOM is what a renamed one needs.
            Some(id) => match unsafe { libc::realloc(entries[index].cast(), ROOM) }.cast::<u8>() {
                room if room.is_null() => Some(entries[index]),
                room => {
                    entries[index] = room;
                    // SAFETY: there is room for that now.
                    unsafe { room.add(LENGTH).cast::<u16>().write(ROOM as u16) };
                    renamed(table, room, id)
                }
            },
        };
        match entry.filter(|entry| filter.is_none_or(|filter| filter(*entry) != 0)) {
            Some(entry) => {
                entries[kept] = entry;
                kept += 1;
            }
            // SAFETY: it came from libc's allocator, and nobody else knows it.
            None => unsafe { libc::free(entries[index].cast()) },
        }
    }
    if let Some(compare) = compare {
        // SAFETY: the first of the array are entries, which the program's function compares.
        unsafe { libc::qsort(entries.as_mut_ptr().cast(), kept, size_of::<Entry>(), Some(compare)) };
    }
    kept as c_int
}

/// As [`scanned`], if the directory lists ids.
fn scan(
    path: *const c_char,
    into: *mut Entries,
    filter: Filter,
    compare: Compare,
    call: impl Fn(*const c_char, Filter, Compare) -> c_int,
) -> c_int {
    let lists_ids = || {
        real(path, |path| {
            // SAFETY: the program passes a zero-terminated path.
            let name = unsafe { std::ffi::CStr::from_ptr(path) }.to_bytes();
            let directory = sys::open(name, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0);
            c_int::from(directory.is_ok_and(|directory| is_list_of_ids(directory.number())))
        }) == 1
    };
    match table::current().filter(|_| !path.is_null() && lists_ids()) {
        None => real(path, |path| call(path, filter, compare)),
        Some(table) => match real(path, |path| call(path, None, None)) {
            count @ 0.. => scanned(table, into, count, filter, compare),
            failed => failed,
        },
    }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// Virtual ids.
    fn readdir(directory: *mut DIR) -> *mut c_void { listed(directory, || next(directory)) }
    /// Virtual ids.
    fn readdir64(directory: *mut DIR) -> *mut c_void { listed(directory, || next(directory)) }
    /// Virtual ids.
    fn getdents64(number: c_int, into: *mut c_void, room: usize) -> isize {
        raw_listing(Layout::NEW, number, into, room, || next(number, into, room))
    }
    /// Virtual ids.
    fn scandir(path: *const c_char, into: *mut Entries, filter: Filter, compare: Compare) -> c_int {
        scan(path, into, filter, compare, |path, filter, compare| next(path, into, filter, compare))
    }
    /// Virtual ids.
    fn scandir64(path: *const c_char, into: *mut Entries, filter: Filter, compare: Compare) -> c_int {
        scan(path, into, filter, compare, |path, filter, compare| next(path, into, filter, compare))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmtcp_plugin_api::ids::LENGTH as TABLE;

    fn entry(name: &[u8], length: usize) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[LENGTH] = length as u8;
        bytes[NAME..NAME + name.len()].copy_from_slice(name);
        bytes
    }

    #[test]
    fn names_that_are_ids_become_virtual_ones_of_any_length() {
        let address = sys::map_anonymous(TABLE).unwrap();
        // SAFETY: fresh memory of the right length, never unmapped.
        let table = unsafe { Table::begin(address, 1, 32768) };
        table.set(31234, 50);
        table.set(60, 70);
        let shown = |name: &[u8], length| {
            let mut bytes = entry(name, length);
            let id = id_of(bytes.as_mut_ptr())?;
            renamed(table, bytes.as_mut_ptr(), id).and_then(id_of)
        };
        assert_eq!(shown(b"50", 24), Some(31234), "in room of the thread's own");
        assert_eq!(shown(b"50", 32), Some(31234));
        assert_eq!(shown(b"70", 24), Some(60));
        assert_eq!(shown(b"80", 24), Some(80), "a stranger");
        assert_eq!(shown(b"60", 24), None, "a stranger whose id is somebody else's");
        assert_eq!((shown(b"self", 24), shown(b"", 24), shown(b"12345678901", 40)), (None, None, None));
    }

    #[test]
    fn what_has_no_room_with_its_new_name_comes_later() {
        let address = sys::map_anonymous(TABLE).unwrap();
        // SAFETY: fresh memory of the right length, never unmapped.
        let table = unsafe { Table::begin(address, 1, 32768) };
        table.set(1_234_567, 50);
        table.set(60, 70);
        let mut given = Vec::new();
        for (place, name) in [(1u64, &b"."[..]), (2, b"60"), (3, b"50"), (4, b"70")] {
            let mut one = entry(name, 24)[..24].to_vec();
            one[OFFSET..OFFSET + 8].copy_from_slice(&place.to_ne_bytes());
            given.extend(one);
        }
        let names = |bytes: &[u8]| {
            let mut at = 0;
            let mut out = Vec::new();
            while at < bytes.len() {
                let end = at + usize::from(bytes[at + LENGTH]);
                out.push(String::from_utf8_lossy(&bytes[at + NAME..end]).trim_end_matches('\0').to_owned());
                at = end;
            }
            out.join(" ")
        };
        let (all, rest) = rewritten(table, Layout::NEW, &given, 96).unwrap();
        assert_eq!((names(&all).as_str(), rest), (". 1234567 60", None));
        let (some, rest) = rewritten(table, Layout::NEW, &given, 60).unwrap();
        assert_eq!((names(&some).as_str(), rest), (". 1234567", Some(3)));
        let (none, _) = rewritten(table, Layout::NEW, &given, 20).unwrap();
        assert!(none.is_empty());
        assert!(
            rewritten(table, Layout::NEW, &given[24..48], 96).is_none(),
            "a stranger alone, whose id is somebody else's"
        );
    }

    #[test]
    fn entries_of_the_older_call_keep_their_type() {
        let address = sys::map_anonymous(TABLE).unwrap();
        // SAFETY: fresh memory of the right length, never unmapped.
        let table = unsafe { Table::begin(address, 1, 32768) };
        table.set(123_456, 50);
        let mut given = [0u8; 24];
        given[LENGTH] = 24;
        given[NAME - 1..NAME + 1].copy_from_slice(b"50");
        given[23] = libc::DT_DIR;
        let (bytes, rest) = rewritten(table, Layout::OLD, &given, 64).unwrap();
        assert_eq!((bytes.len(), rest, bytes[LENGTH]), (32, None, 32));
        assert_eq!((&bytes[NAME - 1..NAME + 6], bytes[31]), (&b"123456\0"[..], libc::DT_DIR));
    }
}
