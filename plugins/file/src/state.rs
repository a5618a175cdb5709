//! What the in-process half writes and the restart half reads.

use dmtcp_plugin_api::byte_text::ByteText;
use dmtcp_plugin_api::content::Content;
use serde::{Deserialize, Serialize};

/// Section [`Files::SECTION`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Files {
    /// Working directory; files below it may have moved with it.
    pub directory: ByteText,
    /// Open file descriptions, by their lowest number.
    pub opens: Vec<Open>,
    /// Files that no name leads to.
    pub nameless: Vec<Nameless>,
    /// What is mapped, beyond the nameless.
    pub mapped: Vec<Mapped>,
}

impl Files {
    /// Name of the section.
    pub const SECTION: &str = "files";
}

/// An open file description.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Open {
    /// Its object number.
    pub object: u64,
    /// The descriptor numbers that refer to it.
    pub numbers: Vec<i32>,
    /// F_GETFL.
    pub flags: i32,
    /// File offset.
    pub position: u64,
    /// What is open.
    pub what: What,
    /// What is locked through it.
    pub locks: Vec<Lock>,
}

impl Open {
    /// Lowest number.
    pub fn number(&self) -> i32 {
        self.numbers.first().copied().unwrap_or(-1)
    }

    /// Whether it can be written to.
    pub fn writes(&self) -> bool {
        self.flags & libc::O_PATH == 0 && matches!(self.flags & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR)
    }

    /// Whether it can only be written to.
    pub fn only_writes(&self) -> bool {
        self.flags & libc::O_PATH == 0 && self.flags & libc::O_ACCMODE == libc::O_WRONLY
    }
}

/// What is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Something that a path leads to.
    Named(Named),
    /// The nameless file whose content has this object number.
    Nameless(u64),
    /// A directory that was removed.
    RemovedDirectory(Named),
    /// A file or directory of a process in /proc: of this one the path below /proc/PID, of another one the whole path.
    OwnProc(ByteText),
    /// A terminal that this path led to.
    Terminal(ByteText),
    /// A standard stream whose other end is outside of the computation: this number of dmtcp_restart's.
    Inherited(i32),
}

/// Something that a path leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The path.
    pub path: ByteText,
    /// File type and mode.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
}

impl Named {
    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }
}

/// A file that no name leads to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nameless {
    /// Device and inode while it was saved: what processes say of one file belongs together.
    pub identity: (u64, u64),
    /// Its bytes.
    pub content: Content,
    /// What kind it is.
    pub origin: Origin,
    /// Permissions.
    pub mode: u32,
}

/// Kinds of nameless file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// It had this path once.
    Unlinked(ByteText),
    /// Made without a name (O_TMPFILE) in this directory.
    Temporary(ByteText),
    /// memfd_create(2): name, seals.
    Memfd(ByteText, i32),
}

/// A file as it is mapped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mapped {
    /// Its object number.
    pub object: u64,
    /// Whether the file was open for writing when it was mapped.
    pub writable: bool,
    /// The file.
    pub source: Source,
}

/// Where a mapping's bytes come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Source {
    /// The file that a path leads to, as it is at restart.
    Named(Named),
    /// The file that a path leads to; if it is gone by then, it is made anew with these bytes.
    Spare(Named, Content),
    /// Memory with a name (/dev/shm): the bytes are in the image and replace what is there.
    Memory(Named, Content),
    /// The nameless file whose content has this object number.
    Nameless(u64),
}

impl Source {
    /// Whether restoring it makes the file of this name, if it is not there.
    pub fn makes(&self, named: &Named) -> bool {
        matches!(self, Self::Memory(own, _) | Self::Spare(own, _) if own.path == named.path)
    }
}

/// A lock on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Kind.
    pub kind: LockKind,
    /// Exclusive.
    pub write: bool,
    /// First byte.
    pub start: u64,
    /// Last byte; nothing: to the end of the file, however far.
    pub end: Option<u64>,
}

impl Lock {
    /// Length in bytes as fcntl(2) takes it; 0: to the end.
    pub fn length(&self) -> u64 {
        self.end.map_or(0, |end| end - self.start + 1)
    }
}

/// Kinds of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockKind {
    /// flock(2).
    Flock,
    /// fcntl(F_SETLK): belongs to the process.
    Posix,
    /// fcntl(F_OFD_SETLK): belongs to the open file description.
    Description,
    /// fcntl(F_SETLEASE).
    Lease,
}
