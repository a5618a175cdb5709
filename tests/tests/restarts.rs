//! Ways of restarting, and what may happen around a checkpoint: same image many times, ids taken, damaged images,
//! directories that cannot be written, checkpoints in quick succession.

use dmtcp_image::read::Image;
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Need, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::ExitCode;

/// Exit status of `threads.c`.
const STATUS: i32 = 7;

fn threads() -> Program {
    Program::c("threads.c", &[]).args(&["8", "10"])
}

fn python() -> Program {
    Program::script(&["/usr/bin/python3"], "threads.py", "python3")
}

/// Launch, checkpoint, work on, kill.
fn one_image(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()
}

fn same_image_ten_times(s: &mut Scenario) -> Result<()> {
    one_image(s)?;
    let (images, log) = (s.image_directory().to_path_buf(), fs::read(s.log())?);
    for _ in 0..9 {
        s.restart(&Restart::images())?;
        s.see_steps(3)?;
        s.prove()?;
        s.kill()?;
        s.rewind(&images, &log)?;
    }
    s.restart(&Restart::script())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn while_the_original_holds_its_ids(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.leave_stopped()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// Three restarts of one image run at the same time; each prints its steps to its own restarter's standard output.
fn side_by_side(s: &mut Scenario) -> Result<()> {
    s.steps_on_stdout();
    one_image(s)?;
    let images = s.image_directory().to_path_buf();
    let mut logs = Vec::new();
    for _ in 0..3 {
        s.restart(&Restart::images())?;
        s.see_steps(3)?;
        logs.push(s.log());
        s.leave_running()?;
        s.rewind(&images, &[])?;
    }
    let steps = |log: &std::path::PathBuf| dmtcp_tests::progress::Progress::read(log).last();
    let before: Vec<_> = logs.iter().map(steps).collect();
    for (log, before) in logs.iter().zip(before) {
        wait::until(10, "each instance to make steps while the others do", || {
            let now = steps(log);
            Ok(before.iter().all(|(stream, n)| now[stream] > *n).then_some(()))
        })?;
    }
    fs::File::create(s.path("stop"))?;
    for log in &logs {
        wait::until(10, "the end of each instance", || {
            Ok((!dmtcp_tests::progress::Progress::read(log).find("DONE").is_empty()).then_some(()))
        })?;
    }
    Ok(())
}

fn under_the_same_coordinator(s: &mut Scenario) -> Result<()> {
    s.generations(&[Restart::images().same_coordinator(), Restart::script().same_coordinator()], 3)?;
    s.finish(STATUS)
}

fn lazily(s: &mut Scenario) -> Result<()> {
    let lazy = || Restart::images().options(&["--lazy"]);
    s.generations(&[lazy(), lazy(), lazy()], 3)?;
    s.finish(STATUS)
}

/// A virtual machine of Java deletes files of dead ones, which those have mapped: the restart makes the file anew.
fn mapped_file_is_missing(s: &mut Scenario) -> Result<()> {
    one_image(s)?;
    fs::remove_file(s.path("mapped"))?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// What `dmtcp_restart` says of an image that is not what was written.
fn refuse(s: &mut Scenario, what: &str) -> Result<()> {
    let mut restart = s.tool("dmtcp_restart");
    let port = s.port()?;
    restart.args(["-j", "-p", &port]).args(s.image_files()?);
    let answer = s.output(restart)?;
    let said = text(&answer);
    ensure!(
        answer.status.code() == Some(99),
        "an image {what}: {}, not exit status 99; it said: {said}",
        answer.status
    );
    ensure!(said.contains("ckpt_"), "an image {what}: the message does not name it: {said}");
    Ok(())
}

fn damaged(s: &mut Scenario) -> Result<()> {
    one_image(s)?;
    let image = s.image_files()?.remove(0);
    let whole = fs::read(&image)?;
    let file = fs::File::options().write(true).open(&image)?;
    // A byte of content in the middle of the file; not in a hole, where it would be zero.
    let at = (whole.len() / 2..whole.len()).find(|&i| whole[i] != 0).unwrap_or(whole.len() / 2);
    file.write_at(&[whole[at] ^ 0x55], at as u64)?;
    refuse(s, "with a changed byte")?;
    file.write_at(&[whole[at]], at as u64)?;
    file.set_len(whole.len() as u64 * 3 / 4)?;
    refuse(s, "that is cut off")?;
    file.set_len(100)?;
    refuse(s, "of 100 bytes")?;
    file.set_len(0)?;
    refuse(s, "of no bytes")?;
    fs::write(&image, whole)?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn unwritable_directory(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    let (directory, aside) = (s.image_directory().to_path_buf(), s.path("aside"));
    fs::rename(&directory, &aside)?;
    fs::write(&directory, "not a directory")?;
    let answer = s.ask(&["bc"])?;
    ensure!(answer.status.code() == Some(2), "bc without a directory: {}, not exit status 2", answer.status);
    s.see_steps(3)?;
    fs::remove_file(&directory)?;
    fs::rename(&aside, &directory)?;
    s.checkpoint()?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn quick_succession(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for _ in 0..30 {
        s.checkpoint()?;
    }
    s.see_steps(3)?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn unsupported(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    let answer = s.ask(&["bc"])?;
    let said = text(&answer);
    ensure!(answer.status.code() == Some(2), "bc with --on-unsupported=fail: {}; it said: {said}", answer.status);
    let fd = s.progress().find("holds").first().map(|x| x.replace("holds ", "")).unwrap_or_default();
    ensure!(said.contains(&format!("fd {fd}")), "the message does not name descriptor {fd}: {said}");
    ensure!(said.contains("anon_inode:[io_uring]"), "the message does not say what it is: {said}");
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// What `standard_streams.c` printed in all: nothing lost, nothing doubled.
fn check_printed(output: &str) -> Result<()> {
    let ours = |x: &&str| x.starts_with("line ") || *x == "begin" || *x == "end";
    let printed: Vec<&str> = output.lines().filter(ours).collect();
    let mut want = vec!["begin".to_string()];
    want.extend((1..printed.len().saturating_sub(1)).map(|i| format!("line {}", i * 8)));
    want.push("end".into());
    ensure!(printed == want, "what was printed: {output:?}");
    ensure!(output.contains("complaint"), "nothing on standard error: {output:?}");
    Ok(())
}

/// A pipe as standard output is the restarter's after a restart; what was buffered before comes out there.
fn output_to_the_restarter(s: &mut Scenario) -> Result<()> {
    s.output_in_pipe();
    s.three_generations(10)?;
    s.finish(STATUS)?;
    let file = s.output_file();
    wait::until(10, "the last word on standard error", || {
        Ok(fs::read_to_string(&file)?.contains("complaint").then_some(()))
    })?;
    check_printed(&fs::read_to_string(&file)?)
}

/// A file as standard output stays that file.
fn output_in_a_file(s: &mut Scenario) -> Result<()> {
    let first = s.output_file();
    s.three_generations(10)?;
    s.finish(STATUS)?;
    check_printed(&fs::read_to_string(first)?)
}

/// A log that its user may not open, opened for it at the launch and at each restart, as a service manager does.
fn a_log_that_another_user_has_opened(s: &mut Scenario) -> Result<()> {
    let log = s.path("service.log");
    fs::write(&log, "")?;
    fs::set_permissions(&log, Permissions::from_mode(0o600))?;
    s.input_from(&log);
    s.three_generations(10)?;
    s.finish(STATUS)?;
    let written = fs::read_to_string(&log)?;
    let numbers: Vec<usize> = written.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(numbers.len() >= 40 && numbers.iter().copied().eq(1..=numbers.len()), "what was written: {written}");
    Ok(())
}

/// The image is an ELF core that gdb opens with the program's own functions on the stacks.
fn core_file(s: &mut Scenario) -> Result<()> {
    one_image(s)?;
    let image = s.image_files()?.remove(0);
    let mut readelf = s.command("readelf");
    let header = text(&s.output({
        readelf.arg("-h").arg(&image);
        readelf
    })?);
    ensure!(header.contains("CORE (Core file)"), "readelf -h says: {header}");
    let mut gdb = s.command("gdb");
    gdb.args(["-nx", "-batch", "-ex", "thread apply all bt"]).arg(&s.prepared()?[0]).arg(&image);
    let stacks = text(&s.output(gdb)?);
    let count = stacks.lines().filter(|x| x.starts_with("Thread ")).count();
    ensure!(count >= 9, "gdb shows {count} threads, not 9 or more: {stacks}");
    ensure!(stacks.matches(" work (").count() == 8, "gdb does not show 8 stacks with work(): {stacks}");
    Ok(())
}

/// Where a stopped thread was is never in the kernel's vdso, wherever that is after a restart under another kernel: the
/// next restart puts other code there.
fn stops_outside_of_the_vdso(s: &mut Scenario) -> Result<()> {
    const NT_PRSTATUS: u32 = 1;
    /// Of the program counter in `struct elf_prstatus`.
    const PC: usize = 112 + 16 * 8;
    s.set_env("DMTCP_FORBID", "vdso_move");
    s.launch()?;
    s.see_steps(1)?;
    for generation in 0..3 {
        for _ in 0..5 {
            s.checkpoint()?;
            let image = Image::open(&s.image_files()?.remove(0))?;
            let vdso = image.restore.vdso_start..image.restore.vdso_start + image.restore.vdso_length;
            ensure!(!vdso.is_empty(), "the image has no vdso");
            let states: Vec<_> = image.debugger.iter().filter(|note| note.1 == NT_PRSTATUS).collect();
            ensure!(states.len() == 1, "{} states of one thread", states.len());
            for state in states {
                let pc = state.2.get(PC..PC + 8).context("a short state")?.try_into().map(u64::from_le_bytes)?;
                ensure!(
                    !vdso.contains(&pc),
                    "generation {generation}: a thread stands at {pc:#x}, in the vdso {vdso:x?}"
                );
            }
        }
        s.see_steps(1)?;
        s.kill()?;
        s.restart(&Restart::images())?;
        s.see_steps(1)?;
    }
    s.finish(STATUS)
}

fn core_alone(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let streams = || Program::c("standard_streams.c", &[]);
    let holder = Program::c("unsupported.c", &[]).args(&["io_uring"]);
    let without = |forbidden: &'static str, name: &str, program: Program| {
        Case::flow(name, program, move |s| {
            s.set_env("DMTCP_FORBID", forbidden);
            s.three_generations(3)?;
            s.finish(STATUS)
        })
    };
    let fallback = |name: &str, forbidden: &'static str| without(forbidden, name, python()).streams(4);
    let itself = || Program::c("self_image.c", &[]).args(&["argument one"]);
    // Without PIE it lies below the heaps of ordinary programs, with it among them.
    let heap = |kind| Program::c("growing_heap.c", &[kind]);
    runner::main(vec![
        Case::flow("same_image_ten_times", threads(), same_image_ten_times).streams(8),
        Case::flow("same_image_ten_times_python", python(), same_image_ten_times).streams(4).full_only(),
        Case::flow("while_the_original_holds_its_ids", threads(), while_the_original_holds_its_ids).streams(8),
        Case::flow("side_by_side", threads(), side_by_side).streams(8),
        Case::flow("under_the_same_coordinator", threads(), under_the_same_coordinator).streams(8),
        Case::flow("lazily", python(), lazily).streams(4),
        Case::flow(
            "mapped_file_is_missing",
            Program::c("shared_memory.c", &[]).args(&["file"]),
            mapped_file_is_missing,
        ),
        Case::flow("damaged_images_are_refused", threads(), damaged).streams(8),
        Case::flow("a_checkpoint_that_cannot_be_written_harms_nothing", threads(), unwritable_directory).streams(8),
        Case::flow("checkpoints_in_quick_succession", threads(), quick_succession).streams(8),
        Case::new("threads_born_during_the_checkpoint", Program::c("births.c", &[])).streams(2),
        Case::flow("unsupported_descriptor_is_named", holder, unsupported)
            .options(&["--on-unsupported", "fail"])
            .only(RunAs::Root),
        Case::flow("output_in_a_pipe_goes_to_the_restarter", streams(), output_to_the_restarter),
        Case::flow("output_in_a_file_stays_there", streams(), output_in_a_file),
        Case::flow(
            "a_log_that_another_user_has_opened",
            Program::c("lent_file.c", &[]),
            a_log_that_another_user_has_opened,
        )
        .only(RunAs::User),
        Case::flow("image_is_a_core_file", threads(), core_file).streams(8).sampled_as(RunAs::Root),
        Case::flow("core_alone_without_plugins", threads(), core_alone)
            .streams(8)
            .options(&["--disable-all-plugins"])
            .sampled_as(RunAs::Root),
        fallback("without_pagemap_scan", "pagemap_scan").sampled_as(RunAs::Root),
        fallback("without_mm_map", "mm_map").sampled_as(RunAs::User),
        fallback("without_mm_exe", "mm_exe").sampled_as(RunAs::User),
        without("mm_exe", "described_by_the_kernel_although_executed_again", itself()).sampled_as(RunAs::User),
        without("mm_map", "described_to_the_kernel_field_by_field", itself())
            .only(RunAs::Root)
            .full_only()
            .needs(Need::SysResource),
        without("pagemap_scan", "terabytes_that_are_nearly_empty", Program::c("memory_odd.c", &[]))
            .streams(2)
            .full_only(),
        Case::flow("threads_stop_outside_of_the_vdso", Program::c("clocks.c", &[]), stops_outside_of_the_vdso)
            .sampled_as(RunAs::User),
        fallback("without_moving_the_vdso", "vdso_move").sampled_as(RunAs::Root),
        without("vdso_move", "handlers_that_have_interrupted_a_clock", Program::c("lingering_handlers.c", &[]))
            .sampled_as(RunAs::User),
        without("mm_map", "heap_grows_and_shrinks_although_the_kernel_knows_another", heap("-no-pie"))
            .sampled_as(RunAs::User),
        without("mm_map", "heap_above_the_one_that_the_kernel_knows", heap("-pie")).sampled_as(RunAs::Root),
    ])
}
