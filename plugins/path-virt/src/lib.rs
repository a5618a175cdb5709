//! Plugin `path-virt`: the program knows a path by one name, the file system by another.
//!
//! | module | owns |
//! |---|---|
//! | [`mapping`] | the list of names, both ways |
//! | [`open`] | functions that open files |
//! | [`names`] | functions that take paths and open nothing |
//! | [`told`] | what other plugins make of a path |
//! | [`results`] | functions that give paths: what the program sees is its own name |
//!
//! `DMTCP_PATH_MAPPING=OLD:NEW;OLD2:NEW2` is read when the program starts, and again from the environment of a restart.
//! Where the program says OLD or something below it, the file system gets NEW. dmtcp_restart applies the same list to the
//! files that it opens again; files that were open under a NEW of before need an entry of their own (`NEW:NEWER`).
//!
//! What can go wrong: a name that gets by. Raw system calls, functions inside libc (`ftw`, `glob`, `dlopen`), and programs
//! that are executed are not translated; relative names are what the working directory makes of them.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

mod mapping;
mod names;
mod open;
mod results;
mod told;

use dmtcp_plugin_api::{hook, plugin};

plugin! {
    name: "path-virt",
    priority: -800,
    requires: [],
    wrappers: [open::WRAPPERS, names::WRAPPERS, results::WRAPPERS],
    init: |_| true,
}

hook!(Restart, |core| {
    if let Some(text) = core.restart_environment(mapping::VARIABLE) {
        mapping::replace(&text);
    }
});
