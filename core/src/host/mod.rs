//! The plugin host: finds the preloaded plugins, wires their wrappers, hands out events, keeps what they describe.

pub mod api;
pub mod description;
pub mod exchange;
pub mod forks;
pub mod happened;
pub mod late;
pub mod sanitizers;
pub mod services;
pub mod wiring;

use crate::interface;
use dmtcp_plugin_api::abi::{Event, Plugin};
use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

/// A loaded plugin.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// What it exports.
    pub plugin: &'static Plugin,
    /// File it was loaded from.
    pub path: &'static str,
    /// For which events it has hooks; a bit each.
    pub events: u32,
}

static PLUGINS: OnceLock<Result<Vec<Loaded>, String>> = OnceLock::new();

fn found() -> &'static Result<Vec<Loaded>, String> {
    PLUGINS.get_or_init(wiring::find_plugins)
}

/// The plugins in the order of events before a checkpoint.
pub fn plugins() -> &'static [Loaded] {
    found().as_ref().map_or(&[], |plugins| plugins)
}

/// A zero-terminated text of a plugin's.
pub fn text(pointer: *const std::ffi::c_char) -> &'static str {
    if pointer.is_null() {
        return "";
    }
    // SAFETY: names in descriptors are zero-terminated statics.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap_or("?")
}

/// Initialises the plugins: services first, then requirements, then INIT. The error says which one will not do.
pub fn initialise(payload: &mut dmtcp_plugin_api::abi::InitPayload) -> Result<(), String> {
    found().as_ref().map_err(String::clone)?;
    // Plugins say by `fail` what is wrong.
    description::begin();
    let outcome = initialise_all(payload);
    description::finish();
    outcome
}

fn initialise_all(payload: &mut dmtcp_plugin_api::abi::InitPayload) -> Result<(), String> {
    for loaded in plugins() {
        happened::want(loaded.events);
        if (loaded.plugin.init)(&api::API) != 0 {
            let reason = description::take_failure().unwrap_or_else(|| "it does not say why".into());
            let name = text(loaded.plugin.name);
            return Err(format!("the plugin {name} ({}) cannot work here: {reason}; {}", loaded.path, WITHOUT));
        }
    }
    let mut lacking: Vec<(&'static str, &'static str)> = Vec::new();
    for loaded in plugins() {
        let mut requirement = loaded.plugin.requires;
        // SAFETY: `requires` is null or a null-terminated array.
        while !requirement.is_null() && unsafe { !(*requirement).is_null() } {
            // SAFETY: as above.
            let name = unsafe { *requirement };
            if services::find(name).is_null() {
                lacking.push((loaded.path, text(name)));
            }
            // SAFETY: the terminator has not been reached.
            requirement = unsafe { requirement.add(1) };
        }
    }
    if let Some((_, service)) = lacking.first() {
        let mut paths: Vec<&str> = lacking.iter().filter(|(_, s)| s == service).map(|(path, _)| *path).collect();
        paths.dedup();
        return Err(format!(
            "no loaded plugin offers the service '{service}', which is needed by {}: load the plugin that offers it, or \
             leave these out, too (--disable-plugin)",
            paths.join(" and ")
        ));
    }
    run(Event::Init, std::ptr::from_mut(payload).cast())
}

/// What to do about a plugin that does not work.
const WITHOUT: &str = "leave it out (--with-plugin, DMTCP_PLUGIN), or use --disable-plugin";

/// Runs an event's hooks: forward before a checkpoint, in reverse after it. All of them run, whatever some of them say; the
/// error is the first one that failed.
pub fn event(event: Event) -> Result<(), String> {
    run(event, std::ptr::null_mut())
}

/// As [`event`]; where nothing can be given up, the user is told.
pub fn event_or_tell(which: Event) {
    let is_owner = description::begin();
    if let Err(reason) = event(which) {
        crate::log::tell(&reason);
    }
    if is_owner {
        description::finish();
    }
}

/// On the checkpoint thread of a fork's child, first of all: the plugins without hooks for ATFORKCHILD are told now. It is
/// their allocator that has to know, and for that thread's sake; a child that ends before this has saved their page faults.
pub fn settle_after_fork() {
    let event = Event::AtforkChild;
    for loaded in plugins().iter().filter(|loaded| loaded.events & 1 << event as u32 == 0) {
        (loaded.plugin.on_event)(event as u32, std::ptr::null_mut());
    }
}

fn run(event: Event, data: *mut c_void) -> Result<(), String> {
    in_order(event, data, || interface::plugins::event(event))
}

/// Runs an event's hooks, those of C plugins outside of all others.
fn in_order(event: Event, data: *mut c_void, of_c: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let mut first = None;
    let mut one = |loaded: &Loaded| {
        if event == Event::AtforkChild && loaded.events & 1 << event as u32 == 0 {
            return;
        }
        let code = (loaded.plugin.on_event)(event as u32, data);
        let reason = description::take_failure();
        let failure = match (code, reason) {
            (0, reason) => reason,
            (_, reason) => {
                let reason = reason.unwrap_or_else(|| "it does not say why".into());
                let (name, title) = (text(loaded.plugin.name), event.title());
                Some(format!("the plugin {name} ({}) has failed at {title}: {reason}; {WITHOUT}", loaded.path))
            }
        };
        first = first.take().or(failure);
    };
    if event.is_reverse() {
        plugins().iter().rev().for_each(&mut one);
        let of_c = of_c();
        first.map_or(of_c, Err)
    } else {
        let of_c = of_c();
        plugins().iter().for_each(&mut one);
        of_c.and(first.map_or(Ok(()), Err))
    }
}
