//! One resource each, held by a small C program that checks it at every step through three generations.

use dmtcp_tests::{Case, Need, Program, Result, RunAs, Scenario, ensure, runner};
use std::fs;
use std::process::ExitCode;

fn c(source: &str) -> Program {
    Program::c(source, &[])
}

fn threads_and_memory() -> Vec<Case> {
    let threads = |n: &str, pause: &str| c("threads.c").args(&[n, pause]);
    vec![
        Case::new("one_thread", threads("1", "10")),
        Case::new("eight_threads", threads("8", "10")).streams(8),
        Case::new("two_hundred_threads", threads("200", "150")).streams(200).steps(2),
        Case::new("main_thread_gone", c("main_thread_gone.c")).streams(3),
        Case::new("thread_local_storage", c("tls.c")).streams(4),
        Case::new("mutexes_held", c("mutexes.c")).streams(3),
        Case::new("blocking_calls_see_no_eintr", c("blocked.c")).streams(17),
        Case::new("signal_handlers_and_masks", c("signals.c")).streams(2),
        Case::new("registers", Program::c("registers.c", &["-lm"])).streams(2),
        Case::new("clocks_in_the_vdso", c("clocks.c")),
        Case::new("heavy_malloc", c("heap.c")).streams(4),
        Case::new("mappings_of_every_kind", c("mappings.c")),
    ]
}

fn identity() -> Vec<Case> {
    vec![
        Case::new("ids_of_process_and_threads", c("ids.c")).streams(5),
        Case::new("directory_limits_and_names", c("process_state.c")),
        Case::new("proc_self_exe_cmdline_and_comm", c("self_image.c").args(&["argument one"])).needs(Need::MM_MAP),
    ]
}

fn descriptors() -> Vec<Case> {
    vec![
        Case::new("regular_files_in_every_mode", c("files.c")),
        Case::new("devices", c("devices.c")),
        Case::new("shared_mapping_of_a_file", c("shared_memory.c").args(&["file"])),
        Case::new("shared_anonymous_mapping", c("shared_memory.c").args(&["anonymous"])),
        Case::new("memfd", c("shared_memory.c").args(&["memfd"])),
        Case::new("eventfds", c("eventfds.c")).streams(2),
        Case::new("pipes_with_bytes_in_flight", c("pipes.c")),
        Case::new("pipes_with_more_or_fewer_ends", c("pipe_ends.c")),
        Case::new("files_without_their_names", c("odd_files.c")),
        Case::new("file_locks_of_every_kind", c("file_locks.c")).sampled_translated_as(RunAs::User),
        Case::new("shared_memory_without_a_trace", c("shared_memory_odd.c")),
        Case::new("epoll_timers_and_signals", c("event_objects.c")),
    ]
}

/// The process ends when the last of its threads has left, and what it has buffered is written.
fn the_last_thread_ends_the_process(s: &mut Scenario) -> Result<()> {
    s.three_generations(5)?;
    s.finish(0)?;
    let written = fs::read_to_string(s.path("kept"))?;
    ensure!(written == "begun\nended\n", "the file has {written:?}");
    Ok(())
}

fn last_threads() -> Vec<Case> {
    let case = |name, arguments: &[&str]| {
        Case::flow(name, c("last_thread_leaves.c").args(arguments), the_last_thread_ends_the_process)
            .sampled_as(RunAs::User)
    };
    vec![
        case("last_thread_leaves_after_the_first", &[]),
        case("last_thread_leaves_after_the_first_was_cancelled", &["cancelled"]),
    ]
}

fn main() -> ExitCode {
    runner::main([threads_and_memory(), last_threads(), identity(), descriptors()].into_iter().flatten().collect())
}
