//! Which plugins a launch takes, in which order, and what is said about them.
//!
//! ```text
//!   --with-plugin, DMTCP_PLUGIN  --look into the file, load, read the tables-->  given
//!   plugins that come with us    --switched on and off by flags and variables->  built in
//!   LD_PRELOAD: core, given ones, ours, given ones with the C interface, the user's own
//! ```
//! What can go wrong: a file that is no plugin, two plugins of one name, a flag that names what is not there.

use crate::flags;
use crate::launch_flags::LaunchFlags;
use crate::libraries::{BUILT_IN, BuiltIn, Libraries, LibraryError, OPTIONAL};
use crate::plugin_file::{self, Interface, PluginError};
use crate::plugin_library::{self, Details, PluginLibraryError};
use std::path::PathBuf;

/// Why the plugins will not do.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// One of ours is missing.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A file is no plugin.
    #[error(transparent)]
    File(#[from] PluginError),
    /// A plugin cannot be used.
    #[error(transparent)]
    Plugin(#[from] PluginLibraryError),
    /// Two plugins have one name.
    #[error("two plugins are named {name}: {} and {}; leave one of them out (--disable-plugin {name}, if it came with DMTCP)", .first.display(), .second.display())]
    Twice {
        /// The name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A flag names a plugin that is not there.
    #[error("{flag}: there is no plugin {name}; there are {known}")]
    NoPlugin {
        /// The flag.
        flag: &'static str,
        /// What it names.
        name: String,
        /// What there is.
        known: String,
    },
    /// A flag names a wrapper that is not there.
    #[error("--disable-wrapper: the plugin {plugin} does not wrap {symbol}; it wraps {known}")]
    NoWrapper {
        /// The plugin.
        plugin: String,
        /// What the flag names.
        symbol: String,
        /// What there is.
        known: String,
    },
}

/// Where a plugin comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user names its file.
    Given,
    /// It comes with this program.
    BuiltIn(&'static BuiltIn),
}

/// A plugin that is there.
#[derive(Debug)]
pub struct Candidate {
    /// Where it comes from.
    pub origin: Origin,
    /// Its file.
    pub path: PathBuf,
    /// Which interface it is made with.
    pub interface: Interface,
    /// What it says about itself: of given ones with the interface of this project.
    pub details: Option<Details>,
    /// Whether it is to be loaded.
    pub is_on: bool,
}

impl Candidate {
    /// Its name; one with the C interface tells it only when it is initialised.
    pub fn name(&self) -> Option<&str> {
        match (&self.details, self.origin) {
            (Some(details), _) => Some(&details.name),
            (None, Origin::BuiltIn(plugin)) => Some(plugin.name),
            (None, Origin::Given) => None,
        }
    }

    /// Its details; its library is loaded for them if need be.
    pub fn look(&mut self) -> Result<Option<&Details>, PluginLibraryError> {
        if self.details.is_none() && self.interface == Interface::Stub {
            self.details = Some(plugin_library::details(&self.path)?);
        }
        Ok(self.details.as_ref())
    }
}

/// All plugins that there are for these flags, in the order of `LD_PRELOAD`, those that are switched off among them.
pub fn choose(flags: &LaunchFlags, libraries: &Libraries) -> Result<Vec<Candidate>, ChoiceError> {
    let mut all = Vec::new();
    let mut of_c = Vec::new();
    for path in given(flags) {
        let interface = plugin_file::examine(&path)?;
        let (into, details) = match interface {
            Interface::Stub => (&mut all, Some(plugin_library::details(&path)?)),
            Interface::C => {
                plugin_library::check_needed(&path)?;
                (&mut of_c, None)
            }
        };
        into.push(Candidate { origin: Origin::Given, path, interface, details, is_on: true });
    }
    for (plugin, is_on) in OPTIONAL
        .iter()
        .map(|plugin| (plugin, flags.is_enabled(plugin) && !flags.is_disabled(plugin)))
        .chain(BUILT_IN.iter().map(|plugin| (plugin, !flags.is_disabled(plugin))))
    {
        // A plugin that is switched off need not be there.
        let path = match libraries.plugin(plugin) {
            Err(_) if !is_on => continue,
            path => path?,
        };
        all.push(Candidate { origin: Origin::BuiltIn(plugin), path, interface: Interface::Stub, details: None, is_on });
    }
    all.append(&mut of_c);
    switch_off(&flags.disable_plugin, &mut all)?;
    check_names(&all)?;
    Ok(all)
}

/// `--disable-plugin` for plugins that the user has given; ours know it already.
fn switch_off(names: &[String], all: &mut [Candidate]) -> Result<(), ChoiceError> {
    for name in names.iter().filter(|name| !BUILT_IN.iter().chain(&OPTIONAL).any(|plugin| plugin.name == **name)) {
        let mut found = false;
        for candidate in all.iter_mut().filter(|candidate| candidate.name() == Some(name)) {
            candidate.is_on = false;
            found = true;
        }
        if !found {
            return Err(no_plugin("--disable-plugin", name, all));
        }
    }
    Ok(())
}

fn no_plugin(flag: &'static str, name: &str, all: &[Candidate]) -> ChoiceError {
    let known: Vec<&str> = all.iter().filter_map(Candidate::name).collect();
    ChoiceError::NoPlugin { flag, name: name.into(), known: known.join(", ") }
}

fn check_names(all: &[Candidate]) -> Result<(), ChoiceError> {
    let on: Vec<&Candidate> = all.iter().filter(|candidate| candidate.is_on).collect();
    for (index, second) in on.iter().enumerate() {
        let Some(name) = second.name() else { continue };
        if let Some(first) = on.iter().take(index).find(|first| first.name() == Some(name)) {
            return Err(ChoiceError::Twice {
                name: name.into(),
                first: first.path.clone(),
                second: second.path.clone(),
            });
        }
    }
    Ok(())
}

/// Whether there are the wrappers that flags switch off.
pub fn check_wrappers(flags: &LaunchFlags, all: &mut [Candidate]) -> Result<(), ChoiceError> {
    for (name, symbol) in flags.disable_wrapper.iter().filter_map(|word| word.split_once(':')) {
        let Some(index) = all.iter().position(|candidate| candidate.is_on && candidate.name() == Some(name)) else {
            return Err(no_plugin("--disable-wrapper", name, all));
        };
        let wrappers = all[index].look()?.map(|details| &details.wrappers[..]).unwrap_or_default();
        if !wrappers.iter().any(|wrapped| wrapped == symbol) {
            let known = if wrappers.is_empty() { "nothing".into() } else { wrappers.join(", ") };
            return Err(ChoiceError::NoWrapper { plugin: name.into(), symbol: symbol.into(), known });
        }
    }
    Ok(())
}

/// The plugins that the user names, absolute, each once.
fn given(flags: &LaunchFlags) -> Vec<PathBuf> {
    let by_environment = flags::text(&["DMTCP_PLUGIN"]);
    let mut paths: Vec<PathBuf> = Vec::new();
    for name in flags.with_plugin.iter().chain(&by_environment).flat_map(|list| list.split(':')) {
        let path = std::path::absolute(name).unwrap_or_else(|_| name.into());
        if !name.is_empty() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}
