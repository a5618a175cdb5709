//! Plugin `file`: everything that is a file, with a name or without one, and what is mapped of it.
//!
//! | module | owns |
//! |---|---|
//! | [`claim`] | which open file descriptions are ours; one round of claims |
//! | [`regular`] | regular files, directories, memfds, files of /proc |
//! | [`device`] | device nodes, terminals, inherited standard streams |
//! | [`names`] | whether a path still leads to a file |
//! | [`locks`] | flock, POSIX and OFD locks, leases |
//! | [`memory`] | shared mappings of files |
//! | [`late`] | what can only be put back in restored memory |
//! | [`state`] | what is written into the image |
//! | [`restart`] | the restart half |
//!
//! A file with a name is not saved: it is opened again, cut back to its size if the process had been writing to it. Bytes
//! go into the image only where no name leads to them, or where they are memory rather than storage (/dev/shm).

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

#[cfg(test)]
mod both_halves;
mod claim;
mod device;
mod late;
mod locks;
mod memory;
mod names;
mod regular;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it runs in dmtcp_restart")]
mod restart;
mod state;

use dmtcp_plugin_api::{descriptors, hook, kept, plugin, restart_half};

/// The name that sections and messages carry.
const NAME: &str = "file";

plugin! {
    name: "file",
    priority: 0,
    requires: ["descriptors"],
    wrappers: [],
    init: |_| true,
}

hook!(Init, |core| {
    // The core has checked that the service is there.
    descriptors::register(core, &claim::CLAIMER);
});
hook!(Resume, kept::release);
hook!(Placed, late::lock);
hook!(Restart, kept::release);
hook!(Restart, priority: 10, late::restore);

restart_half!("file", restart::Half);
