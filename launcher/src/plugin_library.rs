//! A plugin as a library of this program: what its tables say, and its restart half.
//!
//! The file has been looked at ([`crate::plugin_file`]). Loading it runs its initialisers, which collect hooks and do
//! nothing else; none of its functions is called but the one that tells its events. What can go wrong: a library that it
//! needs is missing, its tables are those of a newer interface, its restart half has another layout.

use abi_stable::library::{LibraryError, RawLibrary, lib_header_from_path};
use dmtcp_plugin_api::abi::{ABI_VERSION, CoreApi, EVENTS_SYMBOL, Event, EventsOf, PLUGIN_SYMBOL, Plugin};
use dmtcp_plugin_api::restart::RestartModuleRef;
use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginLibraryError {
    /// The loader does not take it.
    #[error("the plugin {} cannot be loaded: {reason}; install what it needs (ldd shows what is not found), or leave it out", .path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// Its tables are of another version.
    #[error("the plugin {} is made for {which} DMTCP: build it against this one, or leave it out", .path.display())]
    Tables {
        /// The file.
        path: PathBuf,
        /// A newer or an older.
        which: &'static str,
    },
    /// Its restart half would not be usable at a restart.
    #[error("the plugin {} {reason}", .path.display())]
    RestartHalf {
        /// The file.
        path: PathBuf,
        /// The sentence's end.
        reason: String,
    },
}

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Smaller ones come first.
    pub priority: i32,
    /// Services that it cannot do without.
    pub requires: Vec<String>,
    /// Functions that it wraps.
    pub wrappers: Vec<String>,
    /// Events that it has hooks for, by title; `None`: it does not tell.
    pub events: Option<Vec<String>>,
    /// Whether it has a restart half.
    pub has_restart_half: bool,
}

/// Loads a plugin made with the interface of this project, and reads its tables. The restart half's layout is checked.
pub fn details(path: &Path) -> Result<Details, PluginLibraryError> {
    let load = |error: &LibraryError| PluginLibraryError::Load { path: path.into(), reason: said(error, path) };
    let library = RawLibrary::load_at(path).map_err(|error| load(&error))?;
    // It stays: what it has given away points into it.
    let library: &'static RawLibrary = Box::leak(Box::new(library));
    // SAFETY: what is exported under this name is a `Plugin`; version and sizes are checked before more is believed.
    let plugin: &'static Plugin =
        unsafe { *library.get(format!("{PLUGIN_SYMBOL}\0").as_bytes()).map_err(|error| load(&error))? };
    let tables = |which| PluginLibraryError::Tables { path: path.into(), which };
    if plugin.abi != ABI_VERSION {
        return Err(tables(if plugin.abi > ABI_VERSION { "a newer" } else { "an older" }));
    }
    if plugin.core_size as usize > size_of::<CoreApi>() || plugin.size as usize > size_of::<Plugin>() {
        return Err(tables("a newer"));
    }
    let has_restart_half = match restart_half(path) {
        Ok(_) => true,
        Err(RestartHalfError::None) => false,
        Err(error) => return Err(PluginLibraryError::RestartHalf { path: path.into(), reason: error.to_string() }),
    };
    // SAFETY: the tables are statics of a plugin of this version.
    unsafe {
        let mut wrappers = Vec::new();
        for list in std::slice::from_raw_parts(plugin.wrappers, plugin.wrapper_lists) {
            wrappers.extend(std::slice::from_raw_parts(list.first, list.count).iter().map(|w| text(w.symbol)));
        }
        let mut requires = Vec::new();
        let mut at = plugin.requires;
        while !at.is_null() && !(*at).is_null() {
            requires.push(text(*at));
            at = at.add(1);
        }
        Ok(Details {
            name: text(plugin.name),
            version: text(plugin.version),
            priority: plugin.priority,
            requires,
            wrappers,
            events: library.get(format!("{EVENTS_SYMBOL}\0").as_bytes()).ok().map(|of| titles(*of)),
            has_restart_half,
        })
    }
}

/// The loader for programs of this machine.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Whether all libraries are there that a plugin with the C interface needs. Its initialisers may do anything, so it is not
/// loaded here: the loader is asked what it would load.
pub fn check_needed(path: &Path) -> Result<(), PluginLibraryError> {
    let listed = Command::new(LOADER).arg("--list").arg(path).stdin(Stdio::null()).output();
    // Without an answer there is nothing to refuse; the program's own start tells.
    let Ok(listed) = listed else { return Ok(()) };
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    match said.trim().split_once("error while loading shared libraries: ") {
        Some((_, reason)) if !listed.status.success() => {
            Err(PluginLibraryError::Load { path: path.into(), reason: reason.into() })
        }
        _ => Ok(()),
    }
}

/// # Safety
/// The text must be zero-terminated and stay.
unsafe fn text(start: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned()
}

fn titles(of: EventsOf) -> Vec<String> {
    let mut numbers = [0u32; 64];
    // SAFETY: the array has the room that is said.
    let count = unsafe { of(numbers.as_mut_ptr(), numbers.len()) };
    let title = |number: &u32| {
        let known = Event::ALL.into_iter().find(|event| *event as u32 == *number);
        known.map_or_else(|| number.to_string(), |event| event.title().to_owned())
    };
    numbers.iter().take(count).map(title).collect()
}

/// Why there is no restart half. The texts are the ends of a sentence that begins with the plugin.
#[derive(Debug, thiserror::Error)]
pub enum RestartHalfError {
    /// It was built without one.
    #[error("has no restart half: it was built without restart_half!")]
    None,
    /// The loader does not take the file.
    #[error("cannot be loaded: {0}")]
    Load(String),
    /// The versions do not go together.
    #[error(
        "has a restart half for interface {of_plugin}, and this program has {of_program}: build it against this version"
    )]
    Version {
        /// The plugin's.
        of_plugin: String,
        /// This program's.
        of_program: String,
    },
    /// The layouts differ.
    #[error("has a restart half with another layout: build it against this version")]
    Layout,
}

/// The restart half in a plugin's file. Its layout is checked before anything of it is called.
pub fn restart_half(path: &Path) -> Result<RestartModuleRef, RestartHalfError> {
    // Not `load_from_file`, which knows one library per type of module.
    lib_header_from_path(path).and_then(|header| header.init_root_module::<RestartModuleRef>()).map_err(|error| {
        // Errors of this crate fill a page.
        match error {
            LibraryError::GetSymbolError { .. } => RestartHalfError::None,
            LibraryError::OpenError { .. } => RestartHalfError::Load(said(&error, path)),
            LibraryError::IncompatibleVersionNumber { expected_version, actual_version, .. } => {
                RestartHalfError::Version {
                    of_plugin: actual_version.to_string(),
                    of_program: expected_version.to_string(),
                }
            }
            _ => RestartHalfError::Layout,
        }
    })
}

/// What the loader said, without the path, which is in every sentence already.
fn said(error: &LibraryError, path: &Path) -> String {
    let text = match error {
        LibraryError::OpenError { err, .. } | LibraryError::GetSymbolError { err, .. } => err.to_string(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().replace(&format!("{}: ", path.display()), "")
}
