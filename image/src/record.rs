//! The fixed-width records that image tables are made of, and the note types that carry them.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

/// Owner of our notes, with its terminating zero.
pub const OWNER: &[u8; 6] = b"DMTCP\0";

/// Note types of owner `DMTCP`. Above 0x4454_0000 because gdb decodes types of unknown owners as if they were its own.
pub mod note {
    /// [`super::Format`].
    pub const FORMAT: u32 = 0x4454_0001;
    /// JSON of [`super::Identity`].
    pub const IDENTITY: u32 = 0x4454_0002;
    /// [`super::Restore`].
    pub const RESTORE: u32 = 0x4454_0003;
    /// Array of [`super::Region`].
    pub const REGIONS: u32 = 0x4454_0004;
    /// The bytes that regions' names point into.
    pub const NAMES: u32 = 0x4454_0005;
    /// Array of [`super::Extent`].
    pub const EXTENTS: u32 = 0x4454_0006;
    /// Array of [`super::Thread`].
    pub const THREADS: u32 = 0x4454_0007;
    /// `plugin length u32 | name length u32 | plugin | name | bytes`: one section of a plugin.
    pub const SECTION: u32 = 0x4454_0008;
    /// `plugin length u32 | name length u32 | plugin | name | extent index u64 | length u64`: a blob.
    pub const BLOB: u32 = 0x4454_0009;
    /// Trailer: array of u64, one checksum per chunk, in the order of extents.
    pub const SUMS: u32 = 0x4454_0010;
    /// Trailer: [`super::End`].
    pub const END: u32 = 0x4454_0011;
    /// Trailer of a compressed image: array of [`super::Frame`], one per chunk, in the order of the checksums.
    pub const FRAMES: u32 = 0x4454_0012;
}

/// What the file is.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Format {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// [`crate::PAGE`].
    pub page: u32,
    /// Number of checksums in the trailer.
    pub sums: u64,
    /// Length of the whole file in bytes, trailer included.
    pub length: u64,
    /// One of [`codec`].
    pub codec: u32,
    /// Zero.
    pub reserved: u32,
}

/// How memory is stored. Blobs are always stored as they are.
pub mod codec {
    /// As it is, at the extents' offsets.
    pub const NONE: u32 = 0;
    /// Frames of raw deflate (RFC 1951).
    pub const DEFLATE: u32 = 1;
    /// Frames of LZ4 blocks.
    pub const LZ4: u32 = 2;
    /// Frames of Zstandard (RFC 8878).
    pub const ZSTD: u32 = 3;
}

/// Kinds of frame.
pub mod frame {
    /// The chunk is all zeros; nothing is stored.
    pub const ZERO: u32 = 0;
    /// The chunk as it is; what the file has no bytes for reads as zeros.
    pub const STORED: u32 = 1;
    /// By the image's codec.
    pub const COMPRESSED: u32 = 2;
}

/// Where one chunk is in a compressed image.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Frame {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub length: u32,
    /// One of [`frame`].
    pub kind: u32,
}

/// Kinds of region: how restart makes the mapping anew.
pub mod kind {
    /// Private memory without a file, the heap and the stacks included.
    pub const ANONYMOUS: u32 = 1;
    /// Private mapping of a file. Its bytes are in the image, so the file need not exist at restart.
    pub const PRIVATE_FILE: u32 = 2;
    /// Shared mapping that a plugin claimed: mapped from the descriptor that the plugin's restart half gives for `object`.
    pub const OBJECT: u32 = 3;
    /// The vdso. Its bytes are in the image, so that its symbols can be found again.
    pub const VDSO: u32 = 4;
    /// The kernel's data pages for the vdso; never stored.
    pub const VVAR: u32 = 5;
    /// Recreated without content (MAP_DROPPABLE).
    pub const EMPTY: u32 = 6;
    /// Shared memory that nobody claimed: comes back as a private copy.
    pub const ORPHAN: u32 = 7;
}

/// Bits of [`Region::flags`], from the VmFlags of smaps(5).
pub mod flag {
    /// `gd`: MAP_GROWSDOWN.
    pub const GROWSDOWN: u64 = 1 << 0;
    /// `nr`: MAP_NORESERVE.
    pub const NORESERVE: u64 = 1 << 1;
    /// `dd`: MADV_DONTDUMP.
    pub const DONTDUMP: u64 = 1 << 2;
    /// `dc`: MADV_DONTFORK.
    pub const DONTFORK: u64 = 1 << 3;
    /// `wf`: MADV_WIPEONFORK.
    pub const WIPEONFORK: u64 = 1 << 4;
    /// `hg`: MADV_HUGEPAGE.
    pub const HUGEPAGE: u64 = 1 << 5;
    /// `nh`: MADV_NOHUGEPAGE.
    pub const NOHUGEPAGE: u64 = 1 << 6;
    /// `lo`: mlock.
    pub const LOCKED: u64 = 1 << 7;
    /// `mg`: MADV_MERGEABLE.
    pub const MERGEABLE: u64 = 1 << 8;
    /// `rr`: MADV_RANDOM.
    pub const RANDOM: u64 = 1 << 9;
    /// `sr`: MADV_SEQUENTIAL.
    pub const SEQUENTIAL: u64 = 1 << 10;
    /// `dp`: MAP_DROPPABLE.
    pub const DROPPABLE: u64 = 1 << 11;
    /// `sl`: mseal.
    pub const SEALED: u64 = 1 << 12;
    /// `ht`: hugetlb pages.
    pub const HUGETLB: u64 = 1 << 13;
    /// `ac`: counted against the commit limit.
    pub const ACCOUNTED: u64 = 1 << 14;
    /// `sh`: may be shared (a MAP_SHARED mapping whose file was open for writing).
    pub const SHARED: u64 = 1 << 15;
    /// `mw`: may be made writable.
    pub const MAYWRITE: u64 = 1 << 16;
    /// `gu`: has guard pages inside.
    pub const GUARDS: u64 = 1 << 17;
    /// `um`, `uw`: registered with a userfaultfd.
    pub const USERFAULT: u64 = 1 << 18;
    /// `lf`: mlock2(MLOCK_ONFAULT).
    pub const LOCKONFAULT: u64 = 1 << 19;
    /// `ss`: shadow stack.
    pub const SHADOWSTACK: u64 = 1 << 20;
    /// Of 1 GiB, those hugetlb pages; else they are of 2 MiB.
    pub const GIGANTIC: u64 = 1 << 21;
}

/// One mapping of the process.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Offset into the mapped file or object.
    pub offset: u64,
    /// Inode of the mapped file, 0: none.
    pub inode: u64,
    /// The object that backs it ([`kind::OBJECT`]), as its plugin numbered it; else 0.
    pub object: u64,
    /// Bits of [`flag`].
    pub flags: u64,
    /// Device of the mapped file.
    pub dev_major: u32,
    /// Device of the mapped file.
    pub dev_minor: u32,
    /// PROT_READ | PROT_WRITE | PROT_EXEC as mmap(2) takes them.
    pub prot: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// Where the name starts in the NAMES note.
    pub name_offset: u32,
    /// Length of the name as in /proc/PID/maps: a path, `[heap]`, ... or nothing.
    pub name_length: u32,
}

/// A run of bytes in the file.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Extent {
    /// Address that the bytes belong at, 0: a blob. Page aligned.
    pub address: u64,
    /// Length in bytes. Of a blob, not rounded up to pages.
    pub length: u64,
    /// Where the bytes are. Page aligned. 0 for memory in a compressed image: the frames tell.
    pub offset: u64,
    /// Index of the first chunk's checksum; chunks count from the start of the extent.
    pub first_sum: u64,
}

/// One thread of the process.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Thread {
    /// Thread id, as the application knows it.
    pub tid: i32,
    /// 1: the checkpoint thread.
    pub role: u32,
    /// Address of its slot, the argument of [`Restore::enter_task`].
    pub slot: u64,
    /// Name as in /proc/PID/task/TID/comm, zero-filled.
    pub name: [u8; 16],
}

/// What restart needs to bring the memory to life.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Restore {
    /// `extern "C" fn(handoff: *const Handoff)`: called once, on the first task, when all memory stands. Returns.
    pub enter_process: u64,
    /// `extern "C" fn(slot: u64, handoff: *const Handoff) -> !`: called on each task after that.
    pub enter_task: u64,
    /// The fields of `struct prctl_mm_map` (prctl(2), PR_SET_MM_MAP) in its order, from `start_code` to `env_end`.
    pub mm: [u64; 11],
    /// Where the vdso was, 0: none.
    pub vdso_start: u64,
    /// Length of the vdso.
    pub vdso_length: u64,
    /// Where the vdso's data pages started, 0: none. They end where the vdso starts.
    pub vvar_start: u64,
    /// Length of the vdso's data pages.
    pub vvar_length: u64,
    /// Bits of XCR0: the processor's state components that are in use in the threads' frames.
    pub state_in_use: u64,
    /// Permitted dynamic CPU state (ARCH_GET_XCOMP_PERM).
    pub xcomp_perm: u64,
    /// Size of a signal frame's CPU state, the greatest of all threads.
    pub xstate_size: u64,
    /// personality(2) of the process.
    pub personality: u64,
}

/// Last note of the file.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct End {
    /// [`END_MAGIC`].
    pub magic: u64,
    /// Checksum of all bytes before the first extent.
    pub header_sum: u64,
    /// Checksum of the SUMS note's bytes; of a compressed image advanced by the FRAMES note's bytes at offset 0.
    pub sums_sum: u64,
    /// Length of the whole file.
    pub length: u64,
}

/// Shows that the file was written to its end.
pub const END_MAGIC: u64 = u64::from_le_bytes(*b"DMTCPEND");

/// Who the process is.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Identity {
    /// The computation, 32 hexadecimal digits.
    pub computation: String,
    /// The generation.
    pub generation: u64,
    /// How many processes the generation has.
    pub processes: u32,
    /// The process, 32 hexadecimal digits; the same in all its generations.
    pub process: String,
    /// Host that it ran on.
    pub host: String,
    /// Kernel release that it ran on.
    pub kernel: String,
    /// Pid as the application knows it.
    pub pid: i32,
    /// Parent's pid.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Name of the program, without its directory.
    pub program: String,
    /// Path of the executable.
    pub exe: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Directory that the next images go to.
    pub checkpoint_dir: String,
    /// Name of this image.
    pub image_name: String,
    /// Seconds since 1970 when it was taken.
    pub taken: u64,
    /// CLOCK_MONOTONIC when it was taken, in nanoseconds.
    pub monotonic: u64,
    /// CLOCK_BOOTTIME when it was taken, in nanoseconds; 0: unknown.
    #[serde(default)]
    pub boottime: u64,
    /// Whether monotonic time is to count the time between checkpoint and restart.
    #[serde(default)]
    pub clock_is_real: bool,
    /// Version of the core that took it.
    pub core_version: String,
    /// The plugins that were loaded, in their order.
    pub plugins: Vec<Plugin>,
    /// What programs may use of the processor, with the names of /proc/cpuinfo: [`crate::processor::features`].
    pub cpu_features: Vec<String>,
    /// Where the state components are in the threads' frames; empty: where they are on the machine that reads this.
    #[serde(default)]
    pub cpu_state: Vec<crate::processor::Component>,
}

/// A plugin that was loaded.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Plugin {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// File it was loaded from.
    pub path: String,
}
