//! Timers of every kind, each held by a small C program that checks it at every step through three generations.

use dmtcp_tests::{Case, Program, runner};
use std::process::ExitCode;

fn main() -> ExitCode {
    let c = |source| Program::c(source, &[]);
    runner::main(vec![
        Case::new("posix_timers_of_every_kind", c("posix_timers.c")),
        Case::new("timers_that_expire_while_all_stand_still", c("brief_timers.c")).steps(10),
        Case::new("interval_timers", c("interval_timers.c")),
        Case::new("an_alarm_comes_once_and_not_early", c("alarm.c")),
    ])
}
