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

/// Writes the image. `buffer` is at least [`CHUNK`] bytes and outside of all extents.
///
/// # Safety
/// Every extent that does not ask for a copy must be readable memory that nobody changes until this returns.
pub unsafe fn write(plan: &mut Plan, sink: &mut impl Sink, buffer: &mut [u8]) -> Result<(), i32> {
    let Plan { header, extents, sums, trailer, trailer_offset, length, .. } = plan;
    sink.write_at(0, header)?;
    let mut done = 0;
    for (source, extent) in extents.iter() {
        let mut index = extent.first_sum as usize;
        let mut at = 0;
        while at < source.length {
            let size = CHUNK.min(source.length - at) as usize;
            let chunk: &[u8] = if source.copy {
                sink.copy(source.address + at, &mut buffer[..size]);
                &buffer[..size]
            } else {
                // SAFETY: the caller vouches that the extent is readable and does not change.
                unsafe { core::slice::from_raw_parts((source.address + at) as *const u8, size) }
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
