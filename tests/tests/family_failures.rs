//! One member of a family cannot take part in a checkpoint: its disk is full, its directory cannot be written, or it does
//! not stop. Always: the checkpoint fails and names the member, the family goes on, the older generation is as it was.

use dmtcp_tests::disk::{remount, small_disk};
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use nix::mount::MsFlags;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

const STATUS: i32 = 7;
/// MiB that one member of the family holds, and the others do not.
const HEAVY: usize = 96;

/// The images under their names, and which files those are.
fn older(s: &Scenario) -> Result<BTreeMap<PathBuf, u64>> {
    s.image_files()?.into_iter().map(|path| Ok((path.clone(), fs::metadata(path)?.ino()))).collect()
}

/// A checkpoint that must fail with these words; the generation before stays, and the family goes on.
fn fails(s: &mut Scenario, words: &[&str]) -> Result<()> {
    let before = older(s)?;
    let port = s.port()?;
    let mut command = s.tool("dmtcp_command");
    command.args(["-p", &port, "bc"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    wait::until(90, "the checkpoint to fail", || Ok(child.try_wait()?))?;
    let answer = child.wait_with_output()?;
    let said = text(&answer);
    ensure!(answer.status.code() == Some(2), "bc: {}, not exit status 2; it said: {said}", answer.status);
    for word in words {
        ensure!(said.contains(word), "the message lacks '{word}': {said}");
    }
    ensure!(before == older(s)?, "the older generation has changed");
    Ok(())
}

fn comes_back(s: &mut Scenario, how: &Restart) -> Result<()> {
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()?;
    s.restart(how)?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// Whose pid the program's log says.
fn member(s: &Scenario, role: &str) -> Result<i32> {
    let log = s.progress();
    let roles = log.find("who");
    let words = |line: &&str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let line = roles.iter().map(words).find(|words| words.get(1).is_some_and(|word| word == role));
    line.and_then(|words| words.get(2)?.parse().ok()).with_context(|| format!("no {role} in the log"))
}

fn one_has_no_room(s: &mut Scenario) -> Result<()> {
    small_disk(s, 1000)?;
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let used: u64 =
        s.image_files()?.iter().filter_map(|path| path.metadata().ok()).map(|meta| meta.blocks() * 512).sum();
    // The others need less than this beside what is there.
    let size = |mib: u64| format!("size={}m", (used >> 20) + mib);
    remount(s, MsFlags::empty(), &size(HEAVY as u64 - 10))?;
    let sink = format!("kin[{}]", member(s, "sink")?);
    fails(s, &[&sink, "MiB are free", "--ckptdir"])?;
    s.see_steps(3)?;
    remount(s, MsFlags::empty(), "size=1000m")?;
    comes_back(s, &Restart::images())
}

/// A second program has a directory of its own, in which it may not write any more.
fn one_may_not_write(s: &mut Scenario) -> Result<()> {
    let (own, log) = (s.path("own"), s.path("second"));
    fs::create_dir(&own)?;
    s.run_as().own(&own)?;
    s.launch()?;
    s.see_steps(3)?;
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "-q", "-q", "--ckptdir"]).arg(&own).args(s.prepared()?).env("STEPS_LOG", &log);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    wait::until(20, "the second program to work", || Ok(log.exists().then_some(())))?;
    s.checkpoint()?;
    let inside = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|x| x == "dmtcp")).collect()
    };
    let images = inside(&own);
    ensure!(!images.is_empty(), "the second program has no image in {}", own.display());
    fs::set_permissions(&own, fs::Permissions::from_mode(0o500))?;
    for directory in fs::read_dir(&own)?.flatten().filter(|entry| entry.path().is_dir()) {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500))?;
    }
    fails(s, &["kin[", "permission denied", "--ckptdir", &own.display().to_string()])?;
    ensure!(images == inside(&own), "the second program's older images have changed");
    s.see_steps(3)?;
    for directory in fs::read_dir(&own)?.flatten().filter(|entry| entry.path().is_dir()) {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700))?;
    }
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700))?;
    comes_back(s, &Restart::script())
}

/// Threads of a process that a tracer holds, until this is dropped.
struct Held(Vec<Pid>);

impl Held {
    fn take(pid: i32, everything: bool) -> Result<Self> {
        let mut held = Held(Vec::new());
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let tid: i32 = task.file_name().to_string_lossy().parse()?;
            if everything || tid == pid {
                let tid = Pid::from_raw(tid);
                ptrace::seize(tid, ptrace::Options::empty())?;
                ptrace::interrupt(tid)?;
                waitpid(tid, Some(WaitPidFlag::__WALL))?;
                held.0.push(tid);
            }
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for tid in &self.0 {
            let _ = ptrace::detach(*tid, None);
        }
    }
}

/// A debugger holds a member, or one of its threads.
fn one_is_held(s: &mut Scenario, everything: bool) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(1)?;
    let filter = member(s, "filter")?;
    let held = Held::take(filter, everything)?;
    let words = if everything { ["waited", "to stop"] } else { ["cannot be stopped", "state t"] };
    fails(s, &[&[format!("kin[{filter}]").as_str()][..], &words].concat())?;
    drop(held);
    s.see_steps(3)?;
    comes_back(s, &Restart::images())
}

fn one_waits_in_the_kernel(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    wait::until(20, "the member to wait", || Ok(s.progress().last().contains_key("member").then_some(())))?;
    fails(s, &["held_up[", "cannot be stopped", "state D"])?;
    fs::write(s.path("go"), "")?;
    s.see_steps(3)?;
    comes_back(s, &Restart::images())
}

fn main() -> ExitCode {
    let kin = || Program::c("kin.c", &[]);
    let heavy = kin().args(&[&HEAVY.to_string()]);
    runner::main(vec![
        Case::flow("one_member_has_no_room", heavy, one_has_no_room).streams(3).sampled_as(RunAs::User),
        Case::flow("one_member_may_not_write", kin(), one_may_not_write).streams(3).only(RunAs::User).full_only(),
        Case::flow("one_thread_is_held_by_a_tracer", kin(), |s| one_is_held(s, false)).streams(3).full_only(),
        Case::flow("one_member_is_held_by_a_tracer", kin(), |s| one_is_held(s, true)).streams(3).limit(200).full_only(),
        Case::flow("one_member_waits_in_the_kernel", Program::c("held_up.c", &[]), one_waits_in_the_kernel)
            .streams(2)
            .full_only(),
    ])
}
