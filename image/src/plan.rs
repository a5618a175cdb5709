//! The plan of an image: everything that is known before the first byte of memory is written.
//!
//! Building it allocates; writing it ([`crate::write`]) does not, because the writer runs while the memory that it
//! writes includes its own.

use crate::codec::Method;
use crate::record::{self, Extent, Format, Frame, Region, Restore, Thread, note};
use crate::{CHUNK, FORMAT_VERSION, PAGE};

/// Where an extent's bytes are while the image is written.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Address in this process.
    pub address: u64,
    /// Length in bytes.
    pub length: u64,
    /// Whether reading the bytes may fault: they are copied first.
    pub copy: bool,
    /// Whether a fork's child does not have the bytes to itself: they are written before the fork.
    pub shared: bool,
}

/// Everything that goes into an image but the bytes of memory.
#[derive(Default)]
pub struct Contents {
    /// JSON of [`record::Identity`].
    pub identity: Vec<u8>,
    /// What restart needs.
    pub restore: Option<Restore>,
    /// Mappings, by address.
    pub regions: Vec<Region>,
    /// Their names.
    pub names: Vec<u8>,
    /// Threads, the first one first.
    pub threads: Vec<Thread>,
    /// Notes of owner `CORE` or `LINUX` for debuggers: owner with its zero, type, bytes.
    pub debugger: Vec<(&'static [u8], u32, Vec<u8>)>,
    /// Plugin, name, bytes.
    pub sections: Vec<(String, String, Vec<u8>)>,
    /// Plugin, name, index into `extents`.
    pub blobs: Vec<(String, String, usize)>,
    /// What is stored, in the order of the file. The flag says that it is a blob.
    pub extents: Vec<(Source, bool)>,
    /// How memory is compressed.
    pub method: Method,
}

/// A laid-out image.
pub struct Plan {
    /// All bytes before the first extent.
    pub header: Vec<u8>,
    /// Where each extent's bytes come from and where in the file they go.
    pub extents: Vec<(Source, Extent)>,
    /// Room for the sums, filled by the writer.
    pub sums: Vec<u64>,
    /// Room for the trailer's bytes, filled by the writer.
    pub trailer: Vec<u8>,
    /// Where the trailer goes; of a compressed image, where the first frame goes.
    pub trailer_offset: u64,
    /// Length of the file; of a compressed image, the least that it can be.
    pub length: u64,
    /// How memory is compressed.
    pub method: Method,
    /// Room for the frames of a compressed image, filled by the writer.
    pub frames: Vec<Frame>,
    /// Where [`Format::length`] stands in the header: known at the end only, if the image is compressed.
    pub length_at: usize,
    /// Bytes of all extents: what a progress report counts to.
    pub bytes: u64,
}

const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PN_XNUM: usize = 0xffff;
/// Length of a note of ours before its bytes: three words, and the owner.
pub(crate) const NOTE: usize = 12 + record::OWNER.len().next_multiple_of(4);
/// Where the header has the offset of the trailer: the second program header's.
pub(crate) const TRAILER_AT: usize = EHDR + PHDR + 8;

/// Appends one ELF note.
pub fn push_note(out: &mut Vec<u8>, owner: &[u8], kind: u32, desc: &[u8]) {
    push_note_header(out, owner, kind, desc.len());
    out.extend_from_slice(desc);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn push_note_header(out: &mut Vec<u8>, owner: &[u8], kind: u32, length: usize) {
    out.extend_from_slice(&(owner.len() as u32).to_le_bytes());
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(owner);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn named(plugin: &str, name: &str, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + plugin.len() + name.len() + rest.len());
    out.extend_from_slice(&(plugin.len() as u32).to_le_bytes());
    out.extend_from_slice(&(name.len() as u32).to_le_bytes());
    out.extend_from_slice(plugin.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(rest);
    out
}

struct Load {
    address: u64,
    length: u64,
    offset: u64,
    stored: bool,
    prot: u32,
}

/// Program headers: the extents of each region and the gaps between them.
fn loads(contents: &Contents, extents: &[(Source, Extent)]) -> Vec<Load> {
    let plain = contents.method == Method::None;
    let mut loads = Vec::with_capacity(contents.regions.len());
    let mut memory = extents.iter().map(|(_, e)| e).filter(|e| e.address != 0).peekable();
    for region in &contents.regions {
        let mut at = region.start;
        while let Some(extent) = memory.peek().filter(|e| e.address < region.end) {
            if extent.address > at {
                loads.push(Load {
                    address: at,
                    length: extent.address - at,
                    offset: 0,
                    stored: false,
                    prot: region.prot,
                });
            }
            loads.push(Load {
                address: extent.address,
                length: extent.length,
                offset: extent.offset,
                stored: plain,
                prot: region.prot,
            });
            at = extent.address + extent.length;
            memory.next();
        }
        if at < region.end {
            loads.push(Load { address: at, length: region.end - at, offset: 0, stored: false, prot: region.prot });
        }
    }
    loads
}

fn program_header(kind: u32, flags: u32, offset: u64, address: u64, file: u64, memory: u64, align: u64) -> [u8; PHDR] {
    let mut out = [0u8; PHDR];
    out[0..4].copy_from_slice(&kind.to_le_bytes());
    out[4..8].copy_from_slice(&flags.to_le_bytes());
    for (i, field) in [offset, address, 0, file, memory, align].into_iter().enumerate() {
        out[8 + i * 8..16 + i * 8].copy_from_slice(&field.to_le_bytes());
    }
    out
}

impl Plan {
    /// Lays out an image. `contents.extents` of memory must be in the order of addresses and lie within regions.
    pub fn new(contents: &Contents) -> Self {
        let mut sums = 0u64;
        let mut bytes = 0u64;
        let mut extents: Vec<(Source, Extent)> = Vec::with_capacity(contents.extents.len());
        for &(source, blob) in &contents.extents {
            let address = if blob { 0 } else { source.address };
            extents.push((source, Extent { address, length: source.length, offset: 0, first_sum: sums }));
            sums += source.length.div_ceil(CHUNK);
            bytes += source.length;
        }
        let count = 2 + loads(contents, &extents).len();
        let sections = usize::from(count >= PN_XNUM);
        let notes_offset = EHDR + count * PHDR + sections * SHDR;

        // The notes' length does not depend on the offsets that they hold: build them once to measure, once for good.
        let codec = contents.method.number();
        let compressed = contents.method != Method::None;
        let mut format = Format { version: FORMAT_VERSION, page: PAGE as u32, sums, length: 0, codec, reserved: 0 };
        let notes_length = Self::notes(contents, &extents, &format).len();
        let mut at = ((notes_offset + notes_length) as u64).next_multiple_of(PAGE);
        for (_, extent) in extents.iter_mut().filter(|(_, extent)| !compressed || extent.address == 0) {
            extent.offset = at;
            at += extent.length.next_multiple_of(PAGE);
        }
        let trailer_offset = at;
        let mut trailer = Vec::new();
        push_note(&mut trailer, record::OWNER, note::SUMS, &vec![0u8; sums as usize * 8]);
        let frames = vec![Frame::default(); if compressed { sums as usize } else { 0 }];
        if compressed {
            push_note(&mut trailer, record::OWNER, note::FRAMES, bytemuck::cast_slice(&frames));
        }
        push_note(&mut trailer, record::OWNER, note::END, &[0u8; size_of::<record::End>()]);
        let length = trailer_offset + trailer.len() as u64;
        // Of a compressed image the writer puts both in at its end: until then the image is no image.
        let (told_length, told_trailer) = if compressed { (0, 0) } else { (length, trailer_offset) };
        format.length = told_length;
        let before_format: usize = contents
            .debugger
            .iter()
            .map(|(owner, _, desc)| 12 + owner.len().next_multiple_of(4) + desc.len().next_multiple_of(4))
            .sum();
        let length_at = notes_offset + before_format + NOTE + std::mem::offset_of!(Format, length);

        let mut header = Self::elf_header(count);
        header.extend_from_slice(&program_header(PT_NOTE, 4, notes_offset as u64, 0, notes_length as u64, 0, 4));
        header.extend_from_slice(&program_header(PT_NOTE, 4, told_trailer, 0, trailer.len() as u64, 0, 4));
        for load in loads(contents, &extents) {
            let flags = (load.prot & 1) << 2 | (load.prot & 2) | (load.prot & 4) >> 2;
            let file = if load.stored { load.length } else { 0 };
            let align = PAGE;
            header.extend_from_slice(&program_header(
                PT_LOAD,
                flags,
                load.offset,
                load.address,
                file,
                load.length,
                align,
            ));
        }
        if sections == 1 {
            let mut section = [0u8; SHDR];
            section[44..48].copy_from_slice(&(count as u32).to_le_bytes());
            header.extend_from_slice(&section);
        }
        header.extend_from_slice(&Self::notes(contents, &extents, &format));
        header.resize(header.len().next_multiple_of(PAGE as usize), 0);
        let method = contents.method;
        let sums = vec![0; sums as usize];
        Self { header, extents, sums, trailer, trailer_offset, length, method, frames, length_at, bytes }
    }

    fn elf_header(count: usize) -> Vec<u8> {
        let mut out = vec![0u8; EHDR];
        out[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        out[16..18].copy_from_slice(&4u16.to_le_bytes()); // ET_CORE
        out[18..20].copy_from_slice(&62u16.to_le_bytes()); // EM_X86_64
        out[20..24].copy_from_slice(&1u32.to_le_bytes());
        out[32..40].copy_from_slice(&(EHDR as u64).to_le_bytes());
        out[52..54].copy_from_slice(&(EHDR as u16).to_le_bytes());
        out[54..56].copy_from_slice(&(PHDR as u16).to_le_bytes());
        if count >= PN_XNUM {
            out[40..48].copy_from_slice(&((EHDR + count * PHDR) as u64).to_le_bytes());
            out[56..58].copy_from_slice(&(PN_XNUM as u16).to_le_bytes());
            out[58..60].copy_from_slice(&(SHDR as u16).to_le_bytes());
            out[60..62].copy_from_slice(&1u16.to_le_bytes());
        } else {
            out[56..58].copy_from_slice(&(count as u16).to_le_bytes());
        }
        out
    }

    fn notes(contents: &Contents, extents: &[(Source, Extent)], format: &Format) -> Vec<u8> {
        let mut out = Vec::new();
        for (owner, kind, desc) in &contents.debugger {
            push_note(&mut out, owner, *kind, desc);
        }
        let mut ours = |kind, desc: &[u8]| push_note(&mut out, record::OWNER, kind, desc);
        ours(note::FORMAT, bytemuck::bytes_of(format));
        ours(note::IDENTITY, &contents.identity);
        if let Some(restore) = &contents.restore {
            ours(note::RESTORE, bytemuck::bytes_of(restore));
        }
        ours(note::REGIONS, bytemuck::cast_slice(&contents.regions));
        ours(note::NAMES, &contents.names);
        let table: Vec<Extent> = extents.iter().map(|(_, e)| *e).collect();
        ours(note::EXTENTS, bytemuck::cast_slice(&table));
        ours(note::THREADS, bytemuck::cast_slice(&contents.threads));
        for (plugin, name, bytes) in &contents.sections {
            ours(note::SECTION, &named(plugin, name, bytes));
        }
        for (plugin, name, index) in &contents.blobs {
            let mut rest = (*index as u64).to_le_bytes().to_vec();
            rest.extend_from_slice(&extents[*index].0.length.to_le_bytes());
            ours(note::BLOB, &named(plugin, name, &rest));
        }
        out
    }
}
