//! The restart half of a plugin: ordinary Rust inside `dmtcp_restart` and `dmtcp_inspect`.
//!
//! A plugin's restart half has one input, what its in-process half wrote into the image (sections and blobs), and four
//! duties, called in this order over all plugins, in the order that the image names them:
//!
//! 1. `check`: say everything that is missing here, at once and without touching anything;
//! 2. `create`: make each kernel object once per host, in the restarter, and [`Host::provide`] it;
//! 3. `place`: in each process that is to become one of the computation (forked from the restarter, the application's
//!    memory not there yet): put things where the process had them;
//! 4. `explain`: for `dmtcp_inspect`, a few lines for a person.
//!
//! What can only be done in restored memory (signals, timers, resource limits) belongs into the RESTART hook of the
//! in-process half.

mod content;
mod host;
mod module;

pub use host::{BlobAt, EndedChild, Host, HostRef, HostTable, Process, Text};
pub use module::{RestartModule, RestartModuleRef, adapter};

/// What the author of a restart half writes; [`crate::restart_half!`] exports it.
pub trait RestartHalf: Sync {
    /// One sentence for each thing that keeps the computation from being restarted here.
    fn check(&self, host: &Host<'_>) -> Vec<String>;
    /// Makes the kernel objects.
    fn create(&self, host: &Host<'_>) -> Result<(), String>;
    /// Puts them into one process, which is the calling one. `index` counts as [`Host::process`] does.
    fn place(&self, host: &Host<'_>, index: u32) -> Result<(), String>;
    /// A few lines about what the image of process `index` holds.
    fn explain(&self, host: &Host<'_>, index: u32) -> String;
}
