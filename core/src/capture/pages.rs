//! Which pages of private memory have content: PAGEMAP_SCAN (kernel 6.7), else mincore(2) for what is large and
//! /proc/PID/pagemap for the rest, else all of them.
//!
//! pagemap tells of each page, touched or not: a second for a terabyte, while mincore passes over what has no page tables.
//! But mincore does not see what is swapped out, so it counts only for a mapping of which nothing is, before and after:
//! [`Pagemap::is_sure`].

use super::maps::{self, Mapping};
use crate::config;
use dmtcp_image::PAGE;
use dmtcp_image::record::flag;
use dmtcp_plugin_api::sys::{self, Fd};
use std::cell::Cell;

/// Runs that are nearer than this are stored as one extent; the gap is a hole in the file.
const GAP: u64 = 256 << 10;

/// A mapping from this size on is looked through by mincore.
const LARGE: u64 = 1 << 30;

const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const PAGE_IS_GUARD: u64 = 1 << 8;
/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: usize = 0xc060_6610;

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// An open /proc/PID/pagemap.
pub struct Pagemap {
    file: Option<Fd>,
    scan: bool,
    /// Whether mincore may be asked.
    ask_mincore: bool,
    /// Whether it was.
    asked_mincore: Cell<bool>,
}

impl Pagemap {
    /// Opens it; a process that is not dumpable cannot. `ask_mincore` is false where memory is being swapped out.
    pub fn open(ask_mincore: bool) -> Self {
        let file = sys::open(b"/proc/thread-self/pagemap", libc::O_RDONLY | libc::O_CLOEXEC, 0).ok();
        Self { file, scan: config::allowed("pagemap_scan"), ask_mincore, asked_mincore: Cell::new(false) }
    }

    /// Calls `store` for each extent of a private mapping: in order, page aligned, within it.
    pub fn populated(&self, mapping: &Mapping, store: &mut impl FnMut(u64, u64)) {
        let (start, end) = (mapping.start, mapping.end);
        // smaps counts neither pages of the hugetlb pool nor the page of zeros.
        if mapping.resident == 0 && mapping.swapped == 0 && mapping.flags & flag::HUGETLB == 0 {
            return;
        }
        let mut merged = Merge { current: None, gap: GAP, store };
        let scanned = self.scan && self.file.as_ref().is_some_and(|f| scan(f, &CONTENT, start, end, &mut merged));
        if !scanned && !self.ask(mapping, &mut merged) && !self.find(&CONTENT, start, end, &mut merged) {
            merged.current = None;
            merged.add(start, end);
        }
        merged.finish();
    }

    /// Calls `store` for each run of guard pages of a mapping that has some, if the kernel tells which they are.
    pub fn guards(&self, start: u64, end: u64, store: &mut impl FnMut(u64, u64)) {
        let mut merged = Merge { current: None, gap: 0, store };
        if self.find(&GUARDS, start, end, &mut merged) {
            merged.finish();
        }
    }

    /// Whether what [`Self::populated`] said is true: nothing was swapped out while mincore was asked. It reads smaps again.
    pub fn is_sure(&self) -> Result<bool, i32> {
        Ok(!self.asked_mincore.get()
            || maps::read()?.iter().all(|mapping| !is_for_mincore(mapping) || mapping.swapped == 0))
    }

    /// False: mincore is not to be asked about this mapping; nothing was added.
    fn ask<F: FnMut(u64, u64)>(&self, mapping: &Mapping, merged: &mut Merge<'_, F>) -> bool {
        let worth = self.file.is_none() || mapping.end - mapping.start >= LARGE;
        if !self.ask_mincore || !worth || !is_for_mincore(mapping) || mapping.swapped != 0 {
            return false;
        }
        self.asked_mincore.set(true);
        resident(mapping.start, mapping.end, merged)
    }

    fn find<F: FnMut(u64, u64)>(&self, what: &Wanted, start: u64, end: u64, merged: &mut Merge<'_, F>) -> bool {
        match &self.file {
            Some(file) if self.scan && scan(file, what, start, end, merged) => true,
            Some(file) => entries(file, what, start, end, merged),
            None => false,
        }
    }
}

/// Whether mincore tells what there is of this mapping while nothing of it is swapped out.
fn is_for_mincore(mapping: &Mapping) -> bool {
    !mapping.shared && mapping.inode == 0 && mapping.flags & flag::HUGETLB == 0
}

/// Which pages are looked for.
struct Wanted {
    /// PAGEMAP_SCAN: none of these.
    none: u64,
    /// And one of these.
    any: u64,
    /// In an entry of /proc/PID/pagemap, one of these bits of the highest byte.
    entry: u8,
}

/// Bit 63 present, bit 62 swapped.
const CONTENT: Wanted = Wanted { none: PAGE_IS_PFNZERO, any: PAGE_IS_PRESENT | PAGE_IS_SWAPPED, entry: 0xc0 };
/// Bit 58.
const GUARDS: Wanted = Wanted { none: 0, any: PAGE_IS_GUARD, entry: 0x04 };

struct Merge<'a, F: FnMut(u64, u64)> {
    current: Option<(u64, u64)>,
    /// Runs that are nearer than this are one.
    gap: u64,
    store: &'a mut F,
}

impl<F: FnMut(u64, u64)> Merge<'_, F> {
    fn add(&mut self, start: u64, end: u64) {
        match &mut self.current {
            Some(run) if start <= run.1 + self.gap => run.1 = end,
            run => {
                if let Some((a, b)) = run.replace((start, end)) {
                    (self.store)(a, b);
                }
            }
        }
    }

    fn finish(self) {
        if let Some((a, b)) = self.current {
            (self.store)(a, b);
        }
    }
}

/// False: the kernel does not know the request; nothing was added.
fn scan<F: FnMut(u64, u64)>(file: &Fd, what: &Wanted, start: u64, end: u64, merged: &mut Merge<'_, F>) -> bool {
    let mut found = [PageRegion::default(); 256];
    let mut at = start;
    while at < end {
        let mut argument = ScanArgument {
            size: size_of::<ScanArgument>() as u64,
            start: at,
            end,
            vec: found.as_mut_ptr() as u64,
            vec_len: found.len() as u64,
            category_inverted: what.none,
            category_mask: what.none,
            category_anyof_mask: what.any,
            return_mask: what.any,
            ..ScanArgument::default()
        };
        match sys::ioctl(file.number(), PAGEMAP_SCAN, &mut argument) {
            Ok(count) => {
                for region in &found[..count.min(found.len())] {
                    merged.add(region.start, region.end);
                }
                if argument.walk_end <= at {
                    return true;
                }
                at = argument.walk_end;
            }
            Err(_) if at == start => return false,
            Err(_) => {
                merged.add(at, end);
                return true;
            }
        }
    }
    true
}

/// One byte a page. False: the kernel does not tell; nothing was added.
fn resident<F: FnMut(u64, u64)>(start: u64, end: u64, merged: &mut Merge<'_, F>) -> bool {
    let mut bytes = [0u8; 4096];
    let mut at = start;
    while at < end {
        let pages = ((end - at) / PAGE).min(bytes.len() as u64) as usize;
        let args = [at as usize, pages * PAGE as usize, bytes.as_mut_ptr() as usize, 0, 0, 0];
        // SAFETY: the kernel writes a byte for each page, for which there is room.
        match unsafe { sys::call(libc::SYS_mincore as i32, args) } {
            Ok(_) => {}
            Err(_) if at == start => return false,
            Err(_) => {
                merged.add(at, end);
                return true;
            }
        }
        let bytes = &bytes[..pages];
        // Nearly all of what is this large is empty.
        if bytes.iter().fold(0, |any, byte| any | byte) & 1 != 0 {
            for page in (0..pages).filter(|page| bytes[*page] & 1 != 0) {
                let page = at + page as u64 * PAGE;
                merged.add(page, page + PAGE);
            }
        }
        at += pages as u64 * PAGE;
    }
    true
}

/// One 64-bit entry a page. False: cannot be read; nothing was added.
fn entries<F: FnMut(u64, u64)>(file: &Fd, what: &Wanted, start: u64, end: u64, merged: &mut Merge<'_, F>) -> bool {
    let mut buffer = [0u8; 4096];
    let mut at = start;
    while at < end {
        let wanted = (((end - at) / PAGE) as usize * 8).min(buffer.len());
        let filled = match sys::pread(file.number(), &mut buffer[..wanted], at / PAGE * 8) {
            Ok(filled) if filled >= 8 => filled,
            _ if at == start => return false,
            _ => {
                merged.add(at, end);
                return true;
            }
        };
        for entry in buffer[..filled].chunks_exact(8) {
            if entry[7] & what.entry != 0 {
                merged.add(at, at + PAGE);
            }
            at += PAGE;
        }
    }
    true
}
