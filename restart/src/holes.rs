//! Which parts of a sparse file hold data, found out in one pass.
//!
//! A hole reads as zeros; skipping it saves the reading, and leaves the memory that it stands for untouched.

use dmtcp_image::PAGE;
use dmtcp_image::record::Extent;
use nix::unistd::{Whence, lseek};
use std::ops::Range;
use std::os::fd::BorrowedFd;

/// The data of a file, by offset, in whole pages.
#[derive(Debug, Default)]
pub struct Holes {
    data: Vec<Range<u64>>,
}

impl Holes {
    /// The data among all extents. On a file system that knows no holes, everything.
    pub fn of(file: BorrowedFd<'_>, extents: &[Extent]) -> Self {
        let Some(first) = extents.iter().map(|extent| extent.offset).min() else { return Self::default() };
        let end = extents.iter().map(|extent| extent.offset + extent.length).max().unwrap_or(first);
        let mut holes = Self::default();
        let mut at = first;
        while at < end {
            let start = match lseek(file, at as i64, Whence::SeekData) {
                Ok(start) => start as u64,
                Err(nix::Error::ENXIO) => break,
                Err(_) => {
                    holes.add(first..end);
                    return holes;
                }
            };
            let stop = lseek(file, start as i64, Whence::SeekHole).map_or(end, |stop| stop as u64);
            holes.add(start..stop.min(end));
            at = stop.max(at + 1);
        }
        holes
    }

    /// Blocks of a file system may be smaller than pages: round outwards.
    fn add(&mut self, run: Range<u64>) {
        let run = run.start / PAGE * PAGE..run.end.next_multiple_of(PAGE);
        match self.data.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => self.data.push(run),
        }
    }

    /// The runs of data in a range.
    pub fn data(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.data.partition_point(|run| run.end <= range.start);
        self.data[first..]
            .iter()
            .take_while({
                let end = range.end;
                move |run| run.start < end
            })
            .map(move |run| run.start.max(range.start)..run.end.min(range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_blocks_are_rounded_and_joined() {
        let mut holes = Holes::default();
        holes.add(0x1400..0x1800);
        holes.add(0x1c00..0x2400);
        holes.add(0x8000..0x9000);
        assert_eq!(holes.data, [0x1000..0x3000, 0x8000..0x9000]);
        assert_eq!(holes.data(0x2000..0x8800).collect::<Vec<_>>(), [0x2000..0x3000, 0x8000..0x8800]);
        assert_eq!(holes.data(0x4000..0x8000).count(), 0);
    }
}
