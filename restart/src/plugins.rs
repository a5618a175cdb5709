//! Restart halves: loading them, and calling their duties over all processes.
//!
//! A restart half comes from the plugin's own shared object, the one that the image names, or one of the same file name
//! among our own libraries. `abi_stable` checks its layout before anything of it is called.

use crate::descriptors::{Descriptors, Handle};
use crate::forest::Member;
use crate::host::{self, HostState, IdSource};
use dmtcp_image::read::Image;
use dmtcp_image::record;
use dmtcp_launcher::libraries::Libraries;
use dmtcp_launcher::plugin_library;
use dmtcp_plugin_api::restart::{HostRef, HostTable, RestartModuleRef};
use std::path::{Path, PathBuf};

/// Why restart halves cannot do their part.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file is gone.
    #[error("the plugin {name} is needed, and is neither at {} nor among this program's libraries: install it again", .path.display())]
    Gone {
        /// The plugin.
        name: String,
        /// Where it was.
        path: PathBuf,
    },
    /// The file is something else, or of another version.
    #[error("the plugin {name} cannot be used: {} {reason}", .path.display())]
    Unusable {
        /// The plugin.
        name: String,
        /// The file.
        path: PathBuf,
        /// One sentence's end.
        reason: String,
    },
    /// The program's own descriptors cannot be set up.
    #[error("cannot keep the images open: {0}")]
    Descriptors(std::io::Error),
    /// A duty failed.
    #[error("plugin {name}: {reason}")]
    Duty {
        /// The plugin.
        name: String,
        /// Its sentence.
        reason: String,
    },
}

/// The restart halves that the images need, in their order, and what they work on.
pub struct Plugins {
    modules: Vec<(String, RestartModuleRef)>,
    host: Box<HostState>,
    table: Box<HostTable>,
}

impl Plugins {
    /// Loads the restart halves of all plugins that have left something in the images.
    pub fn load(images: Vec<Image>, quiet: u8) -> Result<Self, Vec<PluginError>> {
        let mut modules: Vec<(String, RestartModuleRef)> = Vec::new();
        let mut errors = Vec::new();
        for image in &images {
            for plugin in &image.identity.plugins {
                let used = image.sections.iter().any(|section| section.plugin == plugin.name)
                    || image.blobs.iter().any(|blob| blob.plugin == plugin.name);
                if !used || modules.iter().any(|(name, _)| *name == plugin.name) {
                    continue;
                }
                match load(plugin) {
                    Ok(module) => modules.push((plugin.name.clone(), module)),
                    Err(error) => errors.push(error),
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let host = HostState::new(images, quiet).map_err(|error| vec![PluginError::Descriptors(error)])?;
        let host = Box::new(host);
        let table = Box::new(host::table(&host));
        Ok(Self { modules, host, table })
    }

    fn reference(&self, plugin: &str) -> HostRef {
        self.host.call_for(plugin);
        HostRef::new(&self.table)
    }

    /// Everything that is missing here.
    pub fn check(&self) -> Vec<PluginError> {
        let mut missing = Vec::new();
        for (name, module) in &self.modules {
            let sentences = module.check()(self.reference(name));
            missing.extend(sentences.into_iter().map(|s| PluginError::Duty { name: name.clone(), reason: s.into() }));
        }
        missing
    }

    /// Makes the kernel objects.
    pub fn create(&self) -> Result<(), PluginError> {
        for (name, module) in &self.modules {
            let done = module.create()(self.reference(name)).into_result();
            done.map_err(|reason| PluginError::Duty { name: name.clone(), reason: reason.into() })?;
        }
        Ok(())
    }

    /// Puts things into the calling process, which is number `index`.
    pub fn place(&self, index: u32) -> Result<(), PluginError> {
        for (name, module) in &self.modules {
            let done = module.place()(self.reference(name), index).into_result();
            done.map_err(|reason| PluginError::Duty { name: name.clone(), reason: reason.into() })?;
        }
        Ok(())
    }

    /// What each plugin says about a process.
    pub fn explain(&self, index: u32) -> Vec<(String, String)> {
        self.modules
            .iter()
            .map(|(name, module)| (name.clone(), module.explain()(self.reference(name), index).into()))
            .collect()
    }

    /// The images.
    pub fn images(&self) -> &[Image] {
        self.host.images()
    }

    /// The descriptors.
    pub fn descriptors(&self) -> &Descriptors {
        &self.host.descriptors
    }

    /// An image's descriptor.
    pub fn image_handle(&self, index: usize) -> Handle {
        self.host.image_handle(index)
    }

    /// Where messages go, whatever descriptor 2 is by now.
    pub fn stderr(&self) -> i32 {
        self.host.inherited_number(2)
    }

    /// The descriptor that messages go to.
    pub fn stderr_handle(&self) -> Option<Handle> {
        self.host.inherited_handle(2)
    }

    /// What is known of each process' place in the family.
    pub fn members(&self) -> Vec<Member> {
        self.host.members()
    }

    /// Says where the processes' ids come from.
    pub fn set_id_source(&self, source: IdSource) {
        self.host.set_id_source(source);
    }

    /// The object that is a table of ids.
    pub fn id_table(&self) -> Option<u64> {
        self.host.id_table()
    }

    /// The ids that a plugin wants for a process: pid first.
    pub fn wanted_ids(&self, index: usize) -> Option<Vec<i32>> {
        self.host.wanted_ids(index)
    }
}

/// A plugin's file: where the image says, which keeps a plugin together with its own restart half, or else the one of that
/// name that belongs to this program.
fn find(path: &Path) -> Option<PathBuf> {
    let of_this_program = || {
        let own = std::env::current_exe().ok()?;
        Some(Libraries::find(&own).ok()?.file(path.file_name()?))
    };
    [Some(path.to_path_buf()), of_this_program()].into_iter().flatten().find(|path| path.is_file())
}

fn load(plugin: &record::Plugin) -> Result<RestartModuleRef, PluginError> {
    let recorded = PathBuf::from(&plugin.path);
    let Some(path) = find(&recorded) else {
        return Err(PluginError::Gone { name: plugin.name.clone(), path: recorded });
    };
    plugin_library::restart_half(&path).map_err(|error| PluginError::Unusable {
        name: plugin.name.clone(),
        path,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_plugin_is_named_with_its_file() {
        let plugin =
            record::Plugin { name: "nosuch".into(), version: "1".into(), path: "/nowhere/libnosuch.so".into() };
        let text = load(&plugin).map(drop).unwrap_err().to_string();
        assert!(text.contains("nosuch") && text.contains("/nowhere/libnosuch.so"), "{text}");
    }

    #[test]
    fn a_foreign_file_is_refused_in_one_line() {
        let plugin = record::Plugin { name: "text".into(), version: "1".into(), path: "/etc/passwd".into() };
        let text = load(&plugin).map(drop).unwrap_err().to_string();
        assert!(!text.contains('\n') && text.contains("/etc/passwd"), "{text}");
    }
}
