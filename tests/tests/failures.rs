//! What goes wrong at a checkpoint: disks, directories, processes that die on the way. Always: the program goes on, the
//! older generation can be restarted, one sentence says what happened, nothing hangs, nothing is left behind.

use dmtcp_tests::disk::{remount, small_disk};
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Exit status of programs that make steps.
const STATUS: i32 = 7;
/// Bytes of memory that `ballast.c` is given here.
const MIB: usize = 96;

fn ballast() -> Program {
    Program::c("ballast.c", &[]).args(&[&MIB.to_string()])
}

/// A checkpoint that must fail; what it said.
fn fails(s: &mut Scenario, words: &[&str]) -> Result<()> {
    let answer = s.ask(&["bc"])?;
    let said = text(&answer);
    ensure!(answer.status.code() == Some(2), "bc: {}, not exit status 2; it said: {said}", answer.status);
    for word in words {
        ensure!(said.contains(word), "the message lacks '{word}': {said}");
    }
    s.see_steps(3)
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Nothing but complete generations: images under their names and in their directories, manifests, scripts.
fn nothing_left_over(s: &Scenario, generations: usize) -> Result<()> {
    let images = generations * s.image_files()?.len();
    let is_inside =
        |path: &&PathBuf| path.extension().is_some_and(|x| x == "dmtcp") && path.to_string_lossy().contains("/.dmtcp-");
    let what = format!("{generations} generations to be left of {}", s.image_directory().display());
    let left = wait::until(10, &what, || {
        let all = files(s.image_directory());
        let manifests = all.iter().filter(|path| path.ends_with("MANIFEST")).count();
        Ok((manifests == generations && all.iter().filter(is_inside).count() == images).then_some(all))
    })?;
    for path in &left {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let image = name.starts_with("ckpt_") && name.ends_with(".dmtcp");
        ensure!(image || name == "MANIFEST" || name.ends_with(".sh"), "{} is left over", path.display());
    }
    Ok(())
}

/// `words` are what the message says when there is no room.
fn disk_full(s: &mut Scenario, words: &[&str]) -> Result<()> {
    small_disk(s, MIB / 2)?;
    s.launch()?;
    s.see_steps(3)?;
    fails(s, words)?;
    ensure!(files(s.image_directory()).is_empty(), "left over: {:?}", files(s.image_directory()));
    remount(s, MsFlags::empty(), &format!("size={}m", MIB * 3 / 2))?;
    s.checkpoint()?;
    let older = s.image_files()?;
    fails(s, words)?;
    nothing_left_over(s, 1)?;
    ensure!(older == s.image_files()?, "the names of the images have changed");
    s.see_steps(3)?;
    // No room for later checkpoints: only those that are there are to be restarted.
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// A file system of its own, for this case alone, on which so many MiB may be used.
fn disk_with_quota(s: &Scenario, mib: usize) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let (file, place, limit) = (s.path("disk"), s.image_directory(), format!("{mib}M"));
    fs::File::create(&file)?.set_len(1 << 30)?;
    let run = |program: &str, arguments: &[&str], paths: &[&Path]| -> Result<()> {
        let mut command = std::process::Command::new(program);
        command.args(arguments).args(paths);
        let done = s.output(command)?;
        ensure!(done.status.success(), "{program} {arguments:?}: {}", text(&done));
        Ok(())
    };
    run("mkfs.btrfs", &["-q"], &[&file])?;
    run("mount", &["-t", "btrfs", "-o", "loop"], &[&file, place])?;
    run("btrfs", &["quota", "enable"], &[place])?;
    run("btrfs", &["qgroup", "limit", &limit], &[place])?;
    s.run_as().own(place)
}

fn quota(s: &mut Scenario) -> Result<()> {
    disk_with_quota(s, MIB * 3 / 2)?;
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let older = s.image_files()?;
    fails(s, &["quota", "--ckptdir", "ckpt_"])?;
    nothing_left_over(s, 1)?;
    ensure!(older == s.image_files()?, "the names of the images have changed");
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn file_size_limit(s: &mut Scenario) -> Result<()> {
    let argv = s.prepared()?;
    let port = s.port()?;
    let mut command = s.command("/bin/sh");
    command.args(["-c", "ulimit -f 20000; exec dmtcp_launch -j -p \"$@\"", "sh", &port, "--ckptdir"]);
    command.arg(s.image_directory()).args(argv);
    s.launch_command(command)?;
    s.see_steps(3)?;
    fails(s, &["file size limit", "ulimit -f", "ckpt_"])?;
    ensure!(files(s.image_directory()).is_empty(), "left over: {:?}", files(s.image_directory()));
    s.finish(STATUS)
}

fn read_only(s: &mut Scenario) -> Result<()> {
    small_disk(s, MIB * 4)?;
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    remount(s, MsFlags::MS_RDONLY, "")?;
    fails(s, &["read-only", "--ckptdir"])?;
    remount(s, MsFlags::empty(), &format!("size={}m", MIB * 4))?;
    nothing_left_over(s, 1)?;
    s.checkpoint()?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn vanished(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    let directory = s.image_directory().to_path_buf();
    fs::remove_dir_all(&directory)?;
    fails(s, &["is gone", &directory.display().to_string()])?;
    fs::create_dir(&directory)?;
    s.run_as().own(&directory)?;
    s.checkpoint()?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn unwritable(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    fs::set_permissions(s.image_directory(), fs::Permissions::from_mode(0o500))?;
    fails(s, &["permission denied", "--ckptdir"])?;
    fs::set_permissions(s.image_directory(), fs::Permissions::from_mode(0o700))?;
    s.checkpoint()?;
    s.finish(STATUS)
}

/// Something that shows how far a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// The generation has its directory: processes are being stopped.
    Begun,
    /// The image is there: it is being written.
    Writing,
    /// Half of it is there.
    HalfWritten,
    /// The image is as long as it will be: it is written, or brought to the disk.
    Written,
    /// The decision has been made.
    Decided,
}

const MOMENTS: [Moment; 5] = [Moment::Begun, Moment::Writing, Moment::HalfWritten, Moment::Written, Moment::Decided];

impl Moment {
    /// Whether it has come for a generation that is not among `known`.
    fn has_come(self, images: &Path, known: &[PathBuf]) -> bool {
        let new = generations(images).into_iter().find(|path| !known.contains(path));
        let Some(directory) = new else { return false };
        let length = || {
            let image = files(&directory).into_iter().find(|path| path.extension().is_some_and(|x| x == "dmtcp"));
            image.and_then(|path| path.metadata().ok()).map(|meta| meta.len() as usize)
        };
        match self {
            Moment::Begun => true,
            Moment::Writing => length().is_some(),
            Moment::HalfWritten => length().is_some_and(|n| n > MIB << 19),
            Moment::Written => length().is_some_and(|n| n > MIB << 20),
            Moment::Decided => directory.join("MANIFEST").exists(),
        }
    }
}

/// Directories of generations.
fn generations(images: &Path) -> Vec<PathBuf> {
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|x| x.to_string_lossy().starts_with(".dmtcp-"));
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|x| x.path()).collect::<Vec<_>>();
    list(images).iter().filter(|path| hidden(path)).flat_map(|path| list(path)).collect()
}

/// Starts a checkpoint in the background and waits for the moment.
fn checkpoint_until(s: &mut Scenario, moment: Moment) -> Result<Child> {
    let known = generations(s.image_directory());
    let port = s.port()?;
    let mut command = s.tool("dmtcp_command");
    command.args(["-p", &port, "bc"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !moment.has_come(s.image_directory(), &known) {
        ensure!(Instant::now() < deadline, "waited 20 s for {moment:?}");
        // A moment that was too short to be seen is over with the checkpoint: the deed comes after it.
        if child.try_wait()?.is_some() {
            break;
        }
    }
    Ok(child)
}

fn end_of(child: &mut Child, what: &str) -> Result<std::process::ExitStatus> {
    wait::until(20, what, || Ok(child.try_wait()?))
}

/// The coordinator dies at a moment of a checkpoint; a new one takes over at its address.
fn coordinator_killed(s: &mut Scenario, moment: Option<Moment>) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    // Two that are idle find each other again; of several that are busy, the other cases tell.
    let members = if moment.is_none() {
        companion(s)?;
        "NUM_PEERS=2\n"
    } else {
        "NUM_PEERS=1\n"
    };
    s.checkpoint()?;
    s.see_steps(3)?;
    let command = moment.map(|moment| checkpoint_until(s, moment)).transpose()?;
    let coordinator = s.coordinator()?;
    let port = coordinator.port().to_string();
    kill(Pid::from_raw(coordinator.pid()), Signal::SIGKILL)?;
    // It has its port until the kernel is done with what it was removing from the disk.
    wait::until(20, "the coordinator to die", || Ok((!coordinator.is_alive()).then_some(())))?;
    if let Some(mut command) = command {
        end_of(&mut command, "dmtcp_command to notice that the coordinator is dead")?;
    }
    s.see_steps(5)?;
    let mut again = s.tool("dmtcp_coordinator");
    again.args(["-p", &port, "--daemon", "--exit-on-last", "--ckptdir"]).arg(s.image_directory());
    let started = s.output(again)?;
    ensure!(started.status.success(), "no new coordinator: {}", text(&started));
    wait::until(10, "the program to join the new coordinator", || {
        Ok(text(&s.ask(&["s"])?).contains(members).then_some(()))
    })?;
    s.checkpoint()?;
    s.see_steps(3)?;
    nothing_left_over(s, 1)?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// A second program in the computation.
fn companion(s: &mut Scenario) -> Result<Child> {
    let mut argv = s.prepared()?;
    argv.push("companion".into());
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--no-gzip", "--ckptdir"]).arg(s.image_directory()).args(argv);
    command.env("STEPS_LOG", s.path("companion")).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn()?;
    wait::until(20, "the companion to work", || Ok(s.path("companion").exists().then_some(())))?;
    Ok(child)
}

/// One of two programs dies at a moment of a checkpoint: the other goes on and can be checkpointed.
fn worker_killed(s: &mut Scenario, moment: Moment) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    let mut other = companion(s)?;
    let mut command = checkpoint_until(s, moment)?;
    other.kill()?;
    other.wait()?;
    let ended = end_of(&mut command, "the checkpoint to end one way or the other")?;
    let said = text(&command.wait_with_output()?);
    // Before the others had stopped, or after its image was written, its end is harmless.
    ensure!(ended.code() == Some(0) || said.contains("ballast"), "bc does not say who died: {ended}, {said}");
    s.see_steps(5)?;
    let peers = text(&s.ask(&["s"])?);
    ensure!(peers.contains("NUM_PEERS=1"), "after the death of one of two: {peers}");
    for image in s.image_files()? {
        fs::remove_file(image)?;
    }
    s.checkpoint()?;
    s.see_steps(3)?;
    ensure!(s.image_files()?.len() == 1, "images of one program: {:?}", s.image_files()?);
    nothing_left_over(s, 1)?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn command_killed(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for moment in MOMENTS {
        let mut command = checkpoint_until(s, moment)?;
        command.kill()?;
        command.wait()?;
        s.see_steps(3)?;
        s.checkpoint()?;
    }
    nothing_left_over(s, 1)?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn two_at_once(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for moment in MOMENTS {
        let mut first = checkpoint_until(s, moment)?;
        s.checkpoint()?;
        let ended = end_of(&mut first, "the first of two checkpoints")?;
        ensure!(ended.success(), "the first of two checkpoints, second at {moment:?}: {ended}");
    }
    nothing_left_over(s, 1)?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// The process is killed while a child of it writes: the generation before is still there.
fn killed_while_the_child_writes(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let whole: Vec<_> = s.image_files()?;
    checkpoint_until(s, Moment::HalfWritten)?;
    s.kill()?;
    ensure!(s.image_files()? == whole, "the images' names have changed");
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.finish(STATUS)
}

fn kept_generations(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for _ in 0..4 {
        s.checkpoint()?;
    }
    nothing_left_over(s, 3)?;
    s.checkpoint()?;
    nothing_left_over(s, 3)?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// Everything that holds secrets belongs to its owner alone, whatever the umask.
fn umask(s: &mut Scenario) -> Result<()> {
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let directories = generations(s.image_directory());
    for path in files(s.image_directory()).iter().chain(&directories) {
        let mode = fs::metadata(path)?.permissions().mode();
        let script = path.extension().is_some_and(|x| x == "sh");
        ensure!(mode & if script { 0o022 } else { 0o077 } == 0, "{} has mode {mode:o}", path.display());
    }
    let home = s.path("..").join("home/.dmtcp");
    for path in files(&home).iter().chain([&home]) {
        let mode = fs::metadata(path)?.permissions().mode();
        ensure!(mode & 0o077 == 0, "{} has mode {mode:o}", path.display());
    }
    s.finish(STATUS)
}

/// Somebody else has put a symbolic link where our scratch directory goes.
fn planted_link(s: &mut Scenario) -> Result<()> {
    let (trap, tmp) = (s.path("trap"), s.path("tmpdir"));
    fs::create_dir(&trap)?;
    fs::create_dir(&tmp)?;
    for path in [&trap, &tmp] {
        s.run_as().own(path)?;
    }
    let port = s.port()?;
    let launch = |s: &Scenario| {
        let mut command = s.tool("dmtcp_launch");
        command.args(["-j", "-p", &port, "--tmpdir"]).arg(&tmp).arg("true");
        s.output(command)
    };
    let plain = launch(s)?;
    ensure!(plain.status.success(), "without a link: {}", text(&plain));
    let made = fs::read_dir(&tmp)?.flatten().next().context("no scratch directory was made")?.path();
    fs::remove_dir_all(&made)?;
    std::os::unix::fs::symlink(&trap, &made)?;
    let trapped = launch(s)?;
    let said = text(&trapped);
    ensure!(trapped.status.code() == Some(99), "with a link: {}: {said}", trapped.status);
    ensure!(said.contains(&made.display().to_string()), "the message does not name the link: {said}");
    ensure!(fs::read_dir(&trap)?.next().is_none(), "something was put where the link leads");
    Ok(())
}

fn port_taken(s: &mut Scenario) -> Result<()> {
    let taken = std::net::TcpListener::bind("0.0.0.0:0")?;
    let port = taken.local_addr()?.port().to_string();
    for (name, args) in [
        ("dmtcp_launch", &["--new-coordinator", "-p", &port, "true"][..]),
        ("dmtcp_coordinator", &["-p", &port, "--daemon"][..]),
    ] {
        let mut command = s.tool(name);
        command.args(args);
        let answer = s.output(command)?;
        let said = text(&answer);
        ensure!(answer.status.code() == Some(99), "{name}: {}: {said}", answer.status);
        ensure!(said.contains(&port), "{name} does not name the port: {said}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut cases = vec![
        Case::flow("disk_full", ballast(), |s| disk_full(s, &["MiB are free", "--ckptdir", "ckpt_"])),
        Case::flow("disk_full_compressed", ballast(), |s| disk_full(s, &["file system is full", "--ckptdir", "ckpt_"]))
            .options(&["--compress", "lz4"]),
        Case::flow("disk_full_in_the_background", ballast(), |s| disk_full(s, &["MiB are free", "--ckptdir"]))
            .options(&["--forked"]),
        Case::flow("disk_full_compressed_in_the_background", ballast(), |s| {
            disk_full(s, &["file system is full", "--ckptdir"])
        })
        .options(&["--forked", "--compress", "lz4"]),
        Case::flow("quota_used_up", ballast(), quota).sampled_as(RunAs::User),
        Case::flow("quota_used_up_compressed", ballast(), quota).options(&["--compress", "lz4"]).full_only(),
        Case::flow("file_size_limit", ballast(), file_size_limit),
        Case::flow("read_only_directory", ballast(), read_only),
        Case::flow("vanished_directory", ballast(), vanished),
        Case::flow("unwritable_directory", ballast(), unwritable).only(RunAs::User),
        Case::flow("coordinator_killed_while_idle", ballast(), |s| coordinator_killed(s, None)),
        Case::flow("dmtcp_command_killed", ballast(), command_killed).sampled_as(RunAs::User),
        Case::flow("two_checkpoints_at_once", ballast(), two_at_once).sampled_as(RunAs::User),
        Case::flow("killed_while_a_child_writes", ballast(), killed_while_the_child_writes).options(&["--forked"]),
        Case::flow("generations_are_kept", ballast(), kept_generations).options(&["--keep", "3"]),
        Case::flow("umask_zero", ballast(), umask),
        Case::flow("link_planted_in_the_tmpdir", ballast(), planted_link),
        Case::flow("port_taken", ballast(), port_taken).sampled_as(RunAs::User),
    ];
    for moment in MOMENTS {
        let name = format!("coordinator_killed_when_{moment:?}").to_lowercase();
        cases.push(Case::flow(&name, ballast(), move |s| coordinator_killed(s, Some(moment))).sampled_as(RunAs::User));
        let name = format!("worker_killed_when_{moment:?}").to_lowercase();
        cases.push(Case::flow(&name, ballast(), move |s| worker_killed(s, moment)).sampled_as(RunAs::Root));
    }
    runner::main(cases)
}
