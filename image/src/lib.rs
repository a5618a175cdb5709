//! The image: the file that holds one process. A valid ELF64 core, so that gdb, readelf and eu-stack open it.
//!
//! ```text
//!  0          ELF header, ET_CORE
//!  64         program headers: PT_NOTE (metadata), PT_NOTE (trailer), PT_LOAD ...
//!             (with 65535 or more of them: PN_XNUM and one section header that holds the count)
//!             metadata notes   owner CORE:  PRSTATUS, FPREGSET, X86_XSTATE per thread; PRPSINFO, AUXV, FILE
//!                              owner DMTCP: FORMAT, IDENTITY, RESTORE, REGIONS, NAMES, EXTENTS, THREADS, SECTION ...
//!  page       extents: the bytes of memory and of blobs, each at a page boundary, zero pages as holes;
//!             compressed: extents of blobs, then one frame per chunk of memory, close together
//!  page       trailer notes    owner DMTCP: SUMS, (compressed: FRAMES,) END
//! ```
//!
//! A *region* is a mapping of the process as it was; an *extent* is a run of its bytes in this file. What no extent
//! covers reads as zeros. A *blob* is an extent that belongs to a plugin's section and to no region.
//!
//! Everything is little-endian. Tables are arrays of the `repr(C)` records of [`record`], cast and not parsed; every
//! count, offset and length is checked against the file before use. `docs/image-format.md` has it all for a stranger.

pub mod codec;
pub mod expand;
pub mod plan;
pub mod processor;
pub mod read;
pub mod record;
pub mod sum;
pub mod write;

/// Version of the format; independent of the program's. A reader refuses a greater one by name.
pub const FORMAT_VERSION: u32 = 1;
/// Page size that the format assumes.
pub const PAGE: u64 = 4096;
/// Bytes that one checksum covers.
pub const CHUNK: u64 = 1 << 20;
