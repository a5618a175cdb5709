//! Plugin `ipc`: the descriptor broker, pipes and FIFOs, shared anonymous memory.
//!
//! | module | owns |
//! |---|---|
//! | [`broker`] | the application's descriptor numbers: who they are, who saves them (service `descriptors`) |
//! | [`group`] | which numbers are one open file description |
//! | [`neighbours`] | what other processes of the computation hold |
//! | [`pipes`] | pipes and FIFOs, bytes in flight included |
//! | [`shared_memory`] | MAP_SHARED memory without a file |
//! | [`signals`] | F_SETOWN, F_SETSIG, O_ASYNC |
//! | [`state`] | what is written into the image |
//! | [`restart`] | the restart half |
//!
//! Order: its priority is below that of all plugins that claim descriptors. Before a checkpoint its hook, which asks them,
//! therefore runs first; at restart its numbers stand before the others' `place` runs.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

mod broker;
mod group;
mod neighbours;
mod pipes;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it runs in dmtcp_restart")]
mod restart;
mod shared_memory;
mod signals;
mod state;

use dmtcp_plugin_api::{hook, kept, plugin, restart_half};

/// The name that sections and messages carry.
const NAME: &str = "ipc";

plugin! {
    name: "ipc",
    priority: -100,
    requires: [],
    wrappers: [],
    init: broker::offer,
}

hook!(PreCheckpoint, broker::run);
hook!(PreCheckpoint, priority: 10, shared_memory::describe);
hook!(PreCheckpoint, priority: 20, neighbours::describe);
hook!(Resume, kept::release);
hook!(Restart, kept::release);
hook!(Restart, priority: 10, signals::restore);

restart_half!("ipc", restart::Half);
