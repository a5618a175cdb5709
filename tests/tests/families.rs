//! Computations of several processes: families with their sessions and groups, programs launched one by one, shells that
//! start others all the time.

use dmtcp_tests::progress::Progress;
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Need, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const STATUS: i32 = 7;
/// A user who is not root.
const NOBODY: u32 = 65534;

fn family(kind: &str) -> Program {
    Program::c("families.c", &[]).args(&[kind])
}

fn clones(kind: &str) -> Program {
    Program::c("clones.c", &[]).args(&[kind])
}

fn relatives(kind: &str) -> Program {
    Program::c("relatives.c", &[]).args(&[kind])
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

/// A program that has no library at all, one with the rights of another user, and a name for dmtcp_nocheckpoint, beside the
/// program under test.
fn make_outsiders(s: &Scenario) -> Result<()> {
    let source = s.path("static.c");
    fs::write(
        &source,
        "void _start(void) { for (;;) __asm__ volatile(\"syscall\" : : \"a\"(34) : \"rcx\", \"r11\"); }\n",
    )?;
    let argv = s.prepared()?;
    let directory = Path::new(&argv[0]).parent().unwrap_or(Path::new("/"));
    let program = directory.join("static");
    let made = Command::new("gcc").args(["-nostdlib", "-static", "-o"]).arg(&program).arg(&source).status()?;
    ensure!(made.success(), "gcc: {made}");
    let setuid = directory.join("setuid");
    fs::copy("/bin/sleep", &setuid)?;
    chown(&setuid, Some(if s.run_as() == RunAs::Root { NOBODY } else { 0 }), None)?;
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755))?;
    symlink(s.tool("dmtcp_nocheckpoint").get_program(), directory.join("nocheckpoint"))?;
    Ok(())
}

/// They are named at each checkpoint; after a restart their parent waits for nobody.
fn children_outside(s: &mut Scenario) -> Result<()> {
    make_outsiders(s)?;
    s.launch()?;
    s.see_steps(3)?;
    // In a user namespace nobody gets the rights of another user.
    let ids = if s.run_as() == RunAs::Root { "same" } else { "translate" };
    for how in [Restart::images().ids(ids), Restart::script().ids(ids)] {
        let answer = s.ask(&["-bc"])?;
        let said = text(&answer);
        ensure!(answer.status.success(), "{}: {said}", answer.status);
        for program in ["static)", "sleep)", "setuid)"] {
            let named = said.lines().any(|line| line.contains(program) && line.contains("outside of control"));
            ensure!(named, "it does not warn of {program} outside of control: {said}");
        }
        s.checkpoint()?;
        s.see_steps(3)?;
        s.kill()?;
        let before = s.progress().find("killed").len();
        s.restart(&how)?;
        s.see_steps(3)?;
        wait::until(10, "the children to have been killed", || {
            Ok((s.progress().find("killed").len() == before + 3).then_some(()))
        })?;
    }
    s.finish(STATUS)
}

/// One of two programs runs where the host has another name, as on another machine; both come back here.
fn families_of_two_hosts(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    let log = s.path("second");
    let port = s.port()?;
    let launcher = s.tool("dmtcp_launch");
    let mut command = s.command("/usr/bin/unshare");
    command.args(["--uts", "/bin/sh", "-c", "hostname elsewhere && exec \"$@\"", "sh"]).arg(launcher.get_program());
    command.args(["-j", "-p", &port, "--ckptdir"]).arg(s.image_directory()).args(s.prepared()?).env("STEPS_LOG", &log);
    command.spawn()?;
    s.see_steps(3)?;
    grows(&log)?;
    for how in [Restart::images(), Restart::script()] {
        s.checkpoint()?;
        s.see_steps(3)?;
        s.kill()?;
        s.restart(&how)?;
        s.see_steps(3)?;
        grows(&log)?;
    }
    s.finish(STATUS)?;
    ensure!(!Progress::read(&log).find("DONE").is_empty(), "the second family did not end with the first");
    Ok(())
}

/// The directory of images has a longer name after the restart; shells that libc starts are told.
fn shells_after_a_restart(s: &mut Scenario) -> Result<()> {
    let short = s.path("i");
    symlink(s.image_directory(), &short)?;
    let (argv, port) = (s.prepared()?, s.port()?);
    let mut launch = s.tool("dmtcp_launch");
    launch.args(["-j", "-p", &port, "--ckptdir"]).arg(&short).args(argv);
    s.launch_command(launch)?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    for way in ["system", "popen", "wordexp"] {
        let line = format!("{way} {}", s.image_directory().display());
        wait::until(10, "shells to be told of the new directory", || {
            Ok(s.progress().find(way).contains(&line.as_str()).then_some(()))
        })?;
    }
    s.finish(STATUS)
}

/// Processes that come back in a pid namespace have it for themselves: a signal to everybody reaches all of them.
fn a_signal_to_everybody(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for _ in 0..2 {
        s.checkpoint()?;
        s.kill()?;
        s.restart(&Restart::images().options(&["--pid-namespace", "force"]))?;
        s.see_steps(3)?;
        fs::write(s.path("alone"), "")?;
        let before = s.progress().find("rang").len();
        wait::until(10, "signals to everybody", || Ok((s.progress().find("rang").len() > before + 3).then_some(())))?;
        fs::remove_file(s.path("alone"))?;
        s.see_steps(3)?;
    }
    s.finish(STATUS)
}

/// How long a generation may take, in seconds, whatever processes do meanwhile.
const IN_TIME: u64 = 10;

/// Births, programs and ends in every thread, at the moment of each checkpoint, which is committed in time; every eighth is
/// restarted.
fn a_storm(s: &mut Scenario, checkpoints: usize) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for round in 1..=checkpoints {
        s.checkpoint_within(IN_TIME)?;
        if round % 8 == 0 {
            s.kill()?;
            s.restart(&Restart::images())?;
        }
        s.see_steps(1)?;
    }
    s.finish(STATUS)
}

/// Who executes a program just when all are stopped is in the generation, though nobody of the computation is its parent.
fn none_is_missing(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for round in 1..=24 {
        s.checkpoint()?;
        let images = s.image_files()?;
        ensure!(images.len() == 3, "checkpoint {round}: these are not the images of three processes: {images:?}");
        if round % 8 == 0 {
            s.kill()?;
            s.restart(&Restart::images())?;
            s.see_steps(3)?;
        }
    }
    s.finish(STATUS)
}

/// All of so many processes are in each generation; none holds it up, or is ended by the stop.
fn all_are_met(s: &mut Scenario, checkpoints: usize, processes: RangeInclusive<usize>) -> Result<()> {
    s.launch()?;
    s.see_steps(1)?;
    for round in 1..=checkpoints {
        s.checkpoint_within(IN_TIME)?;
        let images = s.image_files()?;
        ensure!(
            processes.contains(&images.len()),
            "checkpoint {round}: these are not the images of {processes:?} processes: {images:?}"
        );
        if round % 8 == 0 {
            s.kill()?;
            s.restart(&Restart::images())?;
            s.see_steps(1)?;
        }
    }
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let bash = || shell("/bin/bash", "bash");
    runner::main(vec![
        Case::new("tree_with_sessions_and_groups", family("tree")).streams(7),
        Case::new("parent_waits_for_children", family("waiting")).streams(2),
        Case::new("ended_children_keep_their_status", family("ended")).streams(2),
        Case::new("orphans_of_ended_leaders", family("orphans")).streams(4),
        Case::new("child_shares_locks_and_an_epoll_set", Program::c("inherited.c", &[]))
            .streams(2)
            .sampled_translated_as(RunAs::User),
        Case::new("orphan_in_a_living_session", family("adopted")).streams(2),
        Case::flow("none_is_missing_who_executes_a_program", Program::c("replaced.c", &[]), none_is_missing)
            .streams(3)
            .sampled_as(RunAs::User)
            .limit(300),
        Case::new("exec_by_every_entry_point", Program::c("execs.c", &[])),
        Case::new("threads_start_programs_in_every_way", Program::c("spawns.c", &[])).streams(8),
        Case::flow("generations_commit_while_processes_come_and_go", Program::c("spawns.c", &[]), |s| a_storm(s, 8))
            .streams(8)
            .sampled_as(RunAs::Root)
            .limit(300),
        Case::flow("who_does_nothing_but_execute_is_met", Program::c("ceaseless.c", &[]), |s| all_are_met(s, 8, 4..=4))
            .streams(4)
            .sampled_as(RunAs::User)
            .limit(300),
        Case::flow("who_does_nothing_but_execute_survives", Program::c("ceaseless.c", &[]), |s| {
            all_are_met(s, 50, 4..=4)
        })
        .streams(4)
        .limit(900)
        .full_only(),
        Case::flow("children_past_libc", Program::c("past_libc.c", &[]).args(&["brief"]), |s| all_are_met(s, 8, 7..=9))
            .streams(8)
            .sampled_as(RunAs::User)
            .limit(300)
            .not_translated(
                "a system call past libc gives the real id of a new child, which libc's functions do not take",
            ),
        Case::flow("orphans_of_parents_that_are_killed_at_once", Program::c("successors.c", &[]), |s| {
            all_are_met(s, 24, 5..=17)
        })
        .streams(5)
        .sampled_as(RunAs::User)
        .limit(300),
        Case::new("children_past_libc_that_stay", Program::c("past_libc.c", &[])).streams(8).full_only(),
        Case::flow("fifty_checkpoints_in_a_storm", Program::c("spawns.c", &[]), |s| a_storm(s, 50))
            .streams(8)
            .limit(900)
            .full_only(),
        Case::new("two_sides_of_pipes_files_and_signals", Program::c("two_sides.c", &[]))
            .streams(2)
            .sampled_as(RunAs::User),
        Case::new("siblings_share_what_a_dead_ancestor_opened", Program::c("siblings.c", &["-pthread"]))
            .streams(4)
            .sampled_translated_as(RunAs::User)
            .sampled_as(RunAs::Root),
        Case::new("children_past_fork", clones("cloned")).streams(7).sampled_translated_as(RunAs::User),
        Case::new("a_child_that_its_sibling_made", clones("given")).streams(3).sampled_as(RunAs::User),
        Case::new("vforks_that_take_their_time", clones("vforked")).streams(2).sampled_as(RunAs::User),
        Case::new("a_subreaper_and_its_orphans", relatives("subreaper")).streams(6),
        Case::new("a_child_that_is_stopped_and_continued", relatives("stopped")).streams(2).full_only(),
        Case::new("children_that_are_stopped_at_birth", relatives("stopped_at_birth")).sampled_as(RunAs::User),
        Case::flow("children_that_are_continued_before_an_exec", relatives("stopped_before_programs"), |s| {
            a_storm(s, 16)
        })
        .sampled_as(RunAs::User),
        Case::new("a_child_whose_continuation_is_news", relatives("continued"))
            .streams(2)
            .steps(41)
            .sampled_as(RunAs::User),
        Case::new("files_of_a_parent_in_proc", Program::c("watching.c", &[])).sampled_translated_as(RunAs::User),
        Case::new("pidfds_of_relatives", Program::c("pidfds.c", &[])).streams(2),
        Case::new("every_way_to_wait", relatives("waits")).streams(2).steps(20).sampled_as(RunAs::User),
        Case::flow("a_signal_to_everybody", relatives("everybody"), a_signal_to_everybody)
            .sampled_as(RunAs::User)
            .not_translated("it is about processes in a pid namespace")
            .needs(Need::CHOSEN_IDS)
            .needs(Need::PID_NAMESPACE),
        Case::new("fifos_whose_openers_wait", Program::c("fifos.c", &[])).streams(4).sampled_as(RunAs::Root),
        Case::flow("children_outside", Program::c("outsiders.c", &[]), children_outside).sampled_as(RunAs::User),
        Case::flow("families_of_two_hosts", family("tree"), families_of_two_hosts)
            .streams(7)
            .only(RunAs::Root)
            .full_only(),
        Case::flow("shells_after_a_restart", Program::c("shells.c", &[]), shells_after_a_restart)
            .sampled_as(RunAs::User),
        Case::flow("a_daemon_alone", family("daemonized"), a_daemon_alone),
        Case::new("bash_starts_programs", bash()),
        Case::new("dash_starts_programs", shell("/bin/dash", "dash")),
        Case::flow(
            "two_programs_are_one_computation",
            Program::script(&["/bin/bash"], "shell.sh", "bash"),
            two_programs,
        ),
        Case::flow("images_that_do_not_belong_together", family("tree"), images_that_do_not_belong_together).streams(7),
        Case::flow("while_the_originals_hold_their_ids", family("tree"), while_the_originals_hold_their_ids).streams(7),
        Case::flow("always_in_a_namespace", family("orphans"), always_in_a_namespace)
            .streams(4)
            .needs(Need::CHOSEN_IDS)
            .needs(Need::PID_NAMESPACE),
        Case::flow("by_way_of_the_original_program", family("tree"), by_way_of_the_original_program).streams(7),
    ])
}
