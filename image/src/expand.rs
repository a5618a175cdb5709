//! An uncompressed image from a compressed one: the same process, as an ELF core that debuggers open.

use crate::CHUNK;
use crate::codec::Method;
use crate::plan::{Contents, Plan, Source};
use crate::read::{Error, Image};
use crate::record::Extent;
use crate::write::{self, Sink};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Stands for the address of a blob: more than any memory has, in steps that no blob is longer than.
const BLOBS: u64 = 1 << 62;
const BLOB_STEP: u64 = 1 << 44;

/// Writes the image uncompressed to a file that is not there yet. Every byte is compared with its checksum on the way.
pub fn expand(image: &Image, into: &Path) -> Result<(), Error> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(into)?;
    let mut sink = Expanding { image, file, spare: Vec::new(), failure: None };
    let mut plan = Plan::new(&contents(image)?);
    let mut buffer = vec![0; write::buffer_length(Method::None)];
    // SAFETY: every extent asks for a copy, and the sink's copies come from the file: no memory is read.
    let written = unsafe { write::write(&mut plan, &mut sink, &mut buffer, &[]) };
    let outcome = match (sink.failure.take(), written) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(Error::Io(std::io::Error::from_raw_os_error(error))),
        (None, Ok(())) => Ok(()),
    };
    if outcome.is_err() {
        // Ours, made above, and of no use.
        let _ = std::fs::remove_file(into);
    }
    outcome
}

fn contents(image: &Image) -> Result<Contents, Error> {
    let owner = |name: &str| -> Option<&'static [u8]> {
        match name {
            "CORE" => Some(b"CORE\0"),
            "LINUX" => Some(b"LINUX\0"),
            _ => None,
        }
    };
    let source = |(index, extent): (usize, &Extent)| {
        let address = if extent.address == 0 { BLOBS + index as u64 * BLOB_STEP } else { extent.address };
        (Source { address, length: extent.length, copy: true, shared: false }, extent.address == 0)
    };
    if image.extents.iter().any(|extent| extent.length >= BLOB_STEP) {
        return Err(Error::Damaged("an extent is longer than any memory"));
    }
    Ok(Contents {
        identity: serde_json::to_vec(&image.identity).map_err(|_| Error::Damaged("the identity has no text"))?,
        restore: Some(image.restore),
        regions: image.regions.clone(),
        names: image.names().to_vec(),
        threads: image.threads.clone(),
        debugger: image
            .debugger
            .iter()
            .filter_map(|(name, kind, bytes)| Some((owner(name)?, *kind, bytes.clone())))
            .collect(),
        sections: image.sections.iter().map(|s| (s.plugin.clone(), s.name.clone(), s.bytes.clone())).collect(),
        blobs: image.blobs.iter().map(|b| (b.plugin.clone(), b.name.clone(), b.extent)).collect(),
        extents: image.extents.iter().enumerate().map(source).collect(),
        method: Method::None,
    })
}

/// Takes chunks from the image and puts them into the file.
struct Expanding<'a> {
    image: &'a Image,
    file: File,
    spare: Vec<u8>,
    failure: Option<Error>,
}

impl Expanding<'_> {
    fn extent(&self, address: u64) -> Option<(Extent, u64)> {
        if address >= BLOBS {
            let at = address - BLOBS;
            let extent = *self.image.extents.get((at / BLOB_STEP) as usize)?;
            return Some((extent, at % BLOB_STEP));
        }
        let mut memory = self.image.extents.iter().filter(|extent| extent.address != 0);
        let extent = memory.find(|extent| address >= extent.address && address - extent.address < extent.length)?;
        Some((*extent, address - extent.address))
    }
}

impl Sink for Expanding<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), i32> {
        self.file.write_all_at(bytes, offset).map_err(|error| error.raw_os_error().unwrap_or(1))
    }

    fn copy(&mut self, address: u64, into: &mut [u8]) {
        let Some((extent, at)) = self.extent(address) else {
            self.failure = Some(Error::Damaged("an extent is misplaced"));
            return;
        };
        if let Err(error) = self.image.read_chunk(&self.image.file, &extent, at / CHUNK, into, &mut self.spare) {
            self.failure.get_or_insert(error);
        }
    }

    fn set_length(&mut self, length: u64) -> Result<(), i32> {
        self.file.set_len(length).map_err(|error| error.raw_os_error().unwrap_or(1))
    }

    fn progress(&mut self, _: u64) -> Result<(), i32> {
        if self.failure.is_some() { Err(1) } else { Ok(()) }
    }
}
