//! The flight recorder: the last lines of every level, in memory, whether or not a log is asked for.
//!
//! It is part of the process's memory, so it is in the image too, and goes on after a restart.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

const LENGTH: usize = 16 << 10;

/// A ring of bytes. Writers reserve their part by an addition, so lines may overwrite each other when they lap, never wait.
struct Ring {
    bytes: UnsafeCell<[u8; LENGTH]>,
    next: AtomicUsize,
}

// SAFETY: the worst of a race is a garbled line.
unsafe impl Sync for Ring {}

static LINES: Ring = Ring { bytes: UnsafeCell::new([0; LENGTH]), next: AtomicUsize::new(0) };

impl Ring {
    fn at(&self, index: usize) -> *mut u8 {
        // SAFETY: the offset is within the array.
        unsafe { self.bytes.get().cast::<u8>().add(index % LENGTH) }
    }
}

/// Notes a line, which ends with its newline.
pub fn note(line: &str) {
    let from = LINES.next.fetch_add(line.len(), Ordering::Relaxed);
    for (i, byte) in line.bytes().enumerate() {
        // SAFETY: a byte of the ring; see `Ring` for races.
        unsafe { LINES.at(from + i).write_volatile(byte) };
    }
}

/// The last whole lines, at most so many, oldest first.
pub fn last(count: usize) -> Vec<String> {
    let end = LINES.next.load(Ordering::Relaxed);
    let start = end.saturating_sub(LENGTH);
    // SAFETY: bytes of the ring; see `Ring` for races.
    let bytes: Vec<u8> = (start..end).map(|i| unsafe { LINES.at(i).read_volatile() }).collect();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.split_terminator('\n');
    if start > 0 {
        // Cut by those that came later.
        lines.next();
    }
    let lines: Vec<&str> = lines.collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        for number in 0..5000 {
            note(&format!("line {number} of many\n"));
        }
        assert_eq!(last(2), ["line 4998 of many", "line 4999 of many"]);
        let all = last(usize::MAX);
        assert!(all.len() > 500 && all.iter().all(|line| line.starts_with("line ") && line.ends_with(" many")));
    }
}
