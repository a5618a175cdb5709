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

use super::late::{self, dlsym};
use super::{Loaded, text};
use crate::life::{birth, clone, exec, exec_list, keeper, raw_calls, shells};
use crate::{config, signal, timed};
use dmtcp_plugin_api::abi::{ABI_VERSION, EVENTS_SYMBOL, EventsOf, NextSymbol, PLUGIN_SYMBOL, Plugin, Wrapper};
use dmtcp_plugin_api::{private, sys};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
}

const UNWIRED: u32 = 0;
const WIRING: u32 = 1;
const WIRED: u32 = 2;
static STATE: AtomicU32 = AtomicU32::new(UNWIRED);

/// The plugins that are preloaded, in the order of their priority and then of the command line. The error is a sentence:
/// a plugin that was asked for is not there.
pub fn find_plugins() -> Result<Vec<Loaded>, String> {
    let Some(config) = config::config() else { return Ok(Vec::new()) };
    let symbol = CString::new(PLUGIN_SYMBOL).unwrap_or_default();
    let events_symbol = CString::new(EVENTS_SYMBOL).unwrap_or_default();
    let mut found: Vec<Loaded> = Vec::new();
    for path in &config.plugins {
        let Ok(c_path) = CString::new(path.as_str()) else { continue };
        // SAFETY: RTLD_NOLOAD only looks for what is loaded; names are zero-terminated.
        let (handle, plugin, events) = unsafe {
            let handle = dlopen(c_path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
            match handle.is_null() {
                true => (handle, handle, handle),
                false => (handle, dlsym(handle, symbol.as_ptr()), dlsym(handle, events_symbol.as_ptr())),
            }
        };
        if handle.is_null() {
            return Err(format!(
                "the plugin {path} was not loaded: the loader has said why; look at it with ldd, or leave it out"
            ));
        }
        if plugin.is_null() {
            // One with the C interface; it registers itself.
            continue;
        }
        let events = if events.is_null() { 0 } else { bits_of(events) };
        // SAFETY: what is exported under this name is a `Plugin`; version and size are checked before more is believed.
        let plugin: &'static Plugin = unsafe { &*plugin.cast() };
        if plugin.abi != ABI_VERSION || plugin.core_size > super::api::API.size {
            return Err(format!("the plugin {path} is made for a newer DMTCP: build it against this one"));
        }
        let name = text(plugin.name);
        if let Some(other) = found.iter().find(|l| text(l.plugin.name) == name) {
            return Err(format!("two plugins are named {name}: {} and {path}; leave one out", other.path));
        }
        found.push(Loaded { plugin, path, events });
    }
    found.sort_by_key(|l| l.plugin.priority);
    Ok(found)
}

/// For which events a plugin has hooks, a bit each.
fn bits_of(events: *mut c_void) -> u32 {
    let mut numbers = [0u32; u32::BITS as usize];
    // SAFETY: what is exported under this name has this type, and fills no more than there is room for.
    let count = unsafe { std::mem::transmute::<*mut c_void, EventsOf>(events)(numbers.as_mut_ptr(), numbers.len()) };
    numbers.iter().take(count).fold(0, |bits, number| bits | 1u32.checked_shl(*number).unwrap_or(0))
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

/// What finds the definition of a symbol that the application would have had without us: the last of our objects in the
/// search order sees past all of us.
fn finder() -> NextSymbol {
    let last = config::config()
        .and_then(|c| c.plugins.iter().rev().find_map(|p| super::plugins().iter().find(|l| l.path == p)))
        .map(|l| l.plugin.next_symbol);
    last.unwrap_or(private::next_symbol)
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
}

/// The libraries that libc consists of. From glibc 2.34 on all but the first are empty.
const PARTS: [&str; 4] = ["/libc.so.6", "/libpthread.so.0", "/librt.so.1", "/libdl.so.2"];

/// Where they are in memory.
#[derive(Default)]
struct Libc([Range<usize>; PARTS.len()]);

impl Libc {
    /// Asked once for all symbols: dladdr(3) would search libc's whole symbol table for each.
    #[allow(clippy::disallowed_methods, reason = "the constructor runs it, or the first call through a stub")]
    fn find() -> Self {
        let mut found = Self::default();
        // SAFETY: the callback gets `found`, which outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(note_part), (&raw mut found).cast()) };
        found
    }

    fn has(&self, address: usize) -> bool {
        self.0.iter().any(|part| part.contains(&address))
    }
}

/// Notes where an object is, if it is a part of libc.
unsafe extern "C" fn note_part(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
    // SAFETY: the loader passes a valid entry with its program headers, `find` its own variable.
    unsafe {
        let (info, found) = (&*info, &mut *found.cast::<Libc>());
        let name = text(info.dlpi_name);
        if let Some(part) = PARTS.iter().position(|part| name.ends_with(part)) {
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
            let last = headers.iter().filter(|h| h.p_type == libc::PT_LOAD).map(|h| h.p_vaddr + h.p_memsz).max();
            found.0[part] = info.dlpi_addr as usize..(info.dlpi_addr + last.unwrap_or(0)) as usize;
        }
    }
    0
}

#[allow(clippy::disallowed_methods, reason = "the process ends here, with a core dump that shows who has called")]
extern "C" fn missing() -> ! {
    let text = b"dmtcp: a wrapped function was called that no loaded library defines\n";
    let _ = sys::write(2, text);
    // SAFETY: ends the process; there is no function to go on with.
    unsafe { libc::abort() }
}

/// A wrapper on its way into a chain.
struct Candidate {
    symbol: &'static CStr,
    wrapper: &'static Wrapper,
    place: Place,
    priority: i32,
    is_off: bool,
}

impl Candidate {
    fn new(wrapper: &'static Wrapper, place: Place, priority: i32) -> Self {
        // SAFETY: names in descriptors are zero-terminated statics.
        let symbol = unsafe { CStr::from_ptr(wrapper.symbol) };
        Self { symbol, wrapper, place, priority, is_off: false }
    }

    fn key(&self) -> (&'static CStr, Place, i32, i32) {
        (self.symbol, self.place, self.wrapper.priority, self.priority)
    }
}

/// All wrappers, symbol by symbol, each chain in its order.
fn candidates() -> Vec<Candidate> {
    let mut all = Vec::new();
    let Some(config) = config::config() else { return all };
    let ours = |place| move |wrapper: &&'static Wrapper| Candidate::new(wrapper, place, 0);
    all.extend(signal::WRAPPERS.iter().map(ours(Place::Outermost)));
    for loaded in super::plugins() {
        let (plugin, priority) = (text(loaded.plugin.name), loaded.plugin.priority);
        all.extend(wrappers_of(loaded.plugin).into_iter().map(|wrapper| {
            let candidate = Candidate::new(wrapper, Place::Plugin, priority);
            let is_it = |(of, name): (&str, &str)| of == plugin && name.as_bytes() == candidate.symbol.to_bytes();
            let is_off = config.disabled_wrappers.iter().filter_map(|w| w.split_once(':')).any(is_it);
            Candidate { is_off, ..candidate }
        }));
    }
    let last = [
        timed::WRAPPERS,
        birth::WRAPPERS,
        exec::WRAPPERS,
        exec_list::WRAPPERS,
        clone::WRAPPERS,
        keeper::WRAPPERS,
        raw_calls::WRAPPERS,
        shells::WRAPPERS,
    ]
    .concat();
    all.extend(last.iter().map(ours(Place::Last)));
    // Stable: the order of the command line decides among equals.
    all.sort_by(|a, b| a.key().cmp(&b.key()));
    all
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
    let all = candidates();
    let find = finder();
    let groups: Vec<&[Candidate]> = all.chunk_by(|a, b| a.symbol == b.symbol).collect();
    let chains = groups.iter().map(|group| {
        // The last one calls the function, and says which version of it.
        let last = group.iter().rev().find(|c| !c.is_off).or(group.first()).map(|c| c.wrapper);
        last.map(|last| late::Chain {
            last,
            wrappers: group.iter().map(|c| c.wrapper).collect(),
            real: AtomicUsize::new(find(last.symbol, last.version) as usize),
            active: group.iter().any(|c| !c.is_off),
        })
    });
    let chains: Vec<late::Chain> = chains.flatten().collect();
    let reals: Vec<usize> = chains.iter().map(|chain| chain.real.load(Ordering::Relaxed)).collect();
    late::set_chains(chains);
    let libc = Libc::find();
    for (index, (group, real)) in groups.iter().zip(reals).enumerate() {
        let mut next = match real {
            0 => late::stand_in(index).unwrap_or(missing as *const () as usize),
            address => address,
        };
        for candidate in group.iter().rev() {
            candidate.wrapper.next.store(next, Ordering::Release);
            // One that stands in for libc's function does so for libc's only: a C plugin or another library behind us
            // that has a version of its own is to be called.
            if !candidate.is_off && (candidate.place != Place::Last || libc.has(next)) {
                next = candidate.wrapper.function as usize;
            }
        }
        for candidate in *group {
            candidate.wrapper.slot.store(next, Ordering::Release);
        }
    }
    STATE.store(WIRED, Ordering::Release);
}
