//! Writes a plan: one sequential pass, no system call but through [`Sink`], no allocation but the compressor's.
//!
//! Bytes that may change under the writer, or whose reading may fault, are copied to a buffer first, so that what is
//! summed is what is written. Everything else goes to the file straight from where it is.
//!
//! The pass can be cut in two: what a fork's child would not have to itself is written before the fork
//! ([`Part::Shared`]), the rest by the child.

use crate::codec::{Compressor, Method, ROOM};
use crate::plan::{NOTE, Plan, Source, TRAILER_AT};
use crate::record::{End, Frame, frame};
use crate::{CHUNK, PAGE, sum};

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

/// Which extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// Those whose memory others may change.
    Shared,
    /// Those whose memory is this process's own.
    Own,
}

impl Part {
    fn has(self, source: &Source) -> bool {
        self == Self::All || source.shared == (self == Self::Shared)
    }
}

/// Bytes that a buffer has: a chunk that was copied, and a frame.
pub fn buffer_length(method: Method) -> usize {
    CHUNK as usize + if method == Method::None { 0 } else { ROOM.next_multiple_of(PAGE as usize) }
}

/// Writes the image. `buffer` is [`buffer_length`] bytes and outside of all extents; `volatile` are ranges of addresses
/// whose content may change meanwhile, beyond the plan's own tables.
///
/// # Safety
/// Every extent that does not ask for a copy must be readable memory, and nobody may change it outside of `volatile`
/// until this returns. What a compressor allocates must be in no extent.
pub unsafe fn write(
    plan: &mut Plan,
    sink: &mut impl Sink,
    buffer: &mut [u8],
    volatile: &[(u64, u64)],
) -> Result<(), i32> {
    let mut pass = Pass::begin(plan, sink)?;
    // SAFETY: the caller's promise.
    unsafe { pass.extents(plan, sink, buffer, volatile, Part::All) }?;
    pass.end(plan, sink)
}

/// An image being written.
pub struct Pass {
    done: u64,
    /// Where the next frame goes.
    at: u64,
}

impl Pass {
    /// Writes what comes before the extents.
    pub fn begin(plan: &Plan, sink: &mut impl Sink) -> Result<Self, i32> {
        sink.write_at(0, &plan.header)?;
        Ok(Self { done: 0, at: plan.trailer_offset })
    }

    /// Writes extents.
    ///
    /// # Safety
    /// As for [`write`].
    pub unsafe fn extents(
        &mut self,
        plan: &mut Plan,
        sink: &mut impl Sink,
        buffer: &mut [u8],
        volatile: &[(u64, u64)],
        part: Part,
    ) -> Result<(), i32> {
        let Plan { extents, sums, trailer, frames, method, .. } = plan;
        let range = |start: u64, length: usize| (start, start + length as u64);
        let tables = [
            range(sums.as_ptr() as u64, size_of_val(&sums[..])),
            range(frames.as_ptr() as u64, size_of_val(&frames[..])),
            range(trailer.as_ptr() as u64, trailer.len()),
        ];
        let changes = |start: u64, end: u64| volatile.iter().chain(&tables).any(|r| r.0 < end && start < r.1);
        let (copied, frame) = buffer.split_at_mut(CHUNK as usize);
        let mut compressor = Compressor::new(*method);
        for (source, extent) in extents.iter().filter(|(source, _)| part.has(source)) {
            let mut index = extent.first_sum as usize;
            let mut at = 0;
            while at < source.length {
                let size = CHUNK.min(source.length - at) as usize;
                let start = source.address + at;
                let chunk: &[u8] = if source.copy || changes(start, start + size as u64) {
                    sink.copy(start, &mut copied[..size]);
                    &copied[..size]
                } else {
                    // SAFETY: the caller vouches that the extent is readable and does not change.
                    unsafe { core::slice::from_raw_parts(start as *const u8, size) }
                };
                match &mut compressor {
                    Some(compressor) if extent.address != 0 => {
                        sums[index] = sum::chunk(chunk);
                        frames[index] = self.frame(compressor, chunk, frame, sink)?;
                    }
                    _ => {
                        let mut total = 0;
                        sum::for_each_run(chunk, |offset, run| {
                            total = sum::advance(total, offset, run);
                            sink.write_at(extent.offset + at + offset as u64, run)
                        })?;
                        sums[index] = total;
                        if let Some(entry) = frames.get_mut(index) {
                            *entry = Frame { offset: extent.offset + at, length: size as u32, kind: frame::STORED };
                        }
                    }
                }
                index += 1;
                at += size as u64;
                self.done += size as u64;
                sink.progress(self.done)?;
            }
        }
        Ok(())
    }

    /// Writes a chunk as a frame.
    fn frame(
        &mut self,
        compressor: &mut Compressor,
        chunk: &[u8],
        room: &mut [u8],
        sink: &mut impl Sink,
    ) -> Result<Frame, i32> {
        if sum::is_zero(chunk) {
            return Ok(Frame { offset: 0, length: 0, kind: frame::ZERO });
        }
        let (bytes, kind) = match compressor.compress(chunk, room) {
            Some(length) => (&room[..length], frame::COMPRESSED),
            None => (chunk, frame::STORED),
        };
        let offset = self.at;
        sink.write_at(offset, bytes)?;
        self.at += bytes.len() as u64;
        Ok(Frame { offset, length: bytes.len() as u32, kind })
    }

    /// Writes what comes after the extents: from then on the file is an image.
    pub fn end(self, plan: &mut Plan, sink: &mut impl Sink) -> Result<(), i32> {
        let Plan { header, sums, frames, trailer, trailer_offset, length, length_at, .. } = plan;
        let compressed = !frames.is_empty();
        if compressed {
            *trailer_offset = self.at.next_multiple_of(PAGE);
            *length = *trailer_offset + trailer.len() as u64;
            header[TRAILER_AT..TRAILER_AT + 8].copy_from_slice(&trailer_offset.to_le_bytes());
            header[*length_at..*length_at + 8].copy_from_slice(&length.to_le_bytes());
        }
        let sums_bytes: &[u8] = bytemuck::cast_slice(sums);
        let mut sums_sum = sum::plain(sums_bytes);
        trailer[NOTE..NOTE + sums_bytes.len()].copy_from_slice(sums_bytes);
        if compressed {
            let bytes: &[u8] = bytemuck::cast_slice(frames);
            let at = NOTE + sums_bytes.len() + NOTE;
            trailer[at..at + bytes.len()].copy_from_slice(bytes);
            sums_sum = sum::advance(sums_sum, 0, bytes);
        }
        let end = End { magic: crate::record::END_MAGIC, header_sum: sum::plain(header), sums_sum, length: *length };
        let end_at = trailer.len() - size_of::<End>();
        trailer[end_at..].copy_from_slice(bytemuck::bytes_of(&end));
        sink.write_at(*trailer_offset, trailer)?;
        sink.set_length(*length)?;
        if compressed { sink.write_at(0, header) } else { Ok(()) }
    }
}

/// Bytes that the extents take on disk, found out by looking at all of them; of a plan that is not compressed.
///
/// # Safety
/// As for [`write`].
pub unsafe fn stored(plan: &Plan, sink: &mut impl Sink, buffer: &mut [u8]) -> u64 {
    let mut total = 0;
    for (source, _) in &plan.extents {
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
            let _: Result<(), core::convert::Infallible> = sum::for_each_run(chunk, |_, run| {
                total += run.len() as u64;
                Ok(())
            });
            at += size as u64;
        }
    }
    total
}
