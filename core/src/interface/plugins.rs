//! Plugins with the original's C interface: registration, events in their order.
//!
//! Such a plugin is a library in LD_PRELOAD, behind all plugins of stubs, that exports `dmtcp_initialize_plugin`. Ours is
//! called first; each registers its descriptor and calls the next one, found by RTLD_NEXT. Events go forward over the list
//! before a checkpoint and backward after it. C plugins are outside of all others: first before a checkpoint, last after it.

use super::{hooks, regions, text};
use crate::host::late::pass_dlsym;
use crate::host::{forks, happened};
use crate::life;
use dmtcp_plugin_api::abi::Event;
use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What plugins say that they were made for; another interface has other structures.
const API_VERSION: &[u8] = b"4";
const ROOM: usize = 64;

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}
const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

/// `DmtcpPluginDescriptor_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Descriptor {
    api_version: *const c_char,
    dmtcp_version: *const c_char,
    name: *const c_char,
    author: *const c_char,
    email: *const c_char,
    description: *const c_char,
    hook: Option<extern "C" fn(c_int, *mut c_void)>,
}

/// The registered plugins. Written while [`load`] runs, on one thread; read afterwards.
struct Table(UnsafeCell<[Option<Descriptor>; ROOM]>);
// SAFETY: entries below `COUNT` do not change any more.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([None; ROOM]));
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn name(descriptor: &Descriptor) -> String {
    String::from_utf8_lossy(text(descriptor.name).unwrap_or(b"(no name)")).into_owned()
}

/// Makes a plugin known; called by its `dmtcp_initialize_plugin`.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_register_plugin(descriptor: Descriptor) {
    let version = text(descriptor.api_version).unwrap_or_default();
    if version != API_VERSION {
        life::fail(&format!(
            "plugin {} is made for plugin interface {}, and this is {}: compile it again with this dmtcp.h",
            name(&descriptor),
            String::from_utf8_lossy(version),
            String::from_utf8_lossy(API_VERSION)
        ));
    }
    if let Some(known) = registered().iter().flatten().find(|known| name(known) == name(&descriptor)) {
        life::fail(&format!("two plugins with the C interface are named {}: leave one out", name(known)));
    }
    let count = COUNT.load(Ordering::Acquire);
    if count == ROOM {
        life::fail(&format!("plugin {} is one too many: there is room for {ROOM} C plugins", name(&descriptor)));
    }
    // SAFETY: the entry is not below `COUNT`, and plugins register one after the other on one thread.
    unsafe { (*TABLE.0.get())[count] = Some(descriptor) };
    COUNT.store(count + 1, Ordering::Release);
    if descriptor.hook.is_some() {
        // Which events it looks at, nobody knows.
        happened::want(u32::MAX);
    }
}

fn registered() -> &'static [Option<Descriptor>] {
    // SAFETY: entries below `COUNT` do not change any more.
    unsafe { &(&*TABLE.0.get())[..COUNT.load(Ordering::Acquire)] }
}

/// Whether there are C plugins.
pub fn are_there() -> bool {
    // SAFETY: the name is zero-terminated.
    unsafe { !pass_dlsym(RTLD_NEXT, c"dmtcp_initialize_plugin".as_ptr()).is_null() }
}

/// Lets the C plugins register, starts the thread for their hooks, and delivers INIT. The process has joined.
pub fn load() -> Result<(), String> {
    // SAFETY: what is exported under this name has this type by the interface.
    unsafe {
        let first = std::hint::black_box(pass_dlsym(RTLD_NEXT, c"dmtcp_initialize_plugin".as_ptr()));
        if first.is_null() {
            return Ok(());
        }
        let first: extern "C" fn() = std::mem::transmute(first);
        first();
    }
    if !registered().is_empty() {
        regions::find_hook();
        // Behind our own handlers: the child is a member when its hooks run.
        // SAFETY: the function is of the type that libc wants and stays.
        unsafe { pthread_atfork(None, None, Some(after_fork_in_child)) };
        hooks::start()?;
        deliver(Event::Init, std::ptr::null_mut());
    }
    Ok(())
}

extern "C" fn after_fork_in_child() {
    deliver(forks::of_child(), std::ptr::null_mut());
}

/// Calls the hooks on the calling thread.
pub fn deliver(event: Event, data: *mut c_void) {
    let call = |descriptor: &Option<Descriptor>| {
        if let Some(hook) = descriptor.as_ref().and_then(|d| d.hook) {
            hook(event as c_int, data);
        }
    };
    if event.is_reverse() {
        registered().iter().rev().for_each(call);
    } else {
        registered().iter().for_each(call);
    }
    if event == Event::PreCheckpoint {
        regions::ask();
    }
}

/// Sees to it that the hooks of an event run.
pub fn event(event: Event) -> Result<(), String> {
    match event {
        // INIT and those of a fork are delivered at other moments, when the process has joined; the last is not for C.
        Event::Init | Event::AtforkChild | Event::VforkChild | Event::Placed => Ok(()),
        Event::Exit => {
            deliver(event, std::ptr::null_mut());
            Ok(())
        }
        Event::PreCheckpoint => {
            super::settings::describe();
            let outcome = hooks::run(event).and_then(|()| hooks::park());
            if outcome.is_ok() {
                regions::describe();
            }
            outcome
        }
        _ => hooks::run(event),
    }
}
