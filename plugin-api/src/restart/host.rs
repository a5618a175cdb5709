//! What the restarter offers to restart halves: a table of functions, append-only, and its safe face.

use abi_stable::StableAbi;
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// Borrowed bytes that cross the boundary.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// First byte; null if there is nothing.
    pub start: *const u8,
    /// Number of bytes.
    pub length: usize,
}

impl Text {
    /// Nothing, as opposed to an empty text.
    pub const NONE: Self = Self { start: std::ptr::null(), length: 0 };

    /// Borrows a slice for the duration of a call.
    pub fn of(bytes: &[u8]) -> Self {
        Self { start: bytes.as_ptr(), length: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    /// `start` must be null or point to `length` bytes that live and do not change for `'a`.
    pub unsafe fn bytes<'a>(self) -> Option<&'a [u8]> {
        if self.start.is_null() {
            return None;
        }
        // SAFETY: the caller's promise.
        Some(unsafe { std::slice::from_raw_parts(self.start, self.length) })
    }
}

/// A process that is to be restored.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Pid as the application knows it.
    pub pid: i32,
    /// Its parent's.
    pub ppid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
}

/// A child that had ended and that its parent had not waited for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedChild {
    /// Its pid.
    pub pid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
    /// Its wait status, as wait(2) gives it.
    pub status: i32,
}

/// Where a blob's bytes are.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlobAt {
    /// Descriptor of the image; borrowed. -1: there is no such blob.
    pub image: RawFd,
    /// Offset in the image.
    pub offset: u64,
    /// Length in bytes. Holes in the file are zeros.
    pub length: u64,
}

/// The functions themselves. Fields are only ever appended; `size` tells a plugin how many there are.
#[repr(C)]
#[derive(Debug)]
pub struct HostTable {
    /// `size_of::<HostTable>()` of the program.
    pub size: usize,
    /// First argument of all functions.
    pub context: *mut (),
    /// Number of processes to restore on this host.
    pub process_count: extern "C" fn(*mut ()) -> u32,
    /// Process number so and so.
    pub process: extern "C" fn(*mut (), u32, *mut Process) -> bool,
    /// The calling plugin's section of a process; borrowed from the program for as long as it runs.
    pub section: extern "C" fn(*mut (), u32, Text) -> Text,
    /// The calling plugin's blob of a process.
    pub blob: extern "C" fn(*mut (), u32, Text) -> BlobAt,
    /// Hands a created object to all plugins; the descriptor then belongs to the program.
    pub provide: extern "C" fn(*mut (), u64, RawFd),
    /// The descriptor of an object in the calling process, -1: nobody provided it. Borrowed; may move at `keep_clear`.
    pub object: extern "C" fn(*mut (), u64) -> RawFd,
    /// The program moves its own descriptors and all objects in the calling process off these numbers.
    pub keep_clear: extern "C" fn(*mut (), *const RawFd, usize) -> bool,
    /// A descriptor that dmtcp_restart was started with (0, 1, 2), as a borrowed copy; -1: it was closed.
    pub inherited: extern "C" fn(*mut (), RawFd) -> RawFd,
    /// Asks that a process be made with these ids: pid first, then its other tids.
    pub want_ids: extern "C" fn(*mut (), u32, *const i32, usize),
    /// Tells the user something that does not keep the restart from working.
    pub warn: extern "C" fn(*mut (), Text),
    /// A file path as it is to be used here (path mappings applied); result as `section`.
    pub path: extern "C" fn(*mut (), Text) -> Text,
    /// The process' group or session has this id, and its leader had ended.
    pub leaderless: extern "C" fn(*mut (), u32, i32),
    /// The process had this ended child.
    pub ended_child: extern "C" fn(*mut (), u32, EndedChild),
    /// The group with this id was in the foreground of the process' terminal.
    pub foreground: extern "C" fn(*mut (), u32, i32),
    /// This object is an empty table of ids ([`crate::ids`]), which the program fills if ids are to be translated.
    pub id_table: extern "C" fn(*mut (), u64),
    /// The parent of the process, or of its ended child, gets this signal at its end, 0: none. The second number is the pid.
    pub exit_signal: extern "C" fn(*mut (), u32, i32, i32),
    /// The kernel's id of the process with this virtual id, 0: it is not restarted here.
    pub real_id: extern "C" fn(*mut (), i32) -> i32,
}

/// A pointer to a [`HostTable`] in the shape that the layout check of `abi_stable` accepts.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct HostRef(*const ());

impl HostRef {
    /// Wraps a table; the plugin may use it until the call that it is an argument of returns.
    pub fn new(table: &HostTable) -> Self {
        Self(std::ptr::from_ref(table).cast())
    }
}

/// The safe face of [`HostTable`].
#[derive(Debug)]
pub struct Host<'a> {
    table: &'a HostTable,
    _not_sync: PhantomData<*const ()>,
}

impl Host<'_> {
    /// The host behind a reference that the program passed.
    ///
    /// # Safety
    /// `reference` must come from [`HostRef::new`] with a table that lives for `'a`.
    pub unsafe fn from_ref<'a>(reference: HostRef) -> Host<'a> {
        // SAFETY: the caller's promise; the table is never modified while plugins see it.
        Host { table: unsafe { &*reference.0.cast::<HostTable>() }, _not_sync: PhantomData }
    }

    /// Number of processes to restore on this host.
    pub fn process_count(&self) -> u32 {
        (self.table.process_count)(self.table.context)
    }

    /// Ids of process `index`.
    pub fn process(&self, index: u32) -> Option<Process> {
        let mut out = Process::default();
        (self.table.process)(self.table.context, index, &raw mut out).then_some(out)
    }

    /// This plugin's section of a process.
    pub fn section(&self, index: u32, name: &str) -> Option<&[u8]> {
        let text = (self.table.section)(self.table.context, index, Text::of(name.as_bytes()));
        // SAFETY: the table promises bytes that live as long as the program runs.
        unsafe { text.bytes() }
    }

    /// This plugin's section of a process, decoded from JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self, index: u32, name: &str) -> Result<Option<T>, String> {
        let Some(bytes) = self.section(index, name) else { return Ok(None) };
        serde_json::from_slice(bytes)
            .map(Some)
            .map_err(|e| format!("section '{name}' of the image does not parse: {e}"))
    }

    /// This plugin's blob of a process.
    pub fn blob(&self, index: u32, name: &str) -> Option<BlobAt> {
        let at = (self.table.blob)(self.table.context, index, Text::of(name.as_bytes()));
        (at.image >= 0).then_some(at)
    }

    /// Hands a created object to all plugins.
    pub fn provide(&self, object: u64, descriptor: OwnedFd) {
        (self.table.provide)(self.table.context, object, descriptor.into_raw_fd());
    }

    /// The descriptor of an object in the calling process.
    pub fn object(&self, object: u64) -> Option<BorrowedFd<'_>> {
        let fd = (self.table.object)(self.table.context, object);
        // SAFETY: the program keeps objects open until all plugins have placed theirs.
        (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Moves everything of the program's off these descriptor numbers in the calling process.
    pub fn keep_clear(&self, numbers: &[RawFd]) -> Result<(), String> {
        (self.table.keep_clear)(self.table.context, numbers.as_ptr(), numbers.len())
            .then_some(())
            .ok_or_else(|| "too few descriptors are allowed: raise the hard limit (ulimit -Hn)".into())
    }

    /// A descriptor that dmtcp_restart was started with.
    pub fn inherited(&self, number: RawFd) -> Option<BorrowedFd<'_>> {
        let fd = (self.table.inherited)(self.table.context, number);
        // SAFETY: the program keeps its copies of 0, 1 and 2 open until all plugins have placed theirs.
        (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Asks that a process be made with these ids: pid first, then its other tids.
    pub fn want_ids(&self, index: u32, ids: &[i32]) {
        (self.table.want_ids)(self.table.context, index, ids.as_ptr(), ids.len());
    }

    /// Says that the leader of the group or session with this id, which the process is in, had ended.
    pub fn leaderless(&self, index: u32, id: i32) {
        (self.table.leaderless)(self.table.context, index, id);
    }

    /// Asks that the process have this ended child again.
    pub fn ended_child(&self, index: u32, child: EndedChild) {
        (self.table.ended_child)(self.table.context, index, child);
    }

    /// Says that the group with this id was in the foreground of the process' controlling terminal.
    pub fn foreground(&self, index: u32, id: i32) {
        (self.table.foreground)(self.table.context, index, id);
    }

    /// Says which signal the parent of the process, or of its ended child, gets at its end; 0: none. Without a word it is
    /// SIGCHLD.
    pub fn exit_signal(&self, index: u32, pid: i32, signal: i32) {
        (self.table.exit_signal)(self.table.context, index, pid, signal);
    }

    /// The kernel's id of the process with this virtual id, once all processes are there: when descriptors are placed.
    /// `None`: it is not restarted here.
    pub fn real_id(&self, id: i32) -> Option<i32> {
        Some((self.table.real_id)(self.table.context, id)).filter(|real| *real > 0)
    }

    /// Says that this object, which was provided, is an empty table of ids ([`crate::ids`]): the program takes it into use
    /// if the processes cannot have the ids that they had.
    pub fn id_table(&self, object: u64) {
        (self.table.id_table)(self.table.context, object);
    }

    /// Tells the user something that does not keep the restart from working.
    pub fn warn(&self, text: &str) {
        (self.table.warn)(self.table.context, Text::of(text.as_bytes()));
    }

    /// A path from the image as it is to be used here.
    pub fn path(&self, path: &[u8]) -> Vec<u8> {
        let text = (self.table.path)(self.table.context, Text::of(path));
        // SAFETY: the table promises bytes that live as long as the program runs.
        unsafe { text.bytes() }.unwrap_or(path).to_vec()
    }
}
