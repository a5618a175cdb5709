//! Checksums of chunks, and the test for zero pages.
//!
//! The sum of a chunk chains xxh3 over its runs of non-zero pages, each seeded with the sum so far and with the run's
//! position: a hole in the file and a page of zeros give the same sum, a page that moved does not.

use crate::PAGE;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Whether all bytes are zero. Stops at the first that is not, so memory with content costs next to nothing.
pub fn is_zero(bytes: &[u8]) -> bool {
    let mut blocks = bytes.chunks_exact(128);
    for block in &mut blocks {
        let mut or = 0u64;
        for word in block.chunks_exact(8) {
            or |= u64::from_ne_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
        }
        if or != 0 {
            return false;
        }
    }
    blocks.remainder().iter().all(|&b| b == 0)
}

/// Calls `f(offset, bytes)` for each maximal run of pages that are not all zero.
pub fn for_each_run<E>(chunk: &[u8], mut f: impl FnMut(usize, &[u8]) -> Result<(), E>) -> Result<(), E> {
    let page = PAGE as usize;
    let mut run = None;
    let mut at = 0;
    while at < chunk.len() {
        let end = (at + page).min(chunk.len());
        if is_zero(&chunk[at..end]) {
            if let Some(start) = run.take() {
                f(start, &chunk[start..at])?;
            }
        } else if run.is_none() {
            run = Some(at);
        }
        at = end;
    }
    match run {
        Some(start) => f(start, &chunk[start..]),
        None => Ok(()),
    }
}

/// The sum so far, advanced by a run at this offset in its chunk.
pub fn advance(sum: u64, offset: usize, run: &[u8]) -> u64 {
    xxh3_64_with_seed(run, sum.rotate_left(17) ^ (offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The sum of a chunk that is in memory as a whole.
pub fn chunk(bytes: &[u8]) -> u64 {
    let mut sum = 0;
    let _: Result<(), core::convert::Infallible> = for_each_run(bytes, |offset, run| {
        sum = advance(sum, offset, run);
        Ok(())
    });
    sum
}

/// The sum of bytes that are no chunk: headers and tables.
pub fn plain(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 0)
}
