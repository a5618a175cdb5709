//! What fuzzers drive: the readers of everything that somebody else may have written. Bytes go in; a reader may refuse
//! them or take them, and nothing else: no panic, no endless loop, no memory beyond what the bytes could fill.
//!
//! `fuzz/` has the fuzzers for cargo-fuzz; `tests/parsers.rs` drives the same functions with a fixed budget.

use dmtcp_image::read::Image;
use dmtcp_image::{CHUNK, PAGE, sum};
use dmtcp_protocol::frame;
use dmtcp_protocol::message::{Answer, Challenge, FromClient, FromCoordinator, Hello};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

// The plugin is a library that no program links with.
#[path = "../../plugins/modify-env/src/file.rs"]
mod environment_file;

/// The reader of images, on these bytes as they are and with checksums that fit them: what comes after the checksums
/// must not trust its input either.
pub fn image(bytes: &[u8]) {
    read_image(bytes);
    if let Some(repaired) = with_right_sums(bytes) {
        read_image(&repaired);
    }
}

/// An image's memory is looked at up to here: a few bytes can stand for terabytes of zeros.
const MOST: u64 = 64 * CHUNK;

fn read_image(bytes: &[u8]) {
    let descriptor = memfd_create("image", MFdFlags::MFD_CLOEXEC).expect("no memory for a file");
    let mut file = File::from(descriptor);
    file.write_all(bytes).expect("no memory for a file");
    let Ok(image) = Image::open(&PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))) else { return };
    for region in &image.regions {
        let _ = (image.name(region), image.region_of(region.start));
    }
    for section in &image.sections {
        let _ = image.section(&section.plugin, &section.name);
    }
    if image.extents.iter().map(|extent| extent.length).sum::<u64>() <= MOST {
        let _ = image.verify();
    }
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    Some(*bytes.get(at..)?.first_chunk()?)
}

/// The bytes of a note of ours in a segment, and where they are.
fn note(segment: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        let owner = u32::from_le_bytes(word(segment, at)?) as usize;
        let length = u32::from_le_bytes(word(segment, at + 4)?) as usize;
        let start = (at + 12).checked_add(owner)?.checked_next_multiple_of(4)?;
        let end = start.checked_add(length)?;
        if u32::from_le_bytes(word(segment, at + 8)?) == wanted {
            return segment.get(start..end);
        }
        at = end.checked_next_multiple_of(4)?;
    }
}

/// The same with an END that fits, if there are places for its sums.
fn with_right_sums(bytes: &[u8]) -> Option<Vec<u8>> {
    use dmtcp_image::record::note::{FRAMES, SUMS};
    const END: usize = 32;
    let mut bytes = bytes.to_vec();
    let number = |at: usize| Some(u64::from_le_bytes(word(&bytes, at)?));
    let (meta, meta_length) = (number(64 + 8)?, number(64 + 32)?);
    let (trailer, trailer_length) = (number(120 + 8)?, number(120 + 32)?);
    let header_end = meta.checked_add(meta_length)?.checked_next_multiple_of(PAGE)?;
    let header_sum = sum::plain(bytes.get(..header_end as usize)?);
    let segment = bytes.get(trailer as usize..trailer.checked_add(trailer_length)? as usize)?;
    let mut sums = sum::plain(note(segment, SUMS)?);
    if let Some(frames) = note(segment, FRAMES) {
        sums = sum::advance(sums, 0, frames);
    }
    let length = bytes.len();
    let end = bytes.get_mut(length.checked_sub(END)?..)?;
    end[..8].copy_from_slice(b"DMTCPEND");
    end[8..16].copy_from_slice(&header_sum.to_le_bytes());
    end[16..24].copy_from_slice(&sums.to_le_bytes());
    end[24..].copy_from_slice(&(length as u64).to_le_bytes());
    Some(bytes)
}

/// The readers of both ends of a connection.
pub fn frames(bytes: &[u8]) {
    fn all<M: serde::de::DeserializeOwned>(bytes: &[u8]) {
        let mut buffer = bytes.to_vec();
        while let Ok(Some(_)) = frame::take::<M>(&mut buffer) {}
    }
    all::<FromClient>(bytes);
    all::<FromCoordinator>(bytes);
    all::<Hello>(bytes);
    all::<Challenge>(bytes);
    all::<Answer>(bytes);
}

/// The reader of the modify-env plugin's file.
pub fn environment(bytes: &[u8]) {
    let outer = |name: &[u8]| name.len().is_multiple_of(2).then(|| name.repeat(2));
    if let Ok(changes) = environment_file::parse(bytes, outer) {
        assert!(changes.iter().all(|change| !change.name.is_empty() && !change.name.contains(&0)), "a name is none");
    }
}
