//! dmtcp_nocheckpoint: runs a program outside of control, from inside a computation.

#![no_main]

use clap::Parser;
use dmtcp_launcher::exec::{self, Environment};
use dmtcp_launcher::{failure, say, start, target};
use dmtcp_protocol::env;
use std::ffi::{OsStr, OsString};

/// Wrong use.
const USAGE: i32 = 1;
/// The program cannot be run.
const NOT_RUN: i32 = 2;

/// Runs a program outside of a computation's control.
///
/// It is not part of checkpoints, and neither is what it starts. After a restart it is not there.
#[derive(Parser, Debug)]
#[command(
    name = "dmtcp_nocheckpoint",
    version,
    after_help = "Exit status: the program's own; 1: wrong use; 2: it was not started."
)]
struct Args {
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "PROGRAM [ARGUMENT]...")]
    command: Vec<OsString>,
}

start!(run);

fn run() -> i32 {
    let Args { command } = failure::parse_arguments(USAGE);
    let mut environment = Environment::inherited();
    match environment.get(env::ORIG_LD_PRELOAD).map(OsString::from) {
        Some(original) if !original.is_empty() => environment.set("LD_PRELOAD", original),
        Some(_) => environment.remove("LD_PRELOAD"),
        None => {}
    }
    for ours in [env::ORIG_LD_PRELOAD, env::HIJACK_LIBS, env::PLUGIN_PATHS] {
        environment.remove(ours);
    }
    // clap demands a command.
    let name = command.first().map(OsString::as_os_str).unwrap_or(OsStr::new(""));
    let error = match target::find(name) {
        Ok(path) => exec::become_program(&path, &command, &environment).to_string(),
        Err(error) => error.to_string(),
    };
    say::err(format_args!("dmtcp_nocheckpoint: cannot run {}: {error}", name.display()));
    NOT_RUN
}
