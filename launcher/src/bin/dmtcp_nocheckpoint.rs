//! dmtcp_nocheckpoint: runs a program outside of control, from inside a computation.

#![no_main]

use dmtcp_launcher::exec::{self, Environment};
use dmtcp_launcher::{say, start, target};
use dmtcp_protocol::env;
use std::ffi::OsString;

/// Wrong use.
const USAGE: i32 = 1;
/// The program cannot be run.
const NOT_RUN: i32 = 2;

start!(run);

fn run() -> i32 {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "--") {
        arguments.remove(0);
    }
    match arguments.first().and_then(|word| word.to_str()) {
        Some("--version") => {
            say::out(format_args!("dmtcp_nocheckpoint {}", env!("CARGO_PKG_VERSION")));
            return 0;
        }
        Some("--help") => {
            say::out(
                "Usage: dmtcp_nocheckpoint PROGRAM [ARGUMENT]...\nRuns a program outside of a computation's control.",
            );
            return 0;
        }
        _ => {}
    }
    let Some(name) = arguments.first() else {
        say::err("dmtcp_nocheckpoint: name a program to run outside of control");
        return USAGE;
    };
    let mut environment = Environment::inherited();
    match environment.get(env::ORIG_LD_PRELOAD).map(OsString::from) {
        Some(original) if !original.is_empty() => environment.set("LD_PRELOAD", original),
        Some(_) => environment.remove("LD_PRELOAD"),
        None => {}
    }
    for ours in [env::ORIG_LD_PRELOAD, env::HIJACK_LIBS, env::PLUGIN_PATHS] {
        environment.remove(ours);
    }
    let error = match target::find(name) {
        Ok(path) => exec::become_program(&path, &arguments, &environment).to_string(),
        Err(error) => error.to_string(),
    };
    say::err(format_args!("dmtcp_nocheckpoint: cannot run {}: {error}", name.display()));
    NOT_RUN
}
