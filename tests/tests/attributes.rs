//! What a process has beside memory, threads and descriptors: limits that leave nothing over, every kind of scheduling,
//! directories that are gone. The kinder ways to meet them are in `resources.rs` and `single_process.rs`.

use dmtcp_tests::cpuset::Cpuset;
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Need, Program, Restart, Result, RunAs, Scenario, ensure, runner};
use std::fs;
use std::process::ExitCode;

/// Exit status of all programs here.
const STATUS: i32 = 7;

fn c(source: &str) -> Program {
    Program::c(source, &[])
}

/// A checkpoint that must fail with this word, and harm nothing.
fn fails_and_goes_on(word: &'static str) -> impl Fn(&mut Scenario) -> Result<()> + Send + Sync {
    move |s| {
        s.launch()?;
        s.see_steps(3)?;
        for _ in 0..3 {
            let answer = s.ask(&["bc"])?;
            let said = text(&answer);
            ensure!(answer.status.code() == Some(2), "a checkpoint beyond the limit: {}: {said}", answer.status);
            ensure!(said.contains(word), "the message does not say '{word}': {said}");
            s.see_steps(3)?;
        }
        s.finish(STATUS)
    }
}

fn limits() -> Vec<Case> {
    let limits = |args: &[&str]| c("tight_limits.c").args(args);
    let (memory, size) = (limits(&["hard", "1", "64"]), limits(&["hard", "0x10", "0"]));
    vec![
        Case::new("limits_that_leave_nothing", limits(&["soft", "0x7f", "0"])),
        Case::new("limits_that_stay_for_good", limits(&["hard", "0x4f", "4096"])).sampled_as(RunAs::User),
        Case::flow("no_checkpoint_beyond_the_limit_of_memory", memory, fails_and_goes_on("ulimit -v"))
            .only(RunAs::User),
        Case::flow("no_image_beyond_the_limit_of_file_size", size, fails_and_goes_on("ulimit -f")).only(RunAs::User),
    ]
}

/// Restarted where fewer processors are allowed, threads that had chosen theirs keep them, and the others stay where they
/// are let.
fn on_one_processor(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    s.restart(&Restart::images().under(&["taskset", "-c", "0"]))?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// Restarted where fewer processors may be used, threads that had chosen others use what they may.
fn in_a_smaller_cpuset(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    let group = Cpuset::new()?;
    let enter = group.enter();
    for _ in 0..2 {
        s.checkpoint()?;
        s.kill()?;
        s.restart(&Restart::images().under(&enter.each_ref().map(String::as_str)))?;
        s.see_steps(3)?;
    }
    s.finish(STATUS)
}

fn scheduling() -> Vec<Case> {
    let pinned = c("scheduled.c").args(&["pinned"]);
    let confined = c("scheduled.c").args(&["confined"]);
    vec![
        Case::new("threads_of_every_policy", c("scheduled.c").args(&["privileged"])).streams(7).only(RunAs::Root),
        Case::new("threads_of_every_ordinary_policy", c("scheduled.c")).streams(3).only(RunAs::User),
        Case::flow("fewer_processors_at_the_restart", pinned, on_one_processor).streams(3),
        Case::flow("fewer_processors_are_allowed_at_the_restart", confined, in_a_smaller_cpuset)
            .streams(3)
            .only(RunAs::Root)
            .needs(Need::Cpuset),
    ]
}

/// The working directory is removed while the program runs, or between the checkpoint and the restart.
fn directory_is_gone(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    fs::remove_dir(s.path("inner"))?;
    s.output_in_pipe();
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    let said = fs::read_to_string(s.output_file())?;
    ensure!(said.contains("working directory") && said.contains("inner"), "nobody says what is missing: {said}");
    s.finish(STATUS)
}

fn another_root(s: &mut Scenario) -> Result<()> {
    s.steps_on_stdout();
    fails_and_goes_on("root directory")(s)
}

fn directories() -> Vec<Case> {
    let place = |how: &str| c("places.c").args(&[how]);
    vec![
        Case::new("working_directory_that_was_removed", place("removed")),
        Case::new("working_directory_that_was_moved_and_taken", place("moved")),
        Case::flow("working_directory_that_is_gone_at_the_restart", place("gone"), directory_is_gone),
        Case::flow("another_root_directory_is_refused", place("chroot"), another_root).only(RunAs::Root),
    ]
}

/// A filter of seccomp(2) that the program has made is named by checkpoint and restart, by the next ones too.
fn filter_is_named(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.output_in_pipe();
    for _ in 0..2 {
        let answer = s.ask(&["bc"])?;
        let said = text(&answer);
        ensure!(answer.status.success() && said.contains("seccomp"), "bc: {}: {said}", answer.status);
        s.checkpoint()?;
        s.kill()?;
        s.restart(&Restart::images())?;
        s.see_steps(3)?;
        let said = fs::read_to_string(s.output_file())?;
        ensure!(said.contains("filters of seccomp(2)"), "the restart does not say what is missing: {said}");
    }
    s.finish(STATUS)
}

fn rights() -> Vec<Case> {
    let confined = |how: &str| c("confined.c").args(&[how]);
    vec![
        Case::new("rights_of_each_thread", c("rights.c")).streams(2).sampled_as(RunAs::Root),
        Case::flow("filters_of_system_calls_are_named", confined("filter"), filter_is_named).sampled_as(RunAs::User),
        Case::flow("no_checkpoint_of_a_strictly_confined_thread", confined("strict"), fails_and_goes_on("strict mode"))
            .sampled_as(RunAs::Root),
    ]
}

fn main() -> ExitCode {
    runner::main([limits(), scheduling(), directories(), rights()].into_iter().flatten().collect())
}
