//! Computations of several processes: families with their sessions and groups, programs launched one by one, shells that
//! start others all the time.

use dmtcp_tests::progress::Progress;
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const STATUS: i32 = 7;

fn family(kind: &str) -> Program {
    Program::c("families.c", &[]).args(&[kind])
}

fn shell(interpreter: &str, package: &str) -> Program {
    Program::script(&[interpreter], "loop.sh", package)
}

/// A second program under the same coordinator, with a log of its own.
fn launch_beside(s: &mut Scenario) -> Result<PathBuf> {
    let log = s.path("second");
    let argv = s.prepared()?;
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--ckptdir"]).arg(s.image_directory()).args(argv).env("STEPS_LOG", &log);
    let output = fs::File::create(s.path("second.output"))?;
    s.run_as().own(&s.path("second.output"))?;
    command.stdout(output.try_clone()?).stderr(output).spawn()?;
    Ok(log)
}

fn grows(log: &Path) -> Result<()> {
    let last = |log| Progress::read(log).last().values().copied().max().unwrap_or(0);
    let before = last(log);
    wait::until(10, "the second program to make steps", || Ok((last(log) > before + 3).then_some(())))
}

/// Programs that know nothing of each other come back together, by the script and by a glob.
fn two_programs(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    let second = launch_beside(s)?;
    s.see_steps(3)?;
    grows(&second)?;
    for how in [Restart::images(), Restart::script()] {
        s.checkpoint()?;
        ensure!(s.image_files()?.len() == 2, "these are not the images of two processes: {:?}", s.image_files()?);
        s.see_steps(3)?;
        s.kill()?;
        s.restart(&how)?;
        s.see_steps(3)?;
        grows(&second)?;
    }
    s.finish(STATUS)?;
    ensure!(!Progress::read(&second).find("DONE").is_empty(), "the second program did not end with the first");
    Ok(())
}

/// What `dmtcp_restart` says of images that are no generation.
fn refused(s: &mut Scenario, images: &[PathBuf], says: &str) -> Result<()> {
    let mut restart = s.tool("dmtcp_restart");
    let port = s.port()?;
    restart.args(["-j", "-p", &port]).args(images);
    let answer = s.output(restart)?;
    let said = text(&answer);
    ensure!(answer.status.code() == Some(99), "{images:?}: {}, not exit status 99; it said: {said}", answer.status);
    ensure!(said.contains(says), "{images:?}: it does not say '{says}' but: {said}");
    Ok(())
}

fn images_that_do_not_belong_together(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let first = s.path("first");
    fs::create_dir(&first)?;
    for image in s.image_files()? {
        fs::copy(&image, first.join(image.file_name().unwrap_or_default()))?;
    }
    s.run_as().own(&first)?;
    for image in fs::read_dir(&first)?.flatten() {
        s.run_as().own(&image.path())?;
    }
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()?;
    let images = s.image_files()?;
    ensure!(images.len() > 2, "a family has several images");
    let name = |image: &PathBuf| image.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    refused(s, &images[1..], &name(&images[0]))?;
    let copy = s.path("copy.dmtcp");
    fs::copy(&images[0], &copy)?;
    s.run_as().own(&copy)?;
    refused(s, &[&images[..], &[copy]].concat(), "same process")?;
    let elsewhere = s.path("elsewhere");
    fs::create_dir(&elsewhere)?;
    let mut mixed = Vec::new();
    for (index, image) in images.iter().enumerate() {
        let from = if index == 0 { first.join(name(image)) } else { image.clone() };
        let to = elsewhere.join(name(image));
        fs::copy(from, &to)?;
        s.run_as().own(&to)?;
        mixed.push(to);
    }
    s.run_as().own(&elsewhere)?;
    refused(s, &mixed, "generation")?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// The computation that has the ids still holds them, stopped: all processes go elsewhere, or none.
fn while_the_originals_hold_their_ids(s: &mut Scenario) -> Result<()> {
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

fn always_in_a_namespace(s: &mut Scenario) -> Result<()> {
    let forced = || Restart::images().options(&["--pid-namespace", "force"]);
    s.generations(&[forced(), Restart::images(), forced()], 3)?;
    s.finish(STATUS)
}

/// The kernel does not let anybody name the executable: each process execs the original program first.
fn by_way_of_the_original_program(s: &mut Scenario) -> Result<()> {
    s.set_env("DMTCP_FORBID", "mm_exe");
    s.generations(&[Restart::images(), Restart::images()], 3)?;
    s.finish(STATUS)
}

/// The program that was launched has ended long since.
fn a_daemon_alone(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    let ended = s.wait_end()?;
    ensure!(ended.success(), "the program that starts the daemon ended with {ended}");
    s.see_steps(3)?;
    for how in [Restart::images(), Restart::script()] {
        s.checkpoint()?;
        ensure!(s.image_files()?.len() == 1, "the daemon is not alone: {:?}", s.image_files()?);
        s.see_steps(3)?;
        s.kill()?;
        s.restart(&how)?;
        s.see_steps(3)?;
    }
    s.finish(STATUS)
}

/// Births, programs and ends in every thread, at the moment of each of fifty checkpoints; every eighth is restarted.
fn a_storm(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for round in 1..=50 {
        s.checkpoint()?;
        if round % 8 == 0 {
            s.kill()?;
            s.restart(&Restart::images())?;
        }
        s.see_steps(1)?;
    }
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let bash = || shell("/bin/bash", "bash");
    runner::main(vec![
        Case::new("tree_with_sessions_and_groups", family("tree")).streams(7),
        Case::new("parent_waits_for_children", family("waiting")).streams(2),
        Case::new("ended_children_keep_their_status", family("ended")).streams(2).translated(),
        Case::new("orphans_of_ended_leaders", family("orphans")).streams(4).translated(),
        Case::new("child_shares_locks_and_an_epoll_set", Program::c("inherited.c", &[]))
            .streams(2)
            .sampled_translated_as(RunAs::User),
        Case::new("orphan_in_a_living_session", family("adopted")).streams(2).translated(),
        Case::new("exec_by_every_entry_point", Program::c("execs.c", &[])).translated(),
        Case::new("threads_start_programs_in_every_way", Program::c("spawns.c", &[])).streams(8),
        Case::flow("fifty_checkpoints_in_a_storm", Program::c("spawns.c", &[]), a_storm)
            .streams(8)
            .limit(900)
            .full_only(),
        Case::flow("a_daemon_alone", family("daemonized"), a_daemon_alone).translated(),
        Case::new("bash_starts_programs", bash()).translated(),
        Case::new("dash_starts_programs", shell("/bin/dash", "dash")).translated(),
        Case::flow(
            "two_programs_are_one_computation",
            Program::script(&["/bin/bash"], "shell.sh", "bash"),
            two_programs,
        )
        .translated(),
        Case::flow("images_that_do_not_belong_together", family("tree"), images_that_do_not_belong_together)
            .streams(7)
            .translated(),
        Case::flow("while_the_originals_hold_their_ids", family("tree"), while_the_originals_hold_their_ids).streams(7),
        Case::flow("always_in_a_namespace", family("orphans"), always_in_a_namespace).streams(4),
        Case::flow("by_way_of_the_original_program", family("tree"), by_way_of_the_original_program)
            .streams(7)
            .translated(),
    ])
}
