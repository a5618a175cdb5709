//! What the in-process half writes and the restart half reads.

use dmtcp_plugin_api::byte_text::ByteText;
use dmtcp_plugin_api::content::Content;
use serde::{Deserialize, Serialize};

/// Section [`Descriptors::SECTION`]: the table of numbers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Descriptors {
    /// Every descriptor number of the process, ascending.
    pub numbers: Vec<Number>,
    /// The open file descriptions behind them.
    pub objects: Vec<Object>,
}

impl Descriptors {
    /// Name of the section.
    pub const SECTION: &str = "descriptors";
}

/// A descriptor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number {
    /// The number.
    pub number: i32,
    /// What it refers to.
    pub object: u64,
    /// FD_CLOEXEC.
    pub close_on_exec: bool,
}

/// An open file description.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Object {
    /// Its number.
    pub object: u64,
    /// Text of its link in /proc/PID/fd.
    pub link: ByteText,
    /// Plugin that saved it; nothing if none did.
    pub owner: Option<String>,
}

/// Section [`Pipes::SECTION`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Pipes {
    /// One entry per pipe, however many ends it has.
    pub pipes: Vec<Pipe>,
}

impl Pipes {
    /// Name of the section.
    pub const SECTION: &str = "pipes";
}

/// A pipe.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pipe {
    /// Device and inode while it was saved; only tells pipes apart.
    pub identity: (u64, u64),
    /// F_GETPIPE_SZ.
    pub capacity: u64,
    /// The ends that the process holds.
    pub ends: Vec<End>,
    /// Name of the blob with the bytes in flight.
    pub blob: Option<String>,
    /// Length of each packet in flight, for a pipe that a writer put into packet mode; else nothing.
    pub packets: Vec<u64>,
    /// Path and mode of a FIFO.
    pub fifo: Option<Fifo>,
}

/// What a FIFO has beyond a pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fifo {
    /// Where it is.
    pub path: ByteText,
    /// Its permissions.
    pub mode: u32,
    /// It had been unlinked.
    pub unlinked: bool,
    /// Nobody has written since it was opened for reading: that is no end of file, which poll(2) would tell.
    #[serde(default)]
    pub awaits_writer: bool,
}

/// An end of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its object number.
    pub object: u64,
    /// F_GETFL.
    pub flags: i32,
}

impl End {
    /// Whether bytes can be read from it.
    pub fn reads(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_WRONLY
    }

    /// Whether bytes can be written to it.
    pub fn writes(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_RDONLY
    }
}

/// Section [`Shared::SECTION`], in the image of one process for all of a host.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Shared {
    /// Each one open file description that more than one process holds.
    pub groups: Vec<Vec<Holder>>,
}

impl Shared {
    /// Name of the section.
    pub const SECTION: &str = "shared";
}

/// A descriptor number of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// The process, by the id that its image has.
    pub pid: i32,
    /// Its number.
    pub number: i32,
}

/// Section [`SharedMemory::SECTION`]: shared memory without a file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SharedMemory {
    /// One entry per object.
    pub objects: Vec<SharedObject>,
}

/// Shared memory that one or more processes map.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SharedObject {
    /// Device (major, minor) and inode while it was saved; only tells objects apart.
    pub identity: (u32, u32, u64),
    /// What the process sees of it.
    pub content: Content,
}

impl SharedMemory {
    /// Name of the section.
    pub const SECTION: &str = "shared-memory";
    /// Name of the memfd that stands in for such an object after a restart.
    pub const MEMFD: &str = "dmtcp-shared";
}
