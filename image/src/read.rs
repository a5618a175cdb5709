//! Reads images. Nothing is trusted: every offset, count and length is checked against the file before use.

use crate::record::{self, End, Extent, Format, Frame, Identity, Region, Restore, Thread, codec, frame, kind, note};
use crate::{CHUNK, FORMAT_VERSION, PAGE, sum};
use bytemuck::Pod;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a file is not an image that can be used. Each message is complete but for the path.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be opened or read.
    Io(std::io::Error),
    /// Not an ELF core, or one of another program.
    Foreign,
    /// The file is empty.
    Empty,
    /// Written by a newer version.
    Newer(u32),
    /// Compressed in a way that this program does not know.
    Codec(u32),
    /// The file is shorter than it says, or has no end.
    Truncated,
    /// Something in it contradicts itself or its checksum.
    Damaged(&'static str),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(e) => write!(f, "cannot be read: {e}"),
            Self::Foreign => write!(f, "is not a checkpoint image"),
            Self::Empty => write!(f, "is empty: it was never written"),
            Self::Newer(v) => write!(
                f,
                "has image format {v}, this program reads up to {FORMAT_VERSION}: restart it with the version that wrote it"
            ),
            Self::Codec(c) => {
                write!(
                    f,
                    "is compressed by method {c}, which this program does not know: restart it with a newer version"
                )
            }
            Self::Truncated => write!(f, "is truncated: it was not written or copied to its end"),
            Self::Damaged(what) => write!(f, "is damaged ({what}): use another copy or an older generation"),
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self::Io(e)
    }
}

/// A section of a plugin.
#[derive(Debug, Clone)]
pub struct Section {
    /// The plugin that wrote it.
    pub plugin: String,
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A blob of a plugin.
#[derive(Debug, Clone)]
pub struct Blob {
    /// The plugin that wrote it.
    pub plugin: String,
    /// Its name.
    pub name: String,
    /// Index of its extent.
    pub extent: usize,
    /// Length in bytes.
    pub length: u64,
}

/// An opened image, its tables read and checked, its extents not yet.
#[derive(Debug)]
pub struct Image {
    /// Where it was opened.
    pub path: PathBuf,
    /// The open file.
    pub file: File,
    /// Who the process is.
    pub identity: Identity,
    /// What restart needs.
    pub restore: Restore,
    /// Mappings by address.
    pub regions: Vec<Region>,
    /// Runs of bytes, memory by address.
    pub extents: Vec<Extent>,
    /// Threads.
    pub threads: Vec<Thread>,
    /// Sections in the order they were written.
    pub sections: Vec<Section>,
    /// Blobs.
    pub blobs: Vec<Blob>,
    /// Notes of other owners (CORE, LINUX): owner, type, bytes.
    pub debugger: Vec<(String, u32, Vec<u8>)>,
    /// One of [`codec`].
    pub codec: u32,
    names: Vec<u8>,
    sums: Vec<u64>,
    /// Of a compressed image, one per chunk.
    frames: Vec<Frame>,
    length: u64,
}

/// Bounds that no honest image comes near; they keep a hostile one from making us allocate without end.
const MAX_HEADERS: u64 = 1 << 24;
const MAX_NOTES: u64 = 1 << 32;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn array<T: Pod>(bytes: &[u8]) -> Result<Vec<T>, Error> {
    if !bytes.len().is_multiple_of(size_of::<T>()) {
        return Err(Error::Damaged("a table has a broken length"));
    }
    Ok(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
}

fn one<T: Pod>(bytes: &[u8]) -> Result<T, Error> {
    // A later version of the same format may append fields; an earlier reader takes those it knows.
    bytes.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned).ok_or(Error::Damaged("a record is too short"))
}

fn names_of(desc: &[u8]) -> Result<(String, String, &[u8]), Error> {
    const BROKEN: Error = Error::Damaged("a section has a broken name");
    let plugin = u32_at(desc, 0).ok_or(BROKEN)? as usize;
    let name = u32_at(desc, 4).ok_or(BROKEN)? as usize;
    let plugin_end = 8usize.checked_add(plugin).ok_or(BROKEN)?;
    let name_end = plugin_end.checked_add(name).ok_or(BROKEN)?;
    let text = |a, b| Some(std::str::from_utf8(desc.get(a..b)?).ok()?.to_owned());
    let plugin = text(8, plugin_end).ok_or(BROKEN)?;
    let name = text(plugin_end, name_end).ok_or(BROKEN)?;
    Ok((plugin, name, &desc[name_end..]))
}

/// Owner without its zero, type, bytes.
type Note<'a> = (&'a [u8], u32, &'a [u8]);

/// The notes in a segment.
fn notes(bytes: &[u8]) -> Result<Vec<Note<'_>>, Error> {
    const BROKEN: Error = Error::Damaged("the notes do not parse");
    let mut out = Vec::new();
    let mut at = 0;
    while at + 12 <= bytes.len() {
        let owner = u32_at(bytes, at).ok_or(BROKEN)? as usize;
        let length = u32_at(bytes, at + 4).ok_or(BROKEN)? as usize;
        let kind = u32_at(bytes, at + 8).ok_or(BROKEN)?;
        let owner_end = (at + 12).checked_add(owner).ok_or(BROKEN)?;
        let desc = owner_end.next_multiple_of(4);
        let desc_end = desc.checked_add(length).ok_or(BROKEN)?;
        let owner = bytes.get(at + 12..owner_end).ok_or(BROKEN)?;
        out.push((owner.strip_suffix(b"\0").unwrap_or(owner), kind, bytes.get(desc..desc_end).ok_or(BROKEN)?));
        at = desc_end.next_multiple_of(4);
    }
    Ok(out)
}

impl Image {
    /// Opens an image and checks everything but the bytes of its extents.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // Opening a FIFO would wait for a writer.
        if !path.metadata()?.is_file() {
            return Err(Error::Foreign);
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length == 0 {
            return Err(Error::Empty);
        }
        let read = |offset: u64, length_wanted: u64| -> Result<Vec<u8>, Error> {
            if offset.checked_add(length_wanted).is_none_or(|end| end > length) {
                return Err(Error::Truncated);
            }
            let mut bytes = vec![0; length_wanted as usize];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        let ehdr = read(0, 64.min(length))?;
        if ehdr.len() < 64 || ehdr[..7] != [0x7f, b'E', b'L', b'F', 2, 1, 1] || ehdr[16..18] != [4, 0] {
            return Err(Error::Foreign);
        }
        let phoff = u64_at(&ehdr, 32).unwrap_or(0);
        let mut count = u64::from(u16::from_le_bytes([ehdr[56], ehdr[57]]));
        if count == 0xffff {
            let shdr = read(u64_at(&ehdr, 40).unwrap_or(0), 64)?;
            count = u64::from(u32_at(&shdr, 44).unwrap_or(0));
        }
        if !(2..=MAX_HEADERS).contains(&count) {
            return Err(Error::Foreign);
        }
        let phdrs = read(phoff, 2 * 56)?;
        let segment = |i: usize| (u64_at(&phdrs, i * 56 + 8).unwrap_or(0), u64_at(&phdrs, i * 56 + 32).unwrap_or(0));
        let is_note = |i: usize| u32_at(&phdrs, i * 56) == Some(4);
        if !is_note(0) || !is_note(1) || segment(0).1 > MAX_NOTES || segment(1).1 > MAX_NOTES {
            return Err(Error::Foreign);
        }
        let meta = read(segment(0).0, segment(0).1)?;
        let mut image = Self::from_notes(path, &meta, length)?;

        let trailer = read(segment(1).0, segment(1).1)?;
        let mut end = None;
        for (owner, kind, desc) in notes(&trailer)? {
            match (owner, kind) {
                (b"DMTCP", note::SUMS) => image.sums = array(desc)?,
                (b"DMTCP", note::FRAMES) => image.frames = array(desc)?,
                (b"DMTCP", note::END) => end = Some(one::<End>(desc)?),
                _ => {}
            }
        }
        let end = end.filter(|e| e.magic == record::END_MAGIC && e.length == length).ok_or(Error::Truncated)?;
        let header_end = segment(0).0.saturating_add(segment(0).1).next_multiple_of(PAGE);
        let mut sums_sum = sum::plain(bytemuck::cast_slice(&image.sums));
        if image.is_compressed() {
            sums_sum = sum::advance(sums_sum, 0, bytemuck::cast_slice(&image.frames));
        }
        if sum::plain(&read(0, header_end)?) != end.header_sum || sums_sum != end.sums_sum {
            return Err(Error::Damaged("header or tables do not match their checksum"));
        }
        image.check_tables()?;
        image.file = file;
        Ok(image)
    }

    fn from_notes(path: &Path, meta: &[u8], length: u64) -> Result<Self, Error> {
        let all = notes(meta).map_err(|_| Error::Foreign)?;
        let find = |wanted: u32| all.iter().find(|n| n.0 == b"DMTCP" && n.1 == wanted).map(|n| n.2);
        let format: Format = one(find(note::FORMAT).ok_or(Error::Foreign)?)?;
        if format.version > FORMAT_VERSION {
            return Err(Error::Newer(format.version));
        }
        if format.length != length {
            return Err(Error::Truncated);
        }
        if format.codec > codec::ZSTD {
            return Err(Error::Codec(format.codec));
        }
        const MISSING: Error = Error::Damaged("a table is missing");
        let mut image = Self {
            path: path.to_owned(),
            file: File::open("/dev/null")?,
            identity: serde_json::from_slice(find(note::IDENTITY).ok_or(MISSING)?)
                .map_err(|_| Error::Damaged("the identity does not parse"))?,
            restore: one(find(note::RESTORE).ok_or(MISSING)?)?,
            regions: array(find(note::REGIONS).ok_or(MISSING)?)?,
            extents: array(find(note::EXTENTS).ok_or(MISSING)?)?,
            threads: array(find(note::THREADS).ok_or(MISSING)?)?,
            sections: Vec::new(),
            blobs: Vec::new(),
            debugger: Vec::new(),
            names: find(note::NAMES).ok_or(MISSING)?.to_vec(),
            codec: format.codec,
            sums: Vec::new(),
            frames: Vec::new(),
            length,
        };
        for (owner, kind, desc) in all {
            match (owner, kind) {
                (b"DMTCP", note::SECTION) => {
                    let (plugin, name, rest) = names_of(desc)?;
                    image.sections.push(Section { plugin, name, bytes: rest.to_vec() });
                }
                (b"DMTCP", note::BLOB) => {
                    let (plugin, name, rest) = names_of(desc)?;
                    let extent = u64_at(rest, 0).ok_or(MISSING)? as usize;
                    let length = u64_at(rest, 8).ok_or(MISSING)?;
                    image.blobs.push(Blob { plugin, name, extent, length });
                }
                (b"DMTCP", _) => {}
                _ => image.debugger.push((String::from_utf8_lossy(owner).into_owned(), kind, desc.to_vec())),
            }
        }
        Ok(image)
    }

    fn check_tables(&self) -> Result<(), Error> {
        const LIMIT: u64 = 1 << 56;
        let mut before = 0;
        for r in &self.regions {
            if r.start < before || r.start >= r.end || r.end > LIMIT || !(r.start | r.end).is_multiple_of(PAGE) {
                return Err(Error::Damaged("the regions overlap or are misplaced"));
            }
            if (r.name_offset as usize).saturating_add(r.name_length as usize) > self.names.len() {
                return Err(Error::Damaged("a region's name is misplaced"));
            }
            before = r.end;
        }
        let mut sums = 0;
        let mut before = 0;
        for e in &self.extents {
            let framed = self.is_compressed() && e.address != 0;
            let inside = e.offset.checked_add(e.length).is_some_and(|end| end <= self.length);
            if (framed && e.offset != 0)
                || (!framed && !inside)
                || !e.offset.is_multiple_of(PAGE)
                || e.first_sum != sums
            {
                return Err(Error::Damaged("an extent is misplaced"));
            }
            sums += e.length.div_ceil(CHUNK);
            if e.address != 0 {
                if e.length > LIMIT
                    || e.address < before
                    || !(e.address | e.length).is_multiple_of(PAGE)
                    || e.address > LIMIT
                {
                    return Err(Error::Damaged("the extents overlap"));
                }
                before = e.address + e.length;
                if self.region_of(e.address).is_none_or(|r| before > r.end) {
                    return Err(Error::Damaged("an extent belongs to no region"));
                }
            }
        }
        if sums != self.sums.len() as u64 {
            return Err(Error::Damaged("checksums are missing"));
        }
        if self.is_compressed() && self.frames.len() != self.sums.len() {
            return Err(Error::Damaged("frames are missing"));
        }
        let inside = |f: &Frame| {
            f.length as u64 <= CHUNK && f.offset.checked_add(f.length.into()).is_some_and(|end| end <= self.length)
        };
        if !self.frames.iter().all(inside) {
            return Err(Error::Damaged("a frame is misplaced"));
        }
        if self.blobs.iter().any(|b| self.extents.get(b.extent).is_none_or(|e| e.address != 0 || e.length != b.length))
        {
            return Err(Error::Damaged("a blob is misplaced"));
        }
        Ok(())
    }

    /// The region that holds an address.
    pub fn region_of(&self, address: u64) -> Option<&Region> {
        let after = self.regions.partition_point(|r| r.start <= address);
        self.regions[..after].last().filter(|r| address < r.end)
    }

    /// The bytes that all regions' names point into.
    pub(crate) fn names(&self) -> &[u8] {
        &self.names
    }

    /// A region's name as in /proc/PID/maps.
    pub fn name(&self, region: &Region) -> &str {
        let start = region.name_offset as usize;
        std::str::from_utf8(&self.names[start..start + region.name_length as usize]).unwrap_or("?")
    }

    /// A section of a plugin.
    pub fn section(&self, plugin: &str, name: &str) -> Option<&[u8]> {
        self.sections.iter().find(|s| s.plugin == plugin && s.name == name).map(|s| &s.bytes[..])
    }

    /// A blob of a plugin.
    pub fn blob(&self, plugin: &str, name: &str) -> Option<&Blob> {
        self.blobs.iter().find(|b| b.plugin == plugin && b.name == name)
    }

    /// Whether the bytes of one chunk of an extent are what was written.
    pub fn chunk_is_right(&self, extent: &Extent, index: u64, bytes: &[u8]) -> bool {
        self.sums.get((extent.first_sum + index) as usize).is_some_and(|s| *s == sum::chunk(bytes))
    }

    /// The checksum that one chunk of an extent was written with, for readers that hash run by run.
    pub fn chunk_sum(&self, extent: &Extent, index: u64) -> Option<u64> {
        self.sums.get((extent.first_sum + index) as usize).copied()
    }

    /// Bytes of memory that are stored.
    pub fn stored(&self) -> u64 {
        self.extents.iter().map(|e| e.length).sum()
    }

    /// Whether memory is in frames, and cannot be mapped from the file.
    pub fn is_compressed(&self) -> bool {
        self.codec != codec::NONE
    }

    /// Reads one chunk of an extent from the image's file, however it is stored, and compares it with its checksum.
    /// `chunk` has the chunk's length; `spare` is kept between calls so that it is allocated once.
    pub fn read_chunk(
        &self,
        file: &File,
        extent: &Extent,
        index: u64,
        chunk: &mut [u8],
        spare: &mut Vec<u8>,
    ) -> Result<(), Error> {
        const BROKEN: Error = Error::Damaged("a part of its memory cannot be expanded");
        if self.is_compressed() {
            let found = self.frames.get((extent.first_sum + index) as usize).ok_or(BROKEN)?;
            match found.kind {
                frame::ZERO => chunk.fill(0),
                frame::STORED if found.length as usize == chunk.len() => file.read_exact_at(chunk, found.offset)?,
                frame::COMPRESSED => {
                    spare.resize(found.length as usize, 0);
                    file.read_exact_at(spare, found.offset)?;
                    if !crate::codec::expand(self.codec, spare, chunk) {
                        return Err(BROKEN);
                    }
                }
                _ => return Err(BROKEN),
            }
        } else {
            file.read_exact_at(chunk, extent.offset + index * CHUNK)?;
        }
        if self.chunk_is_right(extent, index, chunk) {
            Ok(())
        } else {
            Err(Error::Damaged("memory does not match its checksum"))
        }
    }

    /// Calls `f` with each chunk of an extent, checked: its place in the extent, its bytes.
    pub fn each_chunk<E: From<Error>>(
        &self,
        extent: &Extent,
        mut f: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0u8; CHUNK.min(extent.length) as usize];
        let mut spare = Vec::new();
        for index in 0..extent.length.div_ceil(CHUNK) {
            let at = index * CHUNK;
            let chunk = &mut buffer[..CHUNK.min(extent.length - at) as usize];
            self.read_chunk(&self.file, extent, index, chunk, &mut spare)?;
            f(at, chunk)?;
        }
        Ok(())
    }

    /// Reads every extent and compares it with its checksums.
    pub fn verify(&self) -> Result<(), Error> {
        self.extents.iter().try_for_each(|extent| self.each_chunk(extent, |_, _| Ok::<(), Error>(())))
    }

    /// Whether this region's bytes are restored by mapping memory, and not by a plugin or the kernel.
    pub fn is_memory(region: &Region) -> bool {
        matches!(region.kind, kind::ANONYMOUS | kind::PRIVATE_FILE | kind::EMPTY | kind::ORPHAN)
    }
}
