//! Plugin `event`: eventfd, timerfd, signalfd, epoll, pidfds.
//!
//! | module | owns |
//! |---|---|
//! | [`claim`] | which open file descriptions are ours; one round of claims |
//! | [`eventfd`], [`timerfd`], [`epoll`] | what the kernel tells of each kind |
//! | [`state`] | what is written into the image |
//! | [`restart`] | the restart half |
//!
//! All of it is in /proc/PID/fdinfo; nothing is consumed.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

#[cfg(test)]
mod both_halves;
mod claim;
mod epoll;
mod eventfd;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it runs in dmtcp_restart")]
mod restart;
mod state;
mod timerfd;

use dmtcp_plugin_api::{descriptors, hook, plugin, restart_half};

/// The name that sections and messages carry.
const NAME: &str = "event";

plugin! {
    name: "event",
    priority: 10,
    requires: ["descriptors"],
    wrappers: [],
    init: |_| true,
}

hook!(Init, |core| {
    // The core has checked that the service is there.
    descriptors::register(core, &claim::CLAIMER);
});
hook!(Restart, timerfd::restore);

restart_half!("event", restart::Half);
