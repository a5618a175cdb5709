//! Marks on memory that no mapping call sets: guard pages (`MADV_GUARD_INSTALL`), seals (`mseal`), memory policy (`mbind`),
//! protection keys, and whether memory that is yet to come will be locked (`mlockall`).
//!
//! They are looked up when an image is planned, kept in memory of ours, which is part of the image, and set again by the
//! checkpoint thread in restored memory, before any thread of the program runs. A kernel that does not know them has none
//! to be looked up, and refuses to set them: then guard pages are ordinary pages, and sealed memory is not sealed.

use super::keys::Keys;
use super::maps::Mapping;
use super::pages::Pagemap;
use super::policy::{self, Policy};
use crate::log;
use dmtcp_image::record::flag;
use dmtcp_plugin_api::core::Level;
use dmtcp_plugin_api::headroom;
use dmtcp_plugin_api::sys;
use std::cell::UnsafeCell;

const MADV_GUARD_INSTALL: usize = 102;
const SYS_MSEAL: i32 = 462;

const MCL_FUTURE: usize = 2;
const MCL_ONFAULT: usize = 4;
const PAGE: usize = 4096;

/// Ranges with marks.
struct Marks {
    guards: Vec<(u64, u64)>,
    seals: Vec<(u64, u64)>,
    policies: Vec<(u64, u64, Policy)>,
    keys: Keys,
    /// Flags of mlockall(2) for memory to come.
    future: usize,
    /// A page that was mapped just now: it is locked if memory to come is. 0: none.
    probe: u64,
}

struct Shared(UnsafeCell<Marks>);
// SAFETY: only the checkpoint thread touches it.
unsafe impl Sync for Shared {}

static MARKS: Shared = Shared(UnsafeCell::new(Marks {
    guards: Vec::new(),
    seals: Vec::new(),
    policies: Vec::new(),
    keys: Keys::none(),
    future: 0,
    probe: 0,
}));

/// Maps the page that [`look`] looks at, and tries protection keys on it; the mappings are to be read after that.
pub fn probe() {
    // SAFETY: the caller is the checkpoint thread.
    let marks = unsafe { &mut *MARKS.0.get() };
    if marks.probe != 0 {
        let _ = sys::unmap(marks.probe, PAGE as u64);
    }
    marks.probe = headroom::map(PAGE, 0).unwrap_or(0);
    marks.keys.look(marks.probe);
}

/// Notes the marks of these mappings. The value is whether the process has protection keys.
pub fn look(mappings: &[Mapping], pagemap: &Pagemap) -> bool {
    // SAFETY: the caller is the checkpoint thread.
    let marks = unsafe { &mut *MARKS.0.get() };
    marks.guards.clear();
    marks.seals.clear();
    marks.policies.clear();
    let ranges = mappings.iter().map(|mapping| (mapping.start, mapping.end));
    policy::each(ranges, |start, end, policy| marks.policies.push((start, end, policy)));
    let probe = mappings.iter().find(|m| (m.start..m.end).contains(&marks.probe)).map_or(0, |m| m.flags);
    marks.future = match (probe & flag::LOCKED != 0, probe & flag::LOCKONFAULT != 0) {
        (_, true) => MCL_FUTURE | MCL_ONFAULT,
        (true, false) => MCL_FUTURE,
        (false, false) => 0,
    };
    for mapping in mappings {
        if mapping.flags & flag::GUARDS != 0 {
            pagemap.guards(mapping.start, mapping.end, &mut |start, end| marks.guards.push((start, end)));
        }
        if mapping.flags & flag::SEALED != 0 && !mapping.name.starts_with(b"[v") {
            marks.seals.push((mapping.start, mapping.end));
        }
    }
    marks.keys.note(mappings)
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
    for (start, end, policy) in &marks.policies {
        if let Err(error) = policy.set_for(*start, *end) {
            let text = format!("memory at {start:#x}: its policy cannot be set again here: error {error}");
            log::line(Level::Warning, "core", &text);
        }
    }
    marks.keys.put_back();
    for &(start, end) in &marks.seals {
        // SAFETY: changes nothing but what may be done to the mapping later.
        let _ = unsafe { sys::call(SYS_MSEAL, [start as usize, (end - start) as usize, 0, 0, 0, 0]) };
    }
    if marks.future != 0 {
        // SAFETY: no memory is passed.
        if let Err(error) = unsafe { sys::call(libc::SYS_mlockall as i32, [marks.future, 0, 0, 0, 0, 0]) } {
            let text = format!("memory to come cannot be locked again (mlockall): error {error}");
            log::line(Level::Warning, "core", &text);
        }
    }
}
