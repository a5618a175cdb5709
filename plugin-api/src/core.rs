//! The safe face of [`crate::abi::CoreApi`] for in-process halves.

use crate::abi::{CoreApi, Event, InitPayload, MappingView};
use crate::guard;
use crate::usage::Usage;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// What a plugin asks of the core. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    api: &'static CoreApi,
    plugin: &'static str,
}

/// A hook that `hook!` registered.
#[derive(Debug)]
pub struct Hook {
    /// When it runs.
    pub event: Event,
    /// Smaller ones first before a checkpoint, last after it.
    pub priority: i32,
    /// What runs. The pointer is the event's payload.
    pub run: fn(Core, *mut c_void),
}

inventory::collect!(Hook);

/// A mapping of the process.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The fields as the core has them; `name` points nowhere any more.
    pub view: MappingView,
    /// Name as in /proc/PID/maps, its escapes undone.
    pub name: Vec<u8>,
}

impl Mapping {
    /// Whether it is or can be made writable: a shared mapping of a file is if the file was open for writing.
    pub fn may_write(&self) -> bool {
        /// `MAYWRITE` of the image crate's `record::flag`.
        const MAY_WRITE: u64 = 1 << 16;
        self.view.flags & MAY_WRITE != 0
    }

    /// Whether it shows this file. A directory entry's status is compared as fstat(2) gives it.
    pub fn shows(&self, status: &libc::stat) -> bool {
        let device = (libc::major(status.st_dev), libc::minor(status.st_dev));
        self.view.inode == status.st_ino && (self.view.dev_major, self.view.dev_minor) == device
    }
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error = 0,
    /// Something may surprise the user.
    Warning = 1,
    /// Something that the user may want to know.
    Note = 2,
    /// For debugging.
    Trace = 3,
}

static API: AtomicPtr<CoreApi> = AtomicPtr::new(std::ptr::null_mut());
static NAME: AtomicPtr<&'static str> = AtomicPtr::new(std::ptr::null_mut());

/// Keeps the core's table; called by the function that `plugin!` exports as `init`.
pub fn attach(api: &'static CoreApi, plugin: &'static str, init: fn(Core) -> bool) -> bool {
    NAME.store(Box::leak(Box::new(plugin)), Ordering::Release);
    API.store(std::ptr::from_ref(api).cast_mut(), Ordering::Release);
    let core = Core { api, plugin };
    // What is wrong is said by `init`; a panic is said here.
    guard::run(|| init(core)).unwrap_or_else(|reason| {
        core.fail(&reason);
        false
    })
}

/// The core, once this plugin has been initialised.
pub fn core() -> Option<Core> {
    let api = API.load(Ordering::Acquire);
    let name = NAME.load(Ordering::Acquire);
    // SAFETY: both point to statics, or to a leaked box, and are set by `attach` in this order before use.
    (!api.is_null() && !name.is_null()).then(|| unsafe { Core { api: &*api, plugin: *name } })
}

/// Runs this plugin's hooks of an event; exported by `plugin!` as `on_event`. Not 0: one of them has panicked, now or before.
pub extern "C" fn dispatch(event: u32, data: *mut c_void) -> i32 {
    let Some(event) = Event::ALL.into_iter().find(|e| *e as u32 == event) else { return 0 };
    let Some(core) = core() else { return 1 };
    if event == Event::AtforkChild {
        crate::arena::after_fork();
    }
    if event == Event::Init && !data.is_null() {
        // SAFETY: the payload of INIT is an `InitPayload`.
        let payload = unsafe { &*data.cast::<InitPayload>() };
        crate::arena::set_checkpoint_stack(payload.stack_low, payload.stack_high);
    }
    // A plugin that is out of order may have left something undone: there is no checkpoint with it any more.
    if let (Event::PreSuspend, Some(reason)) = (event, guard::broken()) {
        core.fail(&format!("a hook {reason}"));
        return 1;
    }
    let of_event = || inventory::iter::<Hook>.into_iter().filter(|h| h.event == event);
    // A vector would be the first thing that many a short-lived process allocates.
    if of_event().next().is_none() {
        return 0;
    }
    let mut hooks: Vec<&Hook> = of_event().collect();
    hooks.sort_by_key(|h| h.priority);
    if event.is_reverse() {
        hooks.reverse();
    }
    for hook in hooks {
        if let Err(reason) = guard::run(|| (hook.run)(core, data)) {
            core.fail(&format!("a hook {reason}"));
            return 1;
        }
    }
    0
}

/// Numbers of the events that this plugin has hooks for, ascending: fills the array, returns how many there are. Exported
/// by `plugin!` for whoever lists plugins.
///
/// # Safety
/// `into` must have room for `room` numbers.
pub unsafe extern "C" fn events(into: *mut u32, room: usize) -> usize {
    let numbers = inventory::iter::<Hook>.into_iter().map(|hook| hook.event as u32);
    let mut count = 0;
    let mut above = None;
    // The least of those that are above the last one, without allocating: each program that starts is asked.
    while let Some(next) = numbers.clone().filter(|number| above.is_none_or(|last| *number > last)).min() {
        if count < room {
            // SAFETY: `count` is below `room`.
            unsafe { into.add(count).write(next) };
        }
        (count, above) = (count + 1, Some(next));
    }
    count
}

extern "C" fn collect_mapping(context: *mut c_void, view: *const MappingView) {
    // SAFETY: `context` is the vector that `mappings` passes; the view lives for the duration of this call.
    unsafe {
        let view = *view;
        let name = std::slice::from_raw_parts(view.name, view.name_length).to_vec();
        (*context.cast::<Vec<Mapping>>()).push(Mapping { view, name });
    }
}

impl Core {
    /// The table behind this handle.
    pub(crate) fn api(&self) -> &'static CoreApi {
        self.api
    }

    /// The plugin that this handle speaks for.
    pub fn plugin(&self) -> &'static str {
        self.plugin
    }

    /// Writes a line to the log.
    pub fn log(&self, level: Level, text: &str) {
        (self.api.log)(level as u32, self.plugin.as_ptr(), self.plugin.len(), text.as_ptr(), text.len());
    }

    /// Adds a section to the image that is being described.
    pub fn section(&self, name: &str, bytes: &[u8]) {
        let p = self.plugin;
        (self.api.section)(p.as_ptr(), p.len(), name.as_ptr(), name.len(), bytes.as_ptr(), bytes.len());
    }

    /// Adds a section in JSON.
    pub fn json<T: serde::Serialize>(&self, name: &str, value: &T) {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.section(name, &bytes),
            Err(e) => self.fail(&format!("plugin {}: section '{name}' does not encode: {e}", self.plugin)),
        }
    }

    /// Adds a blob: memory that stays unchanged until RESUME.
    pub fn blob(&self, name: &str, address: u64, length: u64) {
        let p = self.plugin;
        (self.api.blob)(p.as_ptr(), p.len(), name.as_ptr(), name.len(), address, length);
    }

    /// Keeps memory out of the image that is being described: the whole pages of it that are private and anonymous. After
    /// a restart they are there, filled with zeros. For caches, and for what nobody may find on a disk.
    pub fn exclude(&self, start: u64, length: u64) {
        (self.api.exclude)(start, length);
    }

    /// Whether any plugin asks for an event that only wrappers find out, on the calling thread, now.
    pub fn wanted(&self, event: Event) -> bool {
        (self.api.wanted)(event as u32)
    }

    /// Whether any plugin asks for an event that only wrappers find out, on whatever thread. For hooks.
    pub fn asked(&self, event: Event) -> bool {
        (self.api.asked)(event as u32)
    }

    /// Tells all plugins that ask for it of an event, with its payload (`abi`; null if it has none).
    pub fn happened(&self, event: Event, payload: *mut c_void) {
        (self.api.happened)(event as u32, payload);
    }

    /// A number for a kernel object, unique in the process and its image.
    pub fn new_object(&self) -> u64 {
        (self.api.new_object)()
    }

    /// Claims the mapping that starts at this address: at restart it is a shared mapping of `object` at `offset`.
    pub fn claim_mapping(&self, start: u64, object: u64, offset: u64) -> bool {
        (self.api.claim_mapping)(start, object, offset)
    }

    /// The mappings of the process, by address.
    pub fn mappings(&self) -> Vec<Mapping> {
        let mut out: Vec<Mapping> = Vec::new();
        (self.api.mappings)(collect_mapping, std::ptr::from_mut(&mut out).cast());
        out
    }

    /// Reports a resource that no plugin claims.
    pub fn unsupported(&self, text: &str) {
        (self.api.unsupported)(text.as_ptr(), text.len());
    }

    /// Gives up what is under way, for a reason that the user is told: at INIT the launch, at PRESUSPEND and PRECHECKPOINT
    /// the checkpoint, at RESTART the restart. The first reason counts.
    pub fn fail(&self, text: &str) {
        (self.api.fail)(text.as_ptr(), text.len());
    }

    /// Id of a live thread of the application: its /proc/self/task entry shows the application's descriptors.
    pub fn application_task(&self) -> i32 {
        (self.api.application_task)()
    }

    /// A copy of an application's descriptor in the calling thread's table; it closes itself.
    pub fn copy_descriptor(&self, number: i32) -> Result<crate::sys::Fd, i32> {
        match (self.api.copy_descriptor)(number) {
            fd if fd >= 0 => Ok(crate::sys::Fd::own(fd)),
            error => Err(-error),
        }
    }

    /// Offers a table of functions to other plugins.
    pub fn offer_service<T>(&self, name: &CStr, table: &'static T) -> bool {
        (self.api.offer_service)(name.as_ptr(), std::ptr::from_ref(table).cast())
    }

    /// The table of a service.
    ///
    /// # Safety
    /// `T` must be the type that the service of this name is documented to have.
    pub unsafe fn find_service<T>(&self, name: &CStr) -> Option<&'static T> {
        let table = (self.api.find_service)(name.as_ptr()).cast::<T>();
        // SAFETY: services are offered as statics; the caller vouches for the type.
        (!table.is_null()).then(|| unsafe { &*table })
    }

    /// Real pids of the processes on this host that take part in the generation, ascending, the own one among them.
    pub fn neighbours(&self) -> Vec<i32> {
        let mut out = vec![0; (self.api.neighbours)(std::ptr::null_mut(), 0)];
        let count = (self.api.neighbours)(out.as_mut_ptr(), out.len());
        out.truncate(count);
        out
    }

    /// Tids of the application's threads.
    pub fn threads(&self) -> Vec<i32> {
        let mut out = vec![0; (self.api.threads)(std::ptr::null_mut(), 0)];
        let count = (self.api.threads)(out.as_mut_ptr(), out.len());
        out.truncate(count);
        out
    }

    /// After a restart: the process and each of its tasks, by the id that the image has and the id that it has now.
    pub fn tasks(&self) -> Vec<[i32; 2]> {
        let mut out = vec![[0; 2]; (self.api.tasks)(std::ptr::null_mut(), 0)];
        let count = (self.api.tasks)(out.as_mut_ptr(), out.len());
        out.truncate(count);
        out
    }

    /// Tells the core that calls are trapped which are made outside of this code: its own go by the `syscall; ret` at `gate`,
    /// and these signals stay unblocked. An end of 0: nothing is trapped.
    ///
    /// # Safety
    /// As for [`crate::sys::gate::set`].
    pub unsafe fn divert(&self, gate: usize, start: u64, end: u64, signals: u64) {
        (self.api.divert)(gate, start, end, signals);
    }

    /// Has each thread of the application call this while all are stopped: at RESTART.
    pub fn in_each_thread(&self, function: extern "C" fn(*mut c_void)) {
        (self.api.in_each_thread)(function);
    }

    /// Sets a variable in the environment of whatever the process, or a child of it, executes from now on.
    pub fn carry(&self, name: &str, value: &str) {
        (self.api.carry)(name.as_ptr(), name.len(), value.as_ptr(), value.len());
    }

    /// What a thread of the application, which is stopped, had used when it stopped, and, at RESTART, when it had come back.
    pub fn thread_usage(&self, tid: i32) -> Option<[Usage; 2]> {
        let mut out = [Usage::default(); 2];
        (self.api.thread_usage)(tid, &raw mut out).then_some(out)
    }

    /// A variable in the environment of dmtcp_restart; `None`: not set there, or this is no restart.
    pub fn restart_environment(&self, name: &CStr) -> Option<Vec<u8>> {
        read_text(|into, room| (self.api.restart_environment)(name.as_ptr(), into, room))
    }

    /// Directory of the next image; `None` before the process is a member of a computation.
    pub fn checkpoint_directory(&self) -> Option<Vec<u8>> {
        read_text(|into, room| (self.api.checkpoint_directory)(into, room))
    }

    /// Chooses the directory of the next image, at PRECHECKPOINT of this one; created if it is not there. False: it cannot
    /// be, and the user has been told.
    pub fn set_checkpoint_directory(&self, path: &[u8]) -> bool {
        (self.api.set_checkpoint_directory)(path.as_ptr(), path.len())
    }

    /// Number of the generation under way, or of the last one; 0: there was none.
    pub fn generation(&self) -> u64 {
        (self.api.generation)()
    }

    /// Says a sentence to the user, on the application's standard error, and to the log.
    pub fn tell(&self, text: &str) {
        let text = format!("plugin {}: {text}", self.plugin);
        (self.api.tell)(text.as_ptr(), text.len());
    }
}

/// A text that the core copies: the call is repeated with more room while it says -2.
fn read_text(copy: impl Fn(*mut c_char, usize) -> isize) -> Option<Vec<u8>> {
    let mut out = vec![0u8; 256];
    loop {
        match copy(out.as_mut_ptr().cast(), out.len()) {
            -2 => out.resize(out.len() * 2, 0),
            length if length < 0 => return None,
            length => {
                out.truncate(length as usize);
                return Some(out);
            }
        }
    }
}
