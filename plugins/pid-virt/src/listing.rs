//! What is listed in /proc and in /proc/.../task: names that are ids.
//!
//! A name that is not longer than the one that the kernel gave is written over it; another one goes, with its entry, into
//! room of the thread's own, which holds until the thread lists the next one.

use crate::paths::is_list_of_ids;
use crate::table;
use crate::translate::shown;
use dmtcp_plugin_api::ids::Table;
use libc::{DIR, c_char, c_int, c_void};
use std::cell::Cell;

/// `struct dirent` of x86_64: where its length and its name are; the same with and without large files.
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

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// Virtual ids.
    fn readdir(directory: *mut DIR) -> *mut c_void { listed(directory, || next(directory)) }
    /// Virtual ids.
    fn readdir64(directory: *mut DIR) -> *mut c_void { listed(directory, || next(directory)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmtcp_plugin_api::ids::LENGTH as TABLE;
    use dmtcp_plugin_api::sys;

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
}
