//! What one process consists of beside descriptors: threads, signals, memory, time. Each is held by a small C program that
//! checks it at every step; the kinder ways to meet it are in `resources.rs`.

use dmtcp_tests::process::{descendants, state_of};
use dmtcp_tests::{Case, Need, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::ExitCode;

/// Exit status of all programs here.
const STATUS: i32 = 7;

fn c(source: &str) -> Program {
    Program::c(source, &[])
}

/// Processes of the program, whatever started them.
fn instances(program: &str) -> Vec<i32> {
    let runs = |pid: &i32| {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        exe.file_name().is_some_and(|name| name == program)
    };
    descendants(false).into_iter().filter(runs).collect()
}

/// Waits until the program stands still.
fn await_standstill(program: &str) -> Result<()> {
    wait::until(30, &format!("{program} to stand still"), || {
        let all = instances(program);
        let stopped = |pid: &i32| state_of(*pid).is_some_and(|(state, _)| state == 'T');
        Ok((!all.is_empty() && all.iter().all(stopped)).then_some(()))
    })
}

/// Sends a signal to the program, and to whoever waits for it.
fn signal_all(signal: Signal) {
    for pid in descendants(false) {
        let stopped = state_of(pid).is_some_and(|(state, _)| state == 'T');
        if stopped == (signal == Signal::SIGCONT) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

fn stands_still(s: &mut Scenario) -> Result<()> {
    const PROGRAM: &str = "standing_still";
    s.launch()?;
    s.see_steps(3)?;
    for how in [Restart::images(), Restart::script(), Restart::images().moved()] {
        for pid in instances(PROGRAM) {
            kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
        }
        await_standstill(PROGRAM)?;
        s.checkpoint()?;
        await_standstill(PROGRAM)?;
        s.kill()?;
        s.restart(&how)?;
        await_standstill(PROGRAM)?;
        signal_all(Signal::SIGCONT);
        s.see_steps(3)?;
    }
    s.finish(STATUS)
}

/// A process that stands still is checkpointed twice, goes on where it was, and is killed by the command.
fn stands_still_and_goes_on(s: &mut Scenario) -> Result<()> {
    const PROGRAM: &str = "standing_still";
    s.launch()?;
    s.see_steps(3)?;
    for pid in instances(PROGRAM) {
        kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
    }
    await_standstill(PROGRAM)?;
    s.checkpoint()?;
    s.checkpoint()?;
    await_standstill(PROGRAM)?;
    signal_all(Signal::SIGCONT);
    s.see_steps(3)?;
    for pid in instances(PROGRAM) {
        kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
    }
    await_standstill(PROGRAM)?;
    let answer = s.ask(&["-k"])?;
    ensure!(answer.status.success(), "{}", dmtcp_tests::scenario::text(&answer));
    s.wait_end().map(drop)
}

/// Threads that SIGCONT has just continued are in the midst of a call that the kernel calls restart_syscall.
fn stopped_when_just_continued(s: &mut Scenario) -> Result<()> {
    const PROGRAM: &str = "waits_with_limits";
    s.launch()?;
    s.see_steps(1)?;
    for _ in 0..12 {
        for pid in instances(PROGRAM) {
            kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
        }
        await_standstill(PROGRAM)?;
        signal_all(Signal::SIGCONT);
        s.checkpoint()?;
    }
    s.see_steps(1)?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(1)?;
    s.finish(STATUS)
}

fn signals() -> Vec<Case> {
    let continued = c("waits_with_limits.c").args(&["continued"]);
    vec![
        Case::flow("stopped_before_and_after", c("standing_still.c"), stands_still).streams(2),
        Case::flow("stopped_twice_and_killed", c("standing_still.c"), stands_still_and_goes_on).streams(2),
        Case::flow("checkpointed_when_just_continued", continued, stopped_when_just_continued)
            .streams(14)
            .sampled_as(RunAs::User),
        Case::new("hundreds_of_pending_signals", c("pending.c")).streams(3),
        Case::new("pending_signals_without_a_first_thread", c("leaderless.c"))
            .not_translated("senders of signals that are pending without a first thread are not translated"),
        Case::new("threads_inside_signal_handlers", c("inside_handlers.c")).streams(3),
        Case::new("handlers_left_by_jumps_and_contexts", c("jumps.c")).streams(3).sampled_as(RunAs::User),
        Case::new("signals_taken_by_waiting", c("signal_users.c")).streams(4),
        Case::new("waits_with_masks_of_their_own", c("masked_waits.c")).streams(7).sampled_as(RunAs::User),
        Case::new("queues_full_of_signals", c("flooded.c")).sampled_as(RunAs::User),
        Case::new("write_barrier_and_profiler", c("collector.c")).streams(4),
    ]
}

/// Fifty checkpoints while everything changes, then restarts of the last ones.
fn fifty_checkpoints(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(1)?;
    for _ in 0..50 {
        s.checkpoint()?;
    }
    s.see_steps(1)?;
    for how in [Restart::images(), Restart::script()] {
        s.checkpoint()?;
        s.see_steps(1)?;
        s.kill()?;
        s.restart(&how)?;
        s.see_steps(1)?;
    }
    s.finish(STATUS)
}

fn threads() -> Vec<Case> {
    let helpers = Program::c("libc_helpers.c", &["-lanl", "-lrt"]);
    let moments = Program::c("odd_moments.c", &["-lm"]);
    let sequences = c("own_rseq.c").env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
    let thousand = c("threads.c").args(&["1000", "1500"]);
    vec![
        Case::new("a_thousand_threads", thousand).streams(1000).steps(1).limit(300).full_only(),
        Case::new("threads_detached_small_cancelled_and_raw", c("odd_threads.c")).streams(5),
        Case::new("cancelled_in_every_call_that_waits", c("cancelled.c")).sampled_as(RunAs::User),
        Case::new("restartable_sequences_of_their_own", sequences).streams(2).sampled_as(RunAs::User),
        Case::new("threads_at_odd_moments", moments).streams(6).full_only(),
        Case::new("threads_that_libc_makes_for_itself", helpers).streams(2).sampled_as(RunAs::User),
        Case::flow("fifty_checkpoints_in_a_storm", c("storm.c"), fifty_checkpoints).streams(6).limit(600).full_only(),
        Case::new("storm_of_threads_memory_and_signals", c("storm.c")).streams(6).sampled_as(RunAs::User),
    ]
}

fn memory() -> Vec<Case> {
    vec![
        Case::new("memory_advised_moved_grown_and_sealed", c("memory_odd.c")).streams(2).needs(Need::MM_MAP),
        Case::new("files_that_change_behind_their_mappings", c("file_mappings.c")),
        Case::new("sixty_thousand_mappings", c("many_mappings.c")).limit(300).full_only(),
        Case::new("rounding_modes_and_bases", Program::c("cpu_state.c", &["-lm"])).streams(5),
        Case::new("program_at_a_fixed_address", Program::c("mappings.c", &["-no-pie"])).sampled_as(RunAs::User),
    ]
}

fn synchronisation() -> Vec<Case> {
    let cxx = Program::cxx("cxx_waits.cpp", &["-std=c++20"]);
    vec![
        Case::new("threads_that_wait_for_each_other", c("waits_for_others.c"))
            .streams(12)
            .sampled_translated_as(RunAs::User),
        Case::new("mutexes_with_priority_ceiling", c("ceiling.c")).streams(2).only(RunAs::Root),
        Case::new("cxx_synchronisation", cxx).streams(7).sampled_as(RunAs::User),
        Case::new("rust_synchronisation", Program::rust("rust_waits.rs")).streams(6).sampled_as(RunAs::Root),
    ]
}

/// Waits of a second end although a checkpoint comes more often than that.
fn checkpoints_all_the_time(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(1)?;
    let before = s.progress().last();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(8);
    while std::time::Instant::now() < end {
        s.checkpoint()?;
    }
    let after = s.progress().last();
    for (stream, steps) in after {
        let made = steps - before.get(&stream).copied().unwrap_or(0);
        ensure!(made >= 2, "{stream} has made {made} steps in 8 s of checkpoints");
    }
    s.see_steps(1)?;
    s.finish(STATUS)
}

/// The same where nobody has seen which call a thread is in when it is stopped: libc's code must tell.
fn stopped_in_calls_that_nobody_saw(s: &mut Scenario) -> Result<()> {
    s.set_env("DMTCP_FORBID", "proc_syscall");
    checkpoints_all_the_time(s)
}

fn time() -> Vec<Case> {
    let waits = || c("waits_with_limits.c");
    vec![
        Case::flow("calls_that_nobody_saw_see_no_eintr", waits().args(&["all"]), stopped_in_calls_that_nobody_saw)
            .streams(24)
            .sampled_as(RunAs::User),
        Case::flow("waits_end_although_checkpoints_never_do", waits().args(&["all"]), checkpoints_all_the_time)
            .streams(24)
            .sampled_as(RunAs::User),
        Case::new("waits_with_limits", waits()).streams(18).steps(1).full_only(),
    ]
}

fn attributes() -> Vec<Case> {
    let attributes = |dumpable: &str| {
        c("attributes.c").args(&[dumpable, "an argument that is long enough"]).env("TO_BE_EDITED", "before")
    };
    vec![
        Case::new("attributes_and_small_limits", attributes("dumpable")).streams(2).needs(Need::MM_MAP),
        Case::new("attributes_of_a_process_that_is_not_dumpable", attributes("not")).streams(2).needs(Need::MM_MAP),
    ]
}

fn main() -> ExitCode {
    let all = [signals(), threads(), synchronisation(), memory(), time(), attributes()];
    runner::main(all.into_iter().flatten().collect())
}
