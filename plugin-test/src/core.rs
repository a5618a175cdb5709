//! The core's side: a table of functions that note what the plugin says, and answer what the test has set.

use crate::broker::{self, BROKER};
use crate::exchange;
use crate::image::Image;
use dmtcp_plugin_api::abi::{CoreApi, Event, InitPayload, MappingView, Plugin};
use dmtcp_plugin_api::core::Level;
use dmtcp_plugin_api::descriptors::{Claimer, SERVICE};
use dmtcp_plugin_api::usage::Usage;
use dmtcp_plugin_api::{proc_files, sys};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the fake core knows.
#[derive(Default)]
pub struct State {
    image: Image,
    objects: u64,
    generation: u64,
    services: BTreeMap<Vec<u8>, usize>,
    environment: BTreeMap<Vec<u8>, Vec<u8>>,
    directory: Option<Vec<u8>>,
    /// Database, key, value.
    pub values: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub claimers: Vec<&'static Claimer>,
}

impl State {
    pub fn new_object(&mut self) -> u64 {
        self.objects += 1;
        u64::from(std::process::id()) << 32 | self.objects
    }
}

static STATE: Mutex<Option<State>> = Mutex::new(None);
/// Held by the one [`FakeCore`] that there is.
static TURN: Mutex<()> = Mutex::new(());

/// Works on the state, which must not be asked for again inside `f`: no call of the plugin belongs there.
pub fn with_state<R>(f: impl FnOnce(&mut State) -> R) -> R {
    // A test that failed while it held the lock is over; its state is replaced by the next one's.
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    f(state.get_or_insert_default())
}

/// A core for one plugin.
pub struct FakeCore {
    plugin: &'static Plugin,
    _turn: MutexGuard<'static, ()>,
}

impl FakeCore {
    /// Initialises the plugin: its `init`, then INIT. The service `descriptors` is there.
    ///
    /// # Panics
    /// If the plugin says that it cannot work here.
    pub fn new(plugin: &'static Plugin) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::default();
        state.services.insert(SERVICE.to_bytes().to_vec(), std::ptr::from_ref(&BROKER) as usize);
        *STATE.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
        assert_eq!((plugin.init)(&API), 0, "the plugin cannot work here");
        let core = Self { plugin, _turn: turn };
        let mut payload = InitPayload { stack_low: 0, stack_high: 0 };
        (plugin.on_event)(Event::Init as u32, (&raw mut payload).cast());
        core
    }

    /// Runs the plugin's hooks of an event, as they are ordered within it.
    pub fn event(&self, event: Event) {
        (self.plugin.on_event)(event as u32, std::ptr::null_mut());
    }

    /// One checkpoint up to the image: PRESUSPEND; these descriptors are offered to the claimers; PRECHECKPOINT.
    pub fn checkpoint(&self, descriptors: &[BorrowedFd<'_>]) -> Image {
        with_state(|s| {
            s.generation += 1;
            s.image = Image::default();
        });
        self.event(Event::PreSuspend);
        let offered = broker::run(descriptors);
        self.event(Event::PreCheckpoint);
        with_state(|s| {
            s.image.descriptors = offered;
            s.image.clone()
        })
    }

    /// The process goes on: RESUME, RUNNING.
    pub fn resume(&self) {
        self.event(Event::Resume);
        self.event(Event::Running);
    }

    /// The process has come back: PLACED, RESTART, RUNNING.
    pub fn restart(&self) {
        self.event(Event::Placed);
        self.event(Event::Restart);
        self.event(Event::Running);
    }

    /// Sets a variable in the environment of dmtcp_restart.
    pub fn set_restart_environment(&self, name: &str, value: &str) {
        with_state(|s| s.environment.insert(name.into(), value.into()));
    }

    /// Sets the directory of the next image.
    pub fn set_checkpoint_directory(&self, path: &str) {
        with_state(|s| s.directory = Some(path.into()));
    }

    /// The directory of the next image, as it was set or as the plugin has chosen it.
    pub fn checkpoint_directory(&self) -> Option<String> {
        with_state(|s| s.directory.clone()).map(|d| String::from_utf8_lossy(&d).into_owned())
    }

    /// What the plugin has said since the last checkpoint began: told, logged, unsupported, failed.
    pub fn said(&self) -> Image {
        with_state(|s| s.image.clone())
    }
}

static API: CoreApi = CoreApi {
    size: size_of::<CoreApi>() as u32,
    reserved: 0,
    log,
    section,
    blob,
    new_object,
    claim_mapping,
    mappings,
    unsupported,
    fail,
    application_task: sys_tid,
    copy_descriptor,
    offer_service,
    find_service,
    threads,
    restart_environment,
    checkpoint_directory,
    tell,
    neighbours,
    generation,
    set_checkpoint_directory,
    name: exchange::name,
    meet: exchange::meet,
    exclude,
    wanted,
    happened,
    tasks,
    asked: wanted,
    divert,
    in_each_thread,
    thread_usage,
    carry,
};

/// Bytes that a plugin passed.
pub fn bytes<'a>(start: *const u8, length: usize) -> &'a [u8] {
    // SAFETY: the interface demands `length` readable bytes for the duration of the call.
    if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(start, length) } }
}

fn string(start: *const u8, length: usize) -> String {
    String::from_utf8_lossy(bytes(start, length)).into_owned()
}

fn name_of(name: *const c_char) -> Vec<u8> {
    // SAFETY: the interface demands a zero-terminated name.
    unsafe { CStr::from_ptr(name) }.to_bytes().to_vec()
}

/// Whoever tests wants to know.
extern "C" fn wanted(_: u32) -> bool {
    true
}

/// It makes no calls on threads of the plugin's.
extern "C" fn divert(_: usize, _: u64, _: u64, _: u64) {}

/// Nobody is stopped.
extern "C" fn in_each_thread(_: extern "C" fn(*mut c_void)) {}

/// Nobody executes anything.
extern "C" fn carry(_: *const u8, _: usize, _: *const u8, _: usize) {}

/// Nobody is stopped.
extern "C" fn thread_usage(_: i32, _: *mut [Usage; 2]) -> bool {
    false
}

/// The plugin under test is the only one there is to be told.
extern "C" fn happened(event: u32, data: *mut c_void) {
    dmtcp_plugin_api::core::dispatch(event, data);
}

extern "C" fn log(level: u32, _: *const u8, _: usize, text: *const u8, length: usize) {
    let level = [Level::Error, Level::Warning, Level::Note, Level::Trace][level.min(3) as usize];
    with_state(|s| s.image.logged.push((level, string(text, length))));
}

extern "C" fn section(_: *const u8, _: usize, name: *const u8, n: usize, from: *const u8, length: usize) {
    with_state(|s| s.image.sections.push((string(name, n), bytes(from, length).to_vec())));
}

extern "C" fn blob(_: *const u8, _: usize, name: *const u8, n: usize, address: u64, length: u64) {
    with_state(|s| s.image.blobs.push((string(name, n), bytes(address as *const u8, length as usize).to_vec())));
}

extern "C" fn new_object() -> u64 {
    with_state(State::new_object)
}

extern "C" fn claim_mapping(start: u64, object: u64, offset: u64) -> bool {
    with_state(|s| {
        let free = s.image.mappings.iter().all(|m| m.0 != start);
        if free {
            s.image.mappings.push((start, object, offset));
        }
        free
    })
}

/// The mappings of this process. Of the flags only that for "may be made writable" is filled in.
extern "C" fn mappings(callback: extern "C" fn(*mut c_void, *const MappingView), context: *mut c_void) {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut current: Option<(MappingView, String)> = None;
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if let Some((mut view, name)) = current.take() {
                view.flags = u64::from(flags.split_ascii_whitespace().any(|f| f == "mw")) << 16;
                (view.name, view.name_length) = (name.as_ptr(), name.len());
                callback(context, &raw const view);
            }
        } else if let Some(view) = mapping(line) {
            current = Some(view);
        }
    }
}

/// `55d0-55d1 r--p 00000000 08:01 1234   /path`, nothing for the lines below it.
fn mapping(line: &str) -> Option<(MappingView, String)> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let prot = words.next()?.as_bytes();
    let (offset, device, inode) = (words.next()?, words.next()?.split_once(':')?, words.next()?);
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let bit = |at: usize, letter: u8, value: i32| if prot.get(at) == Some(&letter) { value as u32 } else { 0 };
    let view = MappingView {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        inode: inode.parse().ok()?,
        dev_major: hex(device.0)? as u32,
        dev_minor: hex(device.1)? as u32,
        prot: bit(0, b'r', libc::PROT_READ) | bit(1, b'w', libc::PROT_WRITE) | bit(2, b'x', libc::PROT_EXEC),
        shared: bit(3, b's', 1),
        flags: 0,
        name: std::ptr::null(),
        name_length: 0,
    };
    Some((view, words.next().unwrap_or_default().trim_start().to_owned()))
}

extern "C" fn unsupported(text: *const u8, length: usize) {
    with_state(|s| s.image.unsupported.push(string(text, length)));
}

extern "C" fn fail(text: *const u8, length: usize) {
    with_state(|s| s.image.failure.get_or_insert(string(text, length)).clone());
}

extern "C" fn sys_tid() -> i32 {
    sys::tid()
}

extern "C" fn copy_descriptor(number: i32) -> i32 {
    sys::fcntl(number, libc::F_DUPFD_CLOEXEC, 0).map_or_else(|e| -e, |copy| copy as i32)
}

extern "C" fn offer_service(name: *const c_char, table: *const c_void) -> bool {
    with_state(|s| s.services.insert(name_of(name), table as usize).is_none())
}

extern "C" fn find_service(name: *const c_char) -> *const c_void {
    with_state(|s| s.services.get(&name_of(name)).copied().unwrap_or(0)) as *const c_void
}

fn fill<T: Copy>(ids: &[T], into: *mut T, room: usize) -> usize {
    for (i, id) in ids.iter().take(room).enumerate() {
        // SAFETY: `i` is below `room`, the number of elements that the caller has.
        unsafe { into.add(i).write(*id) };
    }
    ids.len()
}

extern "C" fn threads(into: *mut i32, room: usize) -> usize {
    fill(&proc_files::numbers_in("/proc/self/task").unwrap_or_default(), into, room)
}

/// Ids are what they were.
extern "C" fn tasks(into: *mut [i32; 2], room: usize) -> usize {
    let pairs = proc_files::numbers_in("/proc/self/task").unwrap_or_default();
    fill(&pairs.iter().map(|id| [*id, *id]).collect::<Vec<_>>(), into, room)
}

extern "C" fn neighbours(into: *mut i32, room: usize) -> usize {
    fill(&[sys::pid()], into, room)
}

/// Copies a text with its zero; its length, -1: there is none, -2: no room.
fn give(value: Option<Vec<u8>>, into: *mut c_char, room: usize) -> isize {
    let Some(value) = value else { return -1 };
    if value.len() + 1 > room {
        return -2;
    }
    // SAFETY: the caller has `room` bytes, and the value with its zero fits.
    unsafe {
        std::ptr::copy_nonoverlapping(value.as_ptr(), into.cast(), value.len());
        into.add(value.len()).write(0);
    }
    value.len() as isize
}

extern "C" fn restart_environment(name: *const c_char, into: *mut c_char, room: usize) -> isize {
    give(with_state(|s| s.environment.get(&name_of(name)).cloned()), into, room)
}

extern "C" fn checkpoint_directory(into: *mut c_char, room: usize) -> isize {
    give(with_state(|s| s.directory.clone()), into, room)
}

extern "C" fn tell(text: *const u8, length: usize) {
    with_state(|s| s.image.told.push(string(text, length)));
}

extern "C" fn generation() -> u64 {
    with_state(|s| s.generation)
}

extern "C" fn set_checkpoint_directory(path: *const u8, length: usize) -> bool {
    with_state(|s| s.directory = Some(bytes(path, length).to_vec()));
    true
}

/// Nothing is left out here: an [`Image`] holds no memory.
extern "C" fn exclude(_: u64, _: u64) {}
