//! dmtcp_launch: runs a program so that it can be checkpointed.
//!
//! Entered without Rust's runtime, which would change the disposition of SIGPIPE and fill closed standard descriptors:
//! the program that this becomes is to find everything as it was.

#![no_main]

use dmtcp_launcher::launch::{self, PROGRAM};
use dmtcp_launcher::launch_flags::LaunchFlags;
use dmtcp_launcher::{failure, say, start};

start!(run);

fn run() -> i32 {
    let flags: LaunchFlags = failure::parse_arguments(failure::code());
    if flags.list_plugins {
        return match launch::list_plugins(&flags) {
            Ok(text) => {
                say::out_at_once(text);
                0
            }
            Err(error) => failure::fail(PROGRAM, error),
        };
    }
    failure::fail(PROGRAM, launch::launch(&flags))
}
