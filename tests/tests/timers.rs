//! Timers of every kind, each held by a small C program that checks it at every step through three generations.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Program, Result, Scenario, ensure, runner};
use std::process::ExitCode;

/// Threads that are woken to take a signal while all stand still rest again before their memory is written: it is what its
/// checksums say.
fn images_are_whole(s: &mut Scenario) -> Result<()> {
    const CHECKPOINTS: usize = 40;
    s.launch()?;
    s.see_steps(2)?;
    for round in 0..CHECKPOINTS {
        s.checkpoint()?;
        let mut inspect = s.tool("dmtcp_inspect");
        inspect.arg("--check").args(s.image_files()?);
        let checked = s.output(inspect)?;
        ensure!(checked.status.success(), "checkpoint {round}: {}", text(&checked));
    }
    s.finish(7)
}

fn main() -> ExitCode {
    let c = |source| Program::c(source, &[]);
    runner::main(vec![
        Case::new("posix_timers_of_every_kind", c("posix_timers.c")),
        Case::new("timers_that_expire_while_all_stand_still", c("brief_timers.c")).steps(10),
        Case::flow("images_are_whole_although_signals_come", c("brief_timers.c"), images_are_whole),
        Case::new("timers_that_expire_as_soon_as_their_signal_is_taken", c("eager_timers.c")),
        Case::new("interval_timers", c("interval_timers.c")),
        Case::new("an_alarm_comes_once_and_not_early", c("alarm.c")),
    ])
}
