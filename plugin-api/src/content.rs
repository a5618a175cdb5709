//! The bytes of a memory object that has no usable name (an unlinked file, a memfd, shared anonymous memory): found where
//! they are, handed to the image as blobs without being copied, filled into a new object at restart.
//!
//! ```text
//!   object   |....####........##########....|   size
//!   runs          |--|        |--------|        one blob each; holes are not stored
//! ```
//! The bytes are reached through a view: a second shared mapping of the object, which itself is claimed for the object, so
//! that it comes back as a mapping of the restored object and is released by the same hook as at resume ([`crate::kept`]).

use crate::core::Core;
use crate::{kept, proc_files, sys};
use serde::{Deserialize, Serialize};

/// What is known of the bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Content {
    /// Number of the object that holds the bytes; its descriptor at restart is readable and writable.
    pub object: u64,
    /// Size in bytes.
    pub size: u64,
    /// Where it is not zero, by offset.
    pub runs: Vec<Run>,
}

/// A run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Offset in the object.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Holes shorter than this are stored: a blob costs more than the zeros do.
const LEAST_HOLE: u64 = 256 << 10;
const PAGE: u64 = 4096;
/// Pages that are asked about at a time.
const WINDOW: u64 = 1 << 16;

impl Content {
    /// Name of a run's blob.
    pub fn blob(&self, run: &Run) -> String {
        format!("content-{}-{}", self.object, run.offset)
    }

    /// Looks at an open file. `copy` may be any descriptor of it. The error is an errno.
    pub fn of_file(core: Core, copy: i32) -> Result<Self, i32> {
        let size = sys::fstat(copy)?.st_size as u64;
        let mut content = Self { object: core.new_object(), size, runs: Vec::new() };
        if size == 0 {
            return Ok(content);
        }
        // A description of our own: seeking in the application's would move its offset.
        let own = sys::open(proc_files::descriptor_path(copy).as_bytes(), libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
        content.runs = runs_of_file(own.number(), 0, size);
        let length = size.next_multiple_of(PAGE);
        let view = sys::map(0, length as usize, libc::PROT_READ, libc::MAP_SHARED, own.number(), 0);
        if let Ok(view) = view {
            kept::keep(view, length);
            core.claim_mapping(view, content.object, 0);
            content.hand_over(core, view);
            return Ok(content);
        }
        // Some file systems cannot map.
        let bytes = kept::anonymous(size as usize)?;
        for run in &content.runs {
            let mut at = run.offset as usize;
            let end = at + run.length as usize;
            while at < end {
                match sys::pread(own.number(), &mut bytes[at..end], at as u64)? {
                    0 => break,
                    count => at += count,
                }
            }
        }
        content.hand_over(core, bytes.as_ptr() as u64);
        Ok(content)
    }

    /// Looks at the object behind a shared mapping, from the mapping that starts at `offset` in it to `size`.
    /// What lies before `offset` cannot be reached and counts as zero. The error is an errno.
    pub fn of_mapping(core: Core, address: u64, offset: u64, size: u64) -> Result<Self, i32> {
        let object = core.new_object();
        let length = size.saturating_sub(offset);
        let view = sys::second_view(address, length)?;
        kept::keep(view, length);
        sys::protect(view, length, libc::PROT_READ)?;
        core.claim_mapping(view, object, offset);
        let reachable = reachable(view, length);
        let mut content = Self { object, size: offset + reachable, runs: Vec::new() };
        content.runs = match object_of(view, length) {
            Some(file) => runs_of_file(file.number(), offset, offset + reachable),
            None => runs_of_memory(view, offset, reachable),
        };
        content.hand_over(core, view.wrapping_sub(offset));
        Ok(content)
    }

    /// Hands the runs to the image; `origin` is where offset 0 would be.
    fn hand_over(&self, core: Core, origin: u64) {
        for run in &self.runs {
            core.blob(&self.blob(run), origin.wrapping_add(run.offset), run.length);
        }
    }
}

/// Adds a run at the end of a list; one that little lies before is joined to the last.
fn add(runs: &mut Vec<Run>, start: u64, end: u64) {
    match runs.last_mut() {
        Some(last) if start < last.offset + last.length + LEAST_HOLE => last.length = end - last.offset,
        _ => runs.push(Run { offset: start, length: end - start }),
    }
}

/// The object behind a mapping, opened: the kernel knows its holes. Only with privilege (proc(5), map_files).
fn object_of(start: u64, length: u64) -> Option<sys::Fd> {
    let path = format!("/proc/thread-self/../../map_files/{start:x}-{:x}", start + length);
    sys::open(path.as_bytes(), libc::O_RDONLY | libc::O_CLOEXEC, 0).ok()
}

/// Runs from offset `at` on.
fn runs_of_file(fd: i32, mut at: u64, size: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    while at < size {
        let start = match sys::seek(fd, at as i64, libc::SEEK_DATA) {
            Ok(start) if start < size => start & !(PAGE - 1),
            Err(libc::ENXIO) | Ok(_) => break,
            Err(_) => at,
        };
        let end = sys::seek(fd, start as i64, libc::SEEK_HOLE).unwrap_or(size).clamp(start + 1, size);
        add(&mut runs, start, end);
        at = end.next_multiple_of(PAGE);
    }
    runs
}

/// How much of a view can be read: an object may be smaller than what is mapped of it.
fn reachable(view: u64, length: u64) -> u64 {
    let readable = |page: u64| sys::can_read(view + page * PAGE);
    let (mut least, mut most) = (0, length / PAGE);
    while least < most {
        let middle = least + (most - least) / 2;
        if readable(middle) { least = middle + 1 } else { most = middle }
    }
    least * PAGE
}

/// Pages that exist. Reading a page that does not exist would make it, which a large and nearly empty object cannot bear.
/// The kernel tells which exist as long as none can be swapped out; else all are taken to exist. `offset` is that of the
/// view in its object.
fn runs_of_memory(view: u64, offset: u64, length: u64) -> Vec<Run> {
    let no_swap = proc_files::read_file("/proc/swaps").is_ok_and(|t| t.iter().filter(|b| **b == b'\n').count() <= 1);
    let mut present = vec![0u8; WINDOW.min(length / PAGE) as usize];
    let mut runs = Vec::new();
    let mut at = 0;
    while at < length {
        let window = (length - at).min(WINDOW * PAGE);
        if !no_swap || sys::resident(view + at, window, &mut present).is_err() {
            present.fill(1);
        }
        let pages = present.iter().zip(0u64..).take((window / PAGE) as usize).filter(|(p, _)| **p & 1 == 1);
        let start = offset + at;
        pages.for_each(|(_, page)| add(&mut runs, start + page * PAGE, start + (page + 1) * PAGE));
        at += window;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::{LEAST_HOLE, Run, add};

    #[test]
    fn short_holes_are_stored_and_long_ones_are_not() {
        let far = 8192 + LEAST_HOLE;
        let mut runs = Vec::new();
        for (start, end) in [(0, 4096), (8192, 12288), (12288 + LEAST_HOLE, far + 8192)] {
            add(&mut runs, start, end);
        }
        assert_eq!(runs, [Run { offset: 0, length: 12288 }, Run { offset: 12288 + LEAST_HOLE, length: 4096 }]);
    }
}
