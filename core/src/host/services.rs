//! Tables of functions that plugins offer to each other by name.

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const ROOM: usize = 64;

struct Entry {
    name: AtomicPtr<c_char>,
    table: AtomicPtr<c_void>,
}

static ENTRIES: [Entry; ROOM] =
    [const { Entry { name: AtomicPtr::new(std::ptr::null_mut()), table: AtomicPtr::new(std::ptr::null_mut()) } }; ROOM];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Offers a table. False: the name is taken or there is no room.
pub extern "C" fn offer(name: *const c_char, table: *const c_void) -> bool {
    if !find(name).is_null() {
        return false;
    }
    let Some(entry) = ENTRIES.get(COUNT.fetch_add(1, Ordering::Relaxed)) else { return false };
    entry.table.store(table.cast_mut(), Ordering::Release);
    entry.name.store(name.cast_mut(), Ordering::Release);
    true
}

/// The table of this name, or null.
pub extern "C" fn find(name: *const c_char) -> *const c_void {
    // SAFETY: callers pass zero-terminated names.
    let wanted = unsafe { CStr::from_ptr(name) };
    for entry in &ENTRIES {
        let name = entry.name.load(Ordering::Acquire);
        // SAFETY: names are statics of plugins.
        if !name.is_null() && unsafe { CStr::from_ptr(name) } == wanted {
            return entry.table.load(Ordering::Acquire);
        }
    }
    std::ptr::null()
}
