//! Reads blobs back and fills new objects with them.

use super::{BlobAt, Host};
use crate::content::Content;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileExt;

const STEP: usize = 1 << 20;

/// A file that is not closed with this value.
fn borrowed(fd: BorrowedFd<'_>) -> ManuallyDrop<File> {
    // SAFETY: the descriptor is open for as long as the borrow, and is not closed by this value.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) })
}

impl BlobAt {
    /// Calls back with the blob's bytes, piece by piece: offset in the blob, bytes.
    pub fn for_each_piece(&self, mut f: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        // SAFETY: the program keeps the image open while restart halves run.
        let image = borrowed(unsafe { BorrowedFd::borrow_raw(self.image) });
        let mut buffer = vec![0; STEP.min(self.length as usize)];
        let mut at = 0;
        while at < self.length {
            let piece = &mut buffer[..STEP.min((self.length - at) as usize)];
            image.read_exact_at(piece, self.offset + at)?;
            f(at, piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// All bytes.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.length as usize);
        self.for_each_piece(|_, piece| {
            out.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(out)
    }
}

impl Content {
    /// Gives an object that is open for writing the size and the bytes that the image of process `index` has for it.
    pub fn fill(&self, host: &Host<'_>, index: u32, into: BorrowedFd<'_>) -> Result<(), String> {
        let file = borrowed(into);
        // Another process may have seen more of it, and filled that in already.
        let grown = file.metadata().and_then(|m| if m.len() < self.size { file.set_len(self.size) } else { Ok(()) });
        grown.map_err(|e| format!("cannot make it {} bytes long: {e}", self.size))?;
        for run in &self.runs {
            let name = self.blob(run);
            let blob = host.blob(index, &name).ok_or_else(|| format!("the image has no blob '{name}'"))?;
            blob.for_each_piece(|at, piece| {
                if piece.iter().all(|b| *b == 0) {
                    return Ok(());
                }
                file.write_all_at(piece, run.offset + at)
            })
            .map_err(|e| format!("cannot copy {} bytes from the image: {e}", run.length))?;
        }
        Ok(())
    }
}
