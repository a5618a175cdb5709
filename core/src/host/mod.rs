//! The plugin host: finds the preloaded plugins, wires their wrappers, hands out events, keeps what they describe.

pub mod api;
pub mod description;
pub mod exchange;
pub mod happened;
mod services;
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
    pub events: extern "C" fn() -> u32,
}

static PLUGINS: OnceLock<Vec<Loaded>> = OnceLock::new();

/// The plugins in the order of events before a checkpoint.
pub fn plugins() -> &'static [Loaded] {
    PLUGINS.get_or_init(wiring::find_plugins)
}

/// A zero-terminated text of a plugin's.
pub fn text(pointer: *const std::ffi::c_char) -> &'static str {
    if pointer.is_null() {
        return "";
    }
    // SAFETY: names in descriptors are zero-terminated statics.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap_or("?")
}

/// Initialises the plugins: services first, then requirements, then INIT.
pub fn initialise(payload: &mut dmtcp_plugin_api::abi::InitPayload) -> Result<(), String> {
    for loaded in plugins() {
        happened::want((loaded.events)());
        if (loaded.plugin.init)(&api::API) != 0 {
            return Err(format!("plugin {} ({}) cannot work here", text(loaded.plugin.name), loaded.path));
        }
    }
    for loaded in plugins() {
        let mut requirement = loaded.plugin.requires;
        // SAFETY: `requires` is null or a null-terminated array.
        while !requirement.is_null() && unsafe { !(*requirement).is_null() } {
            // SAFETY: as above.
            let name = unsafe { *requirement };
            if services::find(name).is_null() {
                return Err(format!(
                    "plugin {} needs the service '{}', which no loaded plugin offers: load the plugin that does, or use --disable-plugin {}",
                    text(loaded.plugin.name),
                    text(name),
                    text(loaded.plugin.name)
                ));
            }
            // SAFETY: the terminator has not been reached.
            requirement = unsafe { requirement.add(1) };
        }
    }
    event(Event::Init, std::ptr::from_mut(payload).cast());
    Ok(())
}

/// Runs an event's hooks: forward before a checkpoint, in reverse after it.
pub fn event(event: Event, data: *mut c_void) {
    in_order(event, data, || interface::plugins::event(event));
}

/// Runs an event's hooks, those of C plugins outside of all others.
fn in_order(event: Event, data: *mut c_void, of_c: impl FnOnce()) {
    let run = |loaded: &Loaded| {
        (loaded.plugin.on_event)(event as u32, data);
    };
    if event.is_reverse() {
        plugins().iter().rev().for_each(run);
        of_c();
    } else {
        of_c();
        plugins().iter().for_each(run);
    }
}
