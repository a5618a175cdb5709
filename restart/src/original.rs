//! The file that memory is a private mapping of, if it is still what it was.
//!
//! Memory that is mapped from it again has its name in /proc/PID/maps, and shares the pages that nobody has written to. The
//! image decides on the bytes: every page is compared with it, and what it does not have is zero.

use dmtcp_image::PAGE;
use dmtcp_image::record::{Extent, Region, kind};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

/// Such a file.
#[derive(Debug)]
pub struct Original {
    /// The file.
    pub file: File,
    /// What is zero in the process although it may not be in the file: addresses of the image.
    pub zeros: Vec<Range<u64>>,
}

impl Original {
    /// The file that a region of this name was mapped from, if it is still there and long enough.
    pub fn of(region: &Region, name: &str, extents: &[Extent]) -> Option<Self> {
        // Memory of a process that was restarted lazily: a mapping of an older image, which it shall not need any more.
        if region.kind != kind::PRIVATE_FILE || name.ends_with(".dmtcp") {
            return None;
        }
        let file = File::open(name).ok()?;
        let meta = file.metadata().ok()?;
        // A file that was replaced differs in most pages: mapping it would save nothing and show a wrong inode.
        if !meta.is_file() || meta.ino() != region.inode {
            return None;
        }
        // Pages after the file's last one cannot be written to.
        let end = meta.len().next_multiple_of(PAGE).saturating_sub(region.offset);
        let backed = region.start + end.min(region.end - region.start);
        if extents.last().is_some_and(|last| last.address + last.length > backed) {
            return None;
        }
        // What nobody could read, and is not in the image, was never seen: address space that a loader left between two
        // segments.
        let unseen = extents.is_empty() && region.prot as i32 & libc::PROT_READ == 0;
        Some(Self { file, zeros: if unseen { Vec::new() } else { gaps(region.start, extents, backed) } })
    }
}

/// What such a mapping has to allow while it is filled. The final protection is asked for at once, while a refusal (a
/// noexec mount) can still be answered.
pub fn prot(region: &Region) -> i32 {
    region.prot as i32 | libc::PROT_READ | libc::PROT_WRITE
}

/// What lies between `start` and `end` and in no extent.
fn gaps(start: u64, extents: &[Extent], end: u64) -> Vec<Range<u64>> {
    let starts = std::iter::once(start).chain(extents.iter().map(|extent| extent.address + extent.length));
    let ends = extents.iter().map(|extent| extent.address).chain(std::iter::once(end));
    starts.zip(ends).map(|(from, to)| from..to).filter(|gap| gap.start < gap.end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_no_extent_has() {
        let extent = |address, length| Extent { address, length, ..bytemuck::Zeroable::zeroed() };
        assert_eq!(gaps(0x1000, &[], 0x3000), vec![0x1000..0x3000; 1]);
        let extents = [extent(0x2000, 0x1000), extent(0x3000, 0x1000), extent(0x6000, 0x1000)];
        assert_eq!(gaps(0x1000, &extents, 0x8000), [0x1000..0x2000, 0x4000..0x6000, 0x7000..0x8000]);
        assert!(gaps(0x2000, &extents[..1], 0x3000).is_empty());
    }
}
