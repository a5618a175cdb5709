//! Memory that a plugin holds for its blobs: mapped while it describes, given back when the checkpoint is over.
//!
//! ```text
//!   PRECHECKPOINT  anonymous(), view()   ->  core.blob(...)   ->  image written  ->  RESUME   release()
//!                                                                 image restored ->  RESTART  release()
//! ```
//! The list is part of the process's memory: after a restart it names what the restart has mapped again.
//! A plugin that uses this registers [`release`] as its hook for RESUME and RESTART.

use crate::core::Core;
use crate::round::Round;
use crate::sys;

static KEPT: Round<Vec<(u64, u64)>> = Round::new(Vec::new());

/// Keeps a mapping that the caller made, until [`release`].
pub fn keep(address: u64, length: u64) {
    KEPT.with(|kept| kept.push((address, length)));
}

/// Fresh zeroed memory. The error is an errno.
pub fn anonymous(length: usize) -> Result<&'static mut [u8], i32> {
    if length == 0 {
        return Ok(&mut []);
    }
    let address = sys::map_anonymous(length)?;
    keep(address, length as u64);
    // SAFETY: the mapping is new, of this length, and nobody else knows of it until it is released, when the checkpoint
    // that the slice was made for is over.
    Ok(unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length) })
}

/// Whether this address starts one of the kept mappings.
pub fn is_kept(address: u64) -> bool {
    KEPT.with(|kept| kept.iter().any(|(start, _)| *start == address)).unwrap_or(false)
}

/// Gives everything back; the hook for RESUME and RESTART.
pub fn release(_: Core) {
    for (address, length) in KEPT.take() {
        // A mapping that is gone already harms nobody.
        let _ = sys::unmap(address, length);
    }
}
