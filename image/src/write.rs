//! Writes a plan: one sequential pass, no allocation, no system call but through [`Sink`].
//!
//! Bytes that may change under the writer, or whose reading may fault, are copied to a buffer first, so that what is
//! summed is what is written. Everything else goes to the file straight from where it is.

use crate::plan::Plan;
use crate::record::End;
use crate::{CHUNK, sum};

/// Where the bytes go and where the unsafe ones come from.
pub trait Sink {
    /// Writes all bytes at this offset of the file. The error is an errno.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), i32>;
    /// Copies memory of this process that may be unreadable or vanish; what cannot be read becomes zeros.
    fn copy(&mut self, address: u64, into: &mut [u8]);
    /// Sets the length of the file.
    fn set_length(&mut self, length: u64) -> Result<(), i32>;
    /// Called after each chunk with the bytes done so far; an error ends the writing.
    fn progress(&mut self, done: u64) -> Result<(), i32>;
}

/// Writes the image. `buffer` is at least [`CHUNK`] bytes and outside of all extents; `volatile` are ranges of addresses
/// whose content may change meanwhile, beyond the plan's own tables.
///
/// # Safety
/// Every extent that does not ask for a copy must be readable memory, and nobody may change it outside of `volatile`
/// until this returns.
pub unsafe fn write(
    plan: &mut Plan,
    sink: &mut impl Sink,
    buffer: &mut [u8],
    volatile: &[(u64, u64)],
) -> Result<(), i32> {
    let Plan { header, extents, sums, trailer, trailer_offset, length, .. } = plan;
    let range = |start: u64, length: usize| (start, start + length as u64);
    let tables = [range(sums.as_ptr() as u64, sums.len() * 8), range(trailer.as_ptr() as u64, trailer.len())];
    let changes = |start: u64, end: u64| volatile.iter().chain(&tables).any(|r| r.0 < end && start < r.1);
    sink.write_at(0, header)?;
    let mut done = 0;
    for (source, extent) in extents.iter() {
        let mut index = extent.first_sum as usize;
        let mut at = 0;
        while at < source.length {
            let size = CHUNK.min(source.length - at) as usize;
            let start = source.address + at;
            let chunk: &[u8] = if source.copy || changes(start, start + size as u64) {
                sink.copy(start, &mut buffer[..size]);
                &buffer[..size]
            } else {
                // SAFETY: the caller vouches that the extent is readable and does not change.
                unsafe { core::slice::from_raw_parts(start as *const u8, size) }
            };
            let mut total = 0;
            sum::for_each_run(chunk, |offset, run| {
                total = sum::advance(total, offset, run);
                sink.write_at(extent.offset + at + offset as u64, run)
            })?;
            sums[index] = total;
            index += 1;
            at += size as u64;
            done += size as u64;
            sink.progress(done)?;
        }
    }
    let sums_bytes: &[u8] = bytemuck::cast_slice(sums);
    let end = End {
        magic: crate::record::END_MAGIC,
        header_sum: sum::plain(header),
        sums_sum: sum::plain(sums_bytes),
        length: *length,
    };
    // A note of ours: 12 bytes of lengths and type, 8 of owner.
    const NOTE: usize = 20;
    trailer[NOTE..NOTE + sums_bytes.len()].copy_from_slice(sums_bytes);
    let end_at = trailer.len() - size_of::<End>();
    trailer[end_at..].copy_from_slice(bytemuck::bytes_of(&end));
    sink.write_at(*trailer_offset, trailer)?;
    sink.set_length(*length)
}
