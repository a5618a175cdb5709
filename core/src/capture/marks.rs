//! Marks on memory that no mapping call sets: guard pages (`MADV_GUARD_INSTALL`) and seals (`mseal`).
//!
//! They are looked up when an image is planned, kept in memory of ours, which is part of the image, and set again by the
//! checkpoint thread in restored memory, before any thread of the program runs. A kernel that does not know them has none
//! to be looked up, and refuses to set them: then guard pages are ordinary pages, and sealed memory is not sealed.

use super::maps::Mapping;
use super::pages::Pagemap;
use dmtcp_image::record::flag;
use dmtcp_plugin_api::sys;
use std::cell::UnsafeCell;

const MADV_GUARD_INSTALL: usize = 102;
const SYS_MSEAL: i32 = 462;

/// Ranges with marks.
struct Marks {
    guards: Vec<(u64, u64)>,
    seals: Vec<(u64, u64)>,
}

struct Shared(UnsafeCell<Marks>);
// SAFETY: only the checkpoint thread touches it.
unsafe impl Sync for Shared {}

static MARKS: Shared = Shared(UnsafeCell::new(Marks { guards: Vec::new(), seals: Vec::new() }));

/// Notes the marks of these mappings.
pub fn look(mappings: &[Mapping], pagemap: &Pagemap) {
    // SAFETY: the caller is the checkpoint thread.
    let marks = unsafe { &mut *MARKS.0.get() };
    marks.guards.clear();
    marks.seals.clear();
    for mapping in mappings {
        if mapping.flags & flag::GUARDS != 0 {
            pagemap.guards(mapping.start, mapping.end, &mut |start, end| marks.guards.push((start, end)));
        }
        if mapping.flags & flag::SEALED != 0 && !mapping.name.starts_with(b"[v") {
            marks.seals.push((mapping.start, mapping.end));
        }
    }
}

/// Sets them again, in restored memory.
pub fn put_back() {
    // SAFETY: the caller is the checkpoint thread.
    let marks = unsafe { &*MARKS.0.get() };
    for &(start, end) in &marks.guards {
        // SAFETY: the pages were guards: nobody can read or write them.
        let _ = unsafe {
            let args = [start as usize, (end - start) as usize, MADV_GUARD_INSTALL, 0, 0, 0];
            sys::call(libc::SYS_madvise as i32, args)
        };
    }
    for &(start, end) in &marks.seals {
        // SAFETY: changes nothing but what may be done to the mapping later.
        let _ = unsafe { sys::call(SYS_MSEAL, [start as usize, (end - start) as usize, 0, 0, 0, 0]) };
    }
}
