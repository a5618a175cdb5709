//! How the programs end when they fail: one sentence on stderr, and one exit code that scripts can tell from the exit
//! codes of the application.

use crate::{generate, say};
use dmtcp_protocol::env;
use std::fmt::Display;

/// Exit code of our own failures: 99, or what `DMTCP_FAIL_RC` says.
pub fn code() -> i32 {
    std::env::var(env::FAIL_RC).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(env::FAILURE)
}

/// Says what happened and ends the program with [`code`], or as a variable for debugging says.
pub fn fail(program: &str, message: impl Display) -> ! {
    say::err(format_args!("{program}: {message}"));
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    if env::ABORT_ON_FAILURE.into_iter().any(is_set) {
        std::process::abort();
    }
    if is_set(env::SLEEP_ON_FAILURE) {
        say::err(format_args!("{program}: waiting for a debugger: gdb -p {}", std::process::id()));
        loop {
            std::thread::park();
        }
    }
    std::process::exit(code())
}

/// Reads the command line; `--help` and `--version` end the program with 0, a wrong one with `wrong`.
pub fn parse_arguments<A: clap::Parser>(wrong: i32) -> A {
    generate::answer(A::command);
    A::try_parse().unwrap_or_else(|error| {
        // Nothing can be done when stdout or stderr is closed; the exit code still tells.
        let _ = error.print();
        std::process::exit(if error.use_stderr() { wrong } else { 0 })
    })
}
