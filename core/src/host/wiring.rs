//! Wires wrappers: groups all of one symbol, orders them, fills each `next` cell and each stub's `slot`.
//!
//! ```text
//!   application -> stub of whichever object comes first -> *slot = head of the chain
//!   wrapper 1 --next--> wrapper 2 --next--> real function
//! ```
//! Runs in the constructor, or earlier: the first call through a stub wires everything, because constructors of the
//! application's libraries run before ours. Cells are written `next` first, so that a chain is whole when it is entered.
//!
//! A wrapper that the user has disabled is in no chain; its stub leads to the chain of the others all the same.

use super::{Loaded, text};
use crate::life::{birth, exec, exec_list, exec_raw};
use crate::{config, signal, timed};
use dmtcp_plugin_api::abi::{ABI_VERSION, EVENTS_SYMBOL, PLUGIN_SYMBOL, Plugin, Wrapper};
use dmtcp_plugin_api::{private, sys};
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

const UNWIRED: u32 = 0;
const WIRING: u32 = 1;
const WIRED: u32 = 2;
static STATE: AtomicU32 = AtomicU32::new(UNWIRED);

/// The plugins that are preloaded, in the order of their priority and then of the command line.
pub fn find_plugins() -> Vec<Loaded> {
    let Some(config) = config::config() else { return Vec::new() };
    let symbol = CString::new(PLUGIN_SYMBOL).unwrap_or_default();
    let events_symbol = CString::new(EVENTS_SYMBOL).unwrap_or_default();
    // A plugin from before there were such events.
    extern "C" fn none() -> u32 {
        0
    }
    let mut found = Vec::new();
    for path in &config.plugins {
        let Ok(c_path) = CString::new(path.as_str()) else { continue };
        // SAFETY: RTLD_NOLOAD only looks for what is loaded; names are zero-terminated.
        let (plugin, events) = unsafe {
            let handle = dlopen(c_path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
            if handle.is_null() {
                continue;
            }
            (dlsym(handle, symbol.as_ptr()), dlsym(handle, events_symbol.as_ptr()))
        };
        if plugin.is_null() {
            continue;
        }
        let events = match events.is_null() {
            true => none as extern "C" fn() -> u32,
            // SAFETY: what is exported under this name has this type.
            false => unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> u32>(events) },
        };
        // SAFETY: what is exported under this name is a `Plugin`; version and size are checked before more is believed.
        let plugin: &'static Plugin = unsafe { &*plugin.cast() };
        if plugin.abi == ABI_VERSION && plugin.core_size <= super::api::API.size {
            found.push(Loaded { plugin, path, events });
        }
    }
    found.sort_by_key(|l| l.plugin.priority);
    found
}

fn wrappers_of(plugin: &Plugin) -> Vec<&'static Wrapper> {
    let mut out = Vec::new();
    // SAFETY: the descriptor's lists are statics of the plugin.
    unsafe {
        for list in std::slice::from_raw_parts(plugin.wrappers, plugin.wrapper_lists) {
            out.extend_from_slice(std::slice::from_raw_parts(list.first, list.count));
        }
    }
    out
}

/// The definition of a symbol that the application would have had without us.
fn real(wrapper: &Wrapper) -> usize {
    // The last of our objects in the search order sees past all of us.
    let last = config::config()
        .and_then(|c| c.plugins.iter().rev().find_map(|p| super::plugins().iter().find(|l| l.path == p)))
        .map(|l| l.plugin.next_symbol);
    let find = last.unwrap_or(private::next_symbol);
    find(wrapper.symbol, wrapper.version) as usize
}

/// Where a wrapper stands in its chain, whatever priorities say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Before all plugins.
    Outermost,
    /// A plugin's.
    Plugin,
    /// Behind all plugins: it does what the function does, and calls others instead.
    Last,
    /// Nowhere: the user has disabled it.
    Nowhere,
}

/// Where a plugin's wrapper stands.
fn place(loaded: &Loaded, wrapper: &Wrapper) -> Place {
    let Some(config) = config::config().filter(|c| !c.disabled_wrappers.is_empty()) else { return Place::Plugin };
    let name = format!("{}:{}", text(loaded.plugin.name), text(wrapper.symbol));
    if config.disabled_wrappers.contains(&name) { Place::Nowhere } else { Place::Plugin }
}

#[allow(clippy::disallowed_methods, reason = "the constructor runs it, or the first call through a stub")]
fn is_in_libc(address: usize) -> bool {
    // SAFETY: dladdr takes any address; the entry that it fills is valid when it says so, its name zero-terminated.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        libc::dladdr(address as *const c_void, &raw mut info) != 0 && text(info.dli_fname).ends_with("/libc.so.6")
    }
}

#[allow(clippy::disallowed_methods, reason = "the process ends here, with a core dump that shows who has called")]
extern "C" fn missing() -> ! {
    let text = b"dmtcp: a wrapped function was called that no loaded library defines\n";
    let _ = sys::write(2, text);
    // SAFETY: ends the process; there is no function to go on with.
    unsafe { libc::abort() }
}

/// Wires all wrappers, once it can be known which. Idempotent; who comes before that, and another thread that comes
/// meanwhile, goes to the real functions.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_core_wire() {
    if !config::is_there() {
        return;
    }
    if STATE.compare_exchange(UNWIRED, WIRING, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return;
    }
    let mut all: Vec<(&'static Wrapper, Place, i32)> = Vec::new();
    if config::config().is_some() {
        all.extend(signal::WRAPPERS.iter().map(|w| (*w, Place::Outermost, 0)));
        for loaded in super::plugins() {
            let wrappers = wrappers_of(loaded.plugin).into_iter();
            all.extend(wrappers.map(|w| (w, place(loaded, w), loaded.plugin.priority)));
        }
        all.extend(
            [timed::WRAPPERS, birth::WRAPPERS, exec::WRAPPERS, exec_list::WRAPPERS, exec_raw::WRAPPERS]
                .concat()
                .into_iter()
                .map(|w| (w, Place::Last, 0)),
        );
    }
    // Stable: the order of the command line decides among equals.
    all.sort_by(|a, b| {
        let key = |w: &(&Wrapper, Place, i32)| (text(w.0.symbol), w.1, w.0.priority, w.2);
        key(a).cmp(&key(b))
    });
    for chain in all.chunk_by(|a, b| text(a.0.symbol) == text(b.0.symbol)) {
        let mut next = match real(chain[0].0) {
            0 => missing as *const () as usize,
            address => address,
        };
        for (wrapper, place, _) in chain.iter().rev() {
            wrapper.next.store(next, Ordering::Release);
            // One that stands in for libc's function does so for libc's only: a C plugin or another library behind us
            // that has a version of its own is to be called.
            if *place != Place::Nowhere && (*place != Place::Last || is_in_libc(next)) {
                next = wrapper.function as usize;
            }
        }
        for (wrapper, _, _) in chain {
            wrapper.slot.store(next, Ordering::Release);
        }
    }
    STATE.store(WIRED, Ordering::Release);
}
