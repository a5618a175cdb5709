//! The binary interface inside the process: `repr(C)` tables, nothing else.
//!
//! Compatibility: [`Plugin`] and [`Wrapper`] are frozen. [`CoreApi`] only grows at its end, and the core that a plugin
//! runs under may be newer than the plugin but not older than what the plugin asks for in [`Plugin::core_size`].

mod payload;

pub use payload::{
    CloseFd, DupFd, EXEC_STATE, InitPayload, OpenFd, PostExec, PreExec, RealToVirtualPath, ReopenFd, ThreadResume,
    VirtualToRealPath,
};

use crate::usage::Usage;
use std::ffi::{c_char, c_void};
use std::sync::atomic::AtomicUsize;

/// Version of the frozen tables; the core refuses others by name.
pub const ABI_VERSION: u32 = 1;
/// Symbol under which a plugin exports its [`Plugin`].
pub const PLUGIN_SYMBOL: &str = "dmtcp_plugin_v1";
/// What symbols of all versions begin with.
pub const PLUGIN_SYMBOL_PREFIX: &str = "dmtcp_plugin_v";
/// Symbol under which a plugin exports [`EventsOf`]. It may be missing.
pub const EVENTS_SYMBOL: &str = "dmtcp_plugin_events_v1";

/// Tells which events a plugin has hooks for: fills the array with their numbers, returns how many there are.
pub type EventsOf = unsafe extern "C" fn(into: *mut u32, room: usize) -> usize;

/// One wrapped function.
///
/// The plugin exports `symbol` as a stub that jumps to `*slot`. The core writes the head of the symbol's chain into every
/// stub's slot, and into every wrapper's `next` cell the wrapper after it, at last the real function.
#[repr(C)]
#[derive(Debug)]
pub struct Wrapper {
    /// Name of the function.
    pub symbol: *const c_char,
    /// Symbol version that the real function must have; null: the default one.
    pub version: *const c_char,
    /// The wrapper.
    pub function: *const c_void,
    /// The exported stub.
    pub stub: *const c_void,
    /// Where the stub jumps to; 0 until the core has wired it.
    pub slot: &'static AtomicUsize,
    /// What the wrapper calls as the next function; 0 until the core has wired it.
    pub next: &'static AtomicUsize,
    /// Smaller ones come first; then the plugin's priority decides, then its place on the command line.
    pub priority: i32,
    /// Zero.
    pub flags: u32,
}

// SAFETY: the pointers are to immutable statics of the plugin.
unsafe impl Sync for Wrapper {}

/// A run of wrappers.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WrapperList {
    /// Pointers to the wrappers, one after the other.
    pub first: *const &'static Wrapper,
    /// How many.
    pub count: usize,
}

// SAFETY: as for `Wrapper`.
unsafe impl Sync for WrapperList {}

/// Finds the definition of a symbol (name, version or null).
pub type NextSymbol = extern "C" fn(*const c_char, *const c_char) -> *const c_void;

/// What a plugin exports.
#[repr(C)]
#[derive(Debug)]
pub struct Plugin {
    /// [`ABI_VERSION`].
    pub abi: u32,
    /// `size_of::<Plugin>()`.
    pub size: u32,
    /// Smallest [`CoreApi::size`] that the plugin can work with.
    pub core_size: u32,
    /// Smaller ones come first.
    pub priority: i32,
    /// Name: what `--disable-plugin` takes.
    pub name: *const c_char,
    /// Version of the plugin.
    pub version: *const c_char,
    /// Null-terminated array of names of services that it cannot do without; may be null.
    pub requires: *const *const c_char,
    /// Wrapper lists.
    pub wrappers: *const WrapperList,
    /// How many lists.
    pub wrapper_lists: usize,
    /// The definition of a symbol (name, version or null) that comes after this plugin in the search order.
    pub next_symbol: NextSymbol,
    /// Called once, before any other function but stubs; offers services. Not 0: the plugin cannot work here.
    pub init: extern "C" fn(&'static CoreApi) -> i32,
    /// Called for each event. Unknown events give 0. Not 0: a hook has failed, and the event's work is not done; the reason
    /// went to [`CoreApi::fail`].
    pub on_event: extern "C" fn(event: u32, data: *mut c_void) -> i32,
}

// SAFETY: as for `Wrapper`.
unsafe impl Sync for Plugin {}

/// Events; the numbers are those of the original's plugin interface.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The core is ready; services can be looked up.
    Init = 0,
    /// The process ends by exit(3).
    Exit = 1,
    /// The program is about to be replaced: [`PreExec`].
    PreExec = 2,
    /// In the new program, after INIT: [`PostExec`].
    PostExec = 3,
    /// Before a fork, on the thread that forks.
    AtforkPrepare = 4,
    /// After a fork, in the parent.
    AtforkParent = 5,
    /// In a fork's child, before it joins the computation. The calling thread is its only one.
    AtforkChild = 6,
    /// In place of ATFORK_PARENT: there is no child.
    AtforkFailed = 7,
    /// As ATFORK_PREPARE, for vfork(2), which becomes a fork whose parent waits for the child.
    VforkPrepare = 8,
    /// As ATFORK_PARENT; the parent waits afterwards.
    VforkParent = 9,
    /// After ATFORK_CHILD, in a child that stands for a vfork's.
    VforkChild = 10,
    /// In place of VFORK_PARENT: there is no child.
    VforkFailed = 11,
    /// On a thread that begins.
    PthreadStart = 12,
    /// On a thread that calls pthread_exit.
    PthreadExit = 13,
    /// On a thread whose start routine has returned.
    PthreadReturn = 14,
    /// A checkpoint was asked for; the application still runs.
    PreSuspend = 15,
    /// All threads are stopped: claim, look, describe.
    PreCheckpoint = 16,
    /// The image is written (or given up): put back what was drained.
    Resume = 17,
    /// The process was recreated from its image.
    Restart = 18,
    /// The application runs again.
    Running = 19,
    /// On a thread that has come back by a restart, where it first calls one of certain functions: [`ThreadResume`].
    ThreadResume = 20,
    /// A file was opened: [`OpenFd`].
    OpenFd = 21,
    /// freopen(3): [`ReopenFd`].
    ReopenFd = 22,
    /// A descriptor is about to be closed: [`CloseFd`].
    CloseFd = 23,
    /// A descriptor was duplicated: [`DupFd`].
    DupFd = 24,
    /// The program names a path, and the file system is about to be asked: [`VirtualToRealPath`].
    VirtualToRealPath = 25,
    /// The file system has named a path, and the program is about to see it: [`RealToVirtualPath`].
    RealToVirtualPath = 26,
    /// After a restart, before RESTART: memory stands, and the calling thread still shares the application's table of
    /// descriptors. For what belongs to that table and any close would drop: POSIX locks. Open nothing.
    Placed = 100,
}

impl Event {
    /// All events, by number.
    pub const ALL: [Self; 28] = [
        Self::Init,
        Self::Exit,
        Self::PreExec,
        Self::PostExec,
        Self::AtforkPrepare,
        Self::AtforkParent,
        Self::AtforkChild,
        Self::AtforkFailed,
        Self::VforkPrepare,
        Self::VforkParent,
        Self::VforkChild,
        Self::VforkFailed,
        Self::PthreadStart,
        Self::PthreadExit,
        Self::PthreadReturn,
        Self::PreSuspend,
        Self::PreCheckpoint,
        Self::Resume,
        Self::Restart,
        Self::Running,
        Self::ThreadResume,
        Self::OpenFd,
        Self::ReopenFd,
        Self::CloseFd,
        Self::DupFd,
        Self::VirtualToRealPath,
        Self::RealToVirtualPath,
        Self::Placed,
    ];

    /// What the documentation calls it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Exit => "EXIT",
            Self::PreExec => "PRE_EXEC",
            Self::PostExec => "POST_EXEC",
            Self::PthreadStart => "PTHREAD_START",
            Self::PthreadExit => "PTHREAD_EXIT",
            Self::PthreadReturn => "PTHREAD_RETURN",
            Self::AtforkPrepare => "ATFORK_PREPARE",
            Self::AtforkParent => "ATFORK_PARENT",
            Self::AtforkChild => "ATFORKCHILD",
            Self::AtforkFailed => "ATFORK_FAILED",
            Self::VforkPrepare => "VFORK_PREPARE",
            Self::VforkParent => "VFORK_PARENT",
            Self::VforkChild => "VFORK_CHILD",
            Self::VforkFailed => "VFORK_FAILED",
            Self::PreSuspend => "PRESUSPEND",
            Self::PreCheckpoint => "PRECHECKPOINT",
            Self::Resume => "RESUME",
            Self::Restart => "RESTART",
            Self::Running => "RUNNING",
            Self::ThreadResume => "THREAD_RESUME",
            Self::OpenFd => "OPEN_FD",
            Self::ReopenFd => "REOPEN_FD",
            Self::CloseFd => "CLOSE_FD",
            Self::DupFd => "DUP_FD",
            Self::VirtualToRealPath => "VIRTUAL_TO_REAL_PATH",
            Self::RealToVirtualPath => "REAL_TO_VIRTUAL_PATH",
            Self::Placed => "PLACED",
        }
    }

    /// Whether hooks run in reverse: the plugin that is outermost before a checkpoint is so after it.
    pub const fn is_reverse(self) -> bool {
        matches!(
            self,
            Self::Exit
                | Self::AtforkParent
                | Self::AtforkChild
                | Self::AtforkFailed
                | Self::VforkParent
                | Self::VforkChild
                | Self::VforkFailed
                | Self::PthreadExit
                | Self::PthreadReturn
                | Self::Resume
                | Self::Restart
                | Self::ThreadResume
                | Self::RealToVirtualPath
        )
    }
}

/// A mapping as the core shows it to plugins.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MappingView {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Offset into the file.
    pub offset: u64,
    /// Inode, 0: none.
    pub inode: u64,
    /// Device.
    pub dev_major: u32,
    /// Device.
    pub dev_minor: u32,
    /// PROT_* bits.
    pub prot: u32,
    /// 1: MAP_SHARED.
    pub shared: u32,
    /// Bits of the image crate's `record::flag`.
    pub flags: u64,
    /// Name as in /proc/PID/maps, its escapes undone.
    pub name: *const u8,
    /// Its length.
    pub name_length: usize,
}

/// What the core offers. Append only.
#[repr(C)]
#[derive(Debug)]
pub struct CoreApi {
    /// `size_of::<CoreApi>()` of the core.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Writes a line to the log: level 0 error, 1 warning, 2 note, 3 trace; component; text.
    pub log: extern "C" fn(level: u32, component: *const u8, component_length: usize, text: *const u8, length: usize),
    /// Adds a section to the image that is being described: plugin, name, bytes (copied).
    pub section: extern "C" fn(*const u8, usize, *const u8, usize, *const u8, usize),
    /// Adds a blob: plugin, name, address and length of memory that stays unchanged until RESUME.
    pub blob: extern "C" fn(*const u8, usize, *const u8, usize, u64, u64),
    /// A number for a kernel object, unique in the process and its image.
    pub new_object: extern "C" fn() -> u64,
    /// Claims the mapping that starts here: at restart it is a MAP_SHARED mapping of `object` at `offset`.
    pub claim_mapping: extern "C" fn(start: u64, object: u64, offset: u64) -> bool,
    /// Calls back for each mapping of the process, by address.
    pub mappings: extern "C" fn(callback: extern "C" fn(*mut c_void, *const MappingView), context: *mut c_void),
    /// Reports a resource that no plugin claims; one sentence.
    pub unsupported: extern "C" fn(*const u8, usize),
    /// Gives up what is under way (launch, checkpoint, restart); one sentence.
    pub fail: extern "C" fn(*const u8, usize),
    /// Id of a live thread of the application: its /proc/self/task entry shows the application's descriptors. 0: none.
    pub application_task: extern "C" fn() -> i32,
    /// A copy of an application's descriptor in the calling thread's table (close it raw); negative errno on failure.
    pub copy_descriptor: extern "C" fn(number: i32) -> i32,
    /// Offers a table of functions to other plugins under a name; false: the name is taken.
    pub offer_service: extern "C" fn(name: *const c_char, table: *const c_void) -> bool,
    /// The table of a service; null: nobody offers it.
    pub find_service: extern "C" fn(name: *const c_char) -> *const c_void,
    /// Tids of the application's threads: fills the array, returns how many there are.
    pub threads: extern "C" fn(into: *mut i32, room: usize) -> usize,
    /// Value of a variable in the environment of dmtcp_restart: copied with its zero; its length, or -1 (not set), -2 (no room).
    pub restart_environment: extern "C" fn(name: *const c_char, into: *mut c_char, room: usize) -> isize,
    /// Directory of the next image: copied with its zero; its length, or -1 (not known yet), -2 (no room).
    pub checkpoint_directory: extern "C" fn(into: *mut c_char, room: usize) -> isize,
    /// Says a sentence on the application's standard error, unless the user asked for quiet, and in the log.
    pub tell: extern "C" fn(*const u8, usize),
    /// Real pids of the processes on this host that take part in the generation, ascending, the own one among them: fills
    /// the array, returns how many there are.
    pub neighbours: extern "C" fn(into: *mut i32, room: usize) -> usize,
    /// Number of the generation under way, or of the last one; 0: there was none.
    pub generation: extern "C" fn() -> u64,
    /// Chooses the directory of the next image, at PRECHECKPOINT of this one; created if it is not there. False: it
    /// cannot be, and the user has been told.
    pub set_checkpoint_directory: extern "C" fn(*const u8, usize) -> bool,
    /// Works on a value of the computation; [`NameCall`] says how, [`named`] what came of it.
    pub name: extern "C" fn(*mut NameCall) -> u32,
    /// Comes to a barrier (name, whether for the own host only) and waits for the other processes. -1: all have come.
    /// Otherwise the length of the reason why not, which is copied as far as there is room.
    pub meet: extern "C" fn(*const u8, usize, host: bool, into: *mut u8, room: usize) -> isize,
    /// Keeps whole pages of private anonymous memory out of the image that is being described: start, length. After a
    /// restart they are there, filled with zeros.
    pub exclude: extern "C" fn(start: u64, length: u64),
    /// Whether any plugin asks for an event that wrappers find out, on the calling thread, now.
    pub wanted: extern "C" fn(event: u32) -> bool,
    /// Tells all plugins that ask for it of an event, with its payload.
    pub happened: extern "C" fn(event: u32, data: *mut c_void),
    /// After a restart: the process and each of its tasks, the checkpoint thread among them, by the id that the image has
    /// and the id that it has now. Fills the array, returns how many there are.
    pub tasks: extern "C" fn(into: *mut [i32; 2], room: usize) -> usize,
    /// Whether any plugin asks for an event that wrappers find out, whoever calls.
    pub asked: extern "C" fn(event: u32) -> bool,
    /// For who has system calls trapped that are made outside of this code: from now on the core makes its own by the
    /// instruction at `gate` ([`crate::sys::gate`]), and leaves these signals unblocked, whatever the program asks for. An end
    /// of 0: nothing is trapped.
    pub divert: extern "C" fn(gate: usize, start: u64, end: u64, signals: u64),
    /// Has each thread of the application, all of which are stopped, call this; it gets the `ucontext_t` that the thread will
    /// go on with.
    pub in_each_thread: extern "C" fn(function: extern "C" fn(*mut c_void)),
    /// What a thread of the application, which is stopped, had used when it stopped, and, at RESTART, when it had come
    /// back. False: there is no such thread.
    pub thread_usage: extern "C" fn(tid: i32, into: *mut [Usage; 2]) -> bool,
    /// Sets a variable in the environment of whatever the process executes from now on: name, value. Its children inherit
    /// it.
    pub carry: extern "C" fn(*const u8, usize, *const u8, usize),
}

/// Work on a value of the computation.
#[repr(C)]
#[derive(Debug)]
pub struct NameCall {
    /// Database.
    pub database: *const u8,
    /// Its length.
    pub database_length: usize,
    /// Key.
    pub key: *const u8,
    /// Its length.
    pub key_length: usize,
    /// One of [`operation`].
    pub operation: u32,
    /// Zero.
    pub reserved: u32,
    /// What a number is changed by.
    pub number: i64,
    /// New value of `SET`.
    pub value: *const u8,
    /// Its length.
    pub value_length: usize,
    /// Where the value before goes, or the reason why there is none; as far as there is room.
    pub into: *mut u8,
    /// Bytes that there is room for.
    pub room: usize,
    /// How long it is.
    pub length: usize,
}

/// What to do to a value: the numbers of the original's requests.
pub mod operation {
    /// Nothing.
    pub const GET: u32 = 0;
    /// It becomes `value`.
    pub const SET: u32 = 1;
    /// `number` is added.
    pub const ADD: u32 = 2;
    /// The bits that `number` has, too.
    pub const AND: u32 = 3;
    /// The bits of `number` as well.
    pub const OR: u32 = 4;
    /// The bits that only one of them has.
    pub const XOR: u32 = 5;
    /// The smaller one.
    pub const MIN: u32 = 6;
    /// The greater one.
    pub const MAX: u32 = 7;
}

/// What came of work on a value.
pub mod named {
    /// Done; this was the value before.
    pub const WAS: u32 = 0;
    /// Done; there was no value before.
    pub const NEW: u32 = 1;
    /// Nobody has set anything in this database.
    pub const NO_DATABASE: u32 = 2;
    /// Nobody has set this key.
    pub const NO_KEY: u32 = 3;
    /// It cannot be carried out.
    pub const INVALID: u32 = 4;
    /// Nobody answers.
    pub const FAILED: u32 = 5;
}
