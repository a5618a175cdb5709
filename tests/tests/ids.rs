//! Restarts whose processes cannot have the ids that they had: the ids are translated, and nobody notices.
//!
//! All other tests run so, too, as `NAME::USER::translated`, when all tests are asked for.

use dmtcp_tests::{Case, Need, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::fs::File;
use std::process::{Command, ExitCode};

const STATUS: i32 = 7;

fn translated() -> Restart {
    Restart::images().ids("translate")
}

/// What a translated computation has written is restarted both ways.
fn both_ways_in_turn(s: &mut Scenario) -> Result<()> {
    s.generations(&[translated(), Restart::images().ids("same"), translated(), translated()], 3)?;
    s.finish(STATUS)
}

/// No ids may be chosen, and no namespace made: translation is what is left, unless it is forbidden.
fn neither_privilege_nor_namespace(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()?;
    s.set_env("DMTCP_FORBID", "clone3_set_tid,pid_namespace");
    let images = s.image_files()?;
    let port = s.port()?;
    let mut command = s.tool("dmtcp_restart");
    command.args(["-j", "-p", &port]).args(images).env("DMTCP_PID_RESTORE", "same");
    let answer = s.output(command)?;
    ensure!(answer.status.code() == Some(99), "a restart with the same ids only ended with {}", answer.status);
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// Translated while those that really have the ids still live: whoever is remembered is not mistaken for them.
fn beside_the_originals(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.leave_stopped()?;
    s.restart(&translated())?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()?;
    s.restart(&translated())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// What the program does between two checkpoints, when it is asked to.
fn asked_between_checkpoints(s: &mut Scenario) -> Result<()> {
    let ask = |s: &mut Scenario| {
        let file = s.path("ask");
        File::create(&file)?;
        s.run_as().own(&file)?;
        wait::until(30, "the program to do what it is asked to", || {
            s.progress().complaint()?;
            Ok((!file.exists()).then_some(()))
        })
    };
    s.launch()?;
    s.see_steps(3)?;
    ask(s)?;
    for how in [translated(), Restart::images().ids("same"), translated(), translated()] {
        s.checkpoint()?;
        s.see_steps(3)?;
        s.kill()?;
        s.restart(&how)?;
        s.see_steps(3)?;
        ask(s)?;
    }
    s.finish(STATUS)
}

/// As [`asked_between_checkpoints`], with a program beside it that has no library at all, and asks for its id.
fn births_past_libc(s: &mut Scenario) -> Result<()> {
    let source = s.path("static.c");
    std::fs::write(
        &source,
        "void _start(void) { long r; for (long call = 39;; call = 60) \
         __asm__ volatile(\"syscall\" : \"=a\"(r) : \"0\"(call), \"D\"(0) : \"rcx\", \"r11\"); }\n",
    )?;
    let made = Command::new("gcc").args(["-nostdlib", "-static", "-o"]).arg(s.path("static")).arg(&source).status()?;
    ensure!(made.success(), "gcc: {made}");
    asked_between_checkpoints(s)
}

fn shell(shell: &str, name: &str) -> Program {
    Program::script(&[shell], "shell.sh", name)
}

fn main() -> ExitCode {
    let c = |source| Program::c(source, &[]);
    let family = |kind| Program::c("families.c", &[]).args(&[kind]);
    let both_ways = [
        Case::flow("ids_of_process_and_threads", c("ids.c"), both_ways_in_turn).streams(5),
        Case::flow("ids_that_calls_take_and_give", c("ids_in_calls.c"), asked_between_checkpoints)
            .streams(2)
            .sampled_as(RunAs::Root),
        Case::flow("inline_calls", c("inline_ids.c"), both_ways_in_turn).streams(4).sampled_as(RunAs::User),
        Case::flow("go_is_preempted", Program::go("preempted.go"), both_ways_in_turn).streams(2).full_only(),
        Case::flow("inline_births_and_signals", c("inline_ids.c"), births_past_libc).streams(4).sampled_as(RunAs::Root),
        Case::flow("files_and_lists_of_proc", c("own_proc.c"), both_ways_in_turn).sampled_as(RunAs::User),
        Case::flow("mutexes_held", c("mutexes.c"), both_ways_in_turn).sampled_as(RunAs::User),
        Case::flow("mutexes_that_the_kernel_reads", c("kernel_mutexes.c"), both_ways_in_turn)
            .streams(3)
            .sampled_as(RunAs::User),
        Case::flow("signals", c("signals.c"), both_ways_in_turn).sampled_as(RunAs::Root),
        Case::flow("ids_that_are_asked_for_all_the_time", c("asking.c"), both_ways_in_turn)
            .streams(3)
            .sampled_as(RunAs::User),
        Case::flow("handlers_that_are_about_to_begin", c("handlers_begin.c"), both_ways_in_turn)
            .sampled_as(RunAs::User),
        Case::flow("timers", c("posix_timers.c"), both_ways_in_turn).full_only(),
        Case::flow("tree_with_sessions_and_groups", family("tree"), both_ways_in_turn).streams(7),
        Case::flow("parent_waits_for_children", family("waiting"), both_ways_in_turn).streams(2),
        Case::flow("dash_starts_programs", shell("/bin/dash", "dash"), both_ways_in_turn).sampled_as(RunAs::User),
        Case::flow("bash_starts_programs", shell("/bin/bash", "bash"), both_ways_in_turn).full_only(),
    ];
    let translated_only = [
        Case::flow("neither_privilege_nor_namespace", family("tree"), neither_privilege_nor_namespace).streams(7),
        Case::flow("beside_the_originals", family("tree"), beside_the_originals).streams(7).full_only(),
    ];
    let both_ways = both_ways.into_iter().map(|case| case.needs(Need::CHOSEN_IDS).needs(Need::PID_NAMESPACE));
    let each = |case: Case| case.not_translated("it says of each restart how ids come back");
    runner::main(both_ways.chain(translated_only).map(each).collect())
}
