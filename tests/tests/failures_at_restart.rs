//! Images that cannot or must not be restarted, and what is left of a computation whose programs and coordinator are
//! killed at random moments. Always: what is wrong is said in one sentence that names the image, no program is started,
//! and one complete generation is there.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

/// Exit status of programs that make steps.
const STATUS: i32 = 7;

fn ballast() -> Program {
    Program::c("ballast.c", &[]).args(&["4"])
}

/// Launch, checkpoint, work on, kill.
fn one_image(s: &mut Scenario) -> Result<PathBuf> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()?;
    s.image_files()?.pop().context("no image")
}

fn restart(s: &mut Scenario, images: &[&Path]) -> Result<Output> {
    let port = s.port()?;
    let mut command = s.tool("dmtcp_restart");
    command.args(["-j", "-p", &port]).args(images);
    s.output(command)
}

/// A restart that must be refused with these words.
fn refused(s: &mut Scenario, what: &str, images: &[&Path], words: &[&str]) -> Result<()> {
    let steps = s.progress().last();
    let answer = restart(s, images)?;
    let said = text(&answer);
    ensure!(answer.status.code() == Some(99), "{what}: {}, not exit status 99; it said: {said}", answer.status);
    for word in words {
        ensure!(said.contains(word), "{what}: the message lacks '{word}': {said}");
    }
    ensure!(steps == s.progress().last(), "{what}: the program was started");
    Ok(())
}

fn goes_on(s: &mut Scenario) -> Result<()> {
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

fn cut_anywhere(s: &mut Scenario) -> Result<()> {
    let image = one_image(s)?;
    let whole = fs::read(&image)?;
    let mut dice = Dice(1);
    let cuts = (0..20).map(|_| dice.roll(whole.len())).chain([0, 1, 63, 64, 4095, 4096, whole.len() - 1]);
    for cut in cuts.collect::<Vec<_>>() {
        fs::write(&image, &whole[..cut])?;
        refused(s, &format!("cut at {cut} of {}", whole.len()), &[&image.clone()], &["ckpt_", ".dmtcp"])?;
    }
    fs::write(&image, whole)?;
    goes_on(s)
}

fn changed_anywhere(s: &mut Scenario) -> Result<()> {
    let image = one_image(s)?;
    let whole = fs::read(&image)?;
    let file = fs::File::options().write(true).open(&image)?;
    let mut dice = Dice(2);
    for turn in 0..40 {
        let from = match turn % 3 {
            0 => dice.roll(20_000.min(whole.len())),
            1 => whole.len() - 1 - dice.roll(2000),
            _ => dice.roll(whole.len()),
        };
        // A byte of content: padding and holes mean nothing.
        let Some(at) = (from..whole.len()).find(|&at| whole[at] != 0) else { continue };
        let bit = 1u8 << dice.roll(8);
        file.write_at(&[whole[at] ^ bit], at as u64)?;
        let what = format!("bit {bit} of byte {at} of {} changed", whole.len());
        refused(s, &what, &[&image.clone()], &["ckpt_", ".dmtcp"])?;
        file.write_at(&[whole[at]], at as u64)?;
    }
    goes_on(s)
}

fn foreign(s: &mut Scenario) -> Result<()> {
    let image = one_image(s)?;
    let other = s.path("other.dmtcp");
    let name = &["other.dmtcp"];
    fs::write(&other, "")?;
    refused(s, "an empty file", &[&other], name)?;
    fs::write(&other, "#!/bin/sh\necho this is no image\n".repeat(500))?;
    refused(s, "a script", &[&other], name)?;
    fs::copy("/bin/true", &other)?;
    refused(s, "a program", &[&other], name)?;
    fs::remove_file(&other)?;
    refused(s, "a file that is not there", &[&other], name)?;
    fs::create_dir(&other)?;
    refused(s, "a directory", &[&other], name)?;
    fs::remove_dir(&other)?;
    nix::unistd::mkfifo(&other, nix::sys::stat::Mode::S_IRWXU)?;
    s.run_as().own(&other)?;
    refused(s, "a FIFO", &[&other], name)?;
    let whole = fs::read(&image)?;
    // The note that holds the version of the format: owner, then its type in the word before.
    let mark = [&0x4454_0001u32.to_le_bytes()[..], b"DMTCP\0\0\0"].concat();
    let at = whole.windows(mark.len()).position(|bytes| bytes == mark).context("no version of the format")?;
    let file = fs::File::options().write(true).open(&image)?;
    file.write_at(&[99], (at + mark.len()) as u64)?;
    refused(s, "a newer format", &[&image], &["ckpt_", "format 99"])?;
    file.write_at(&[whole[at + mark.len()]], (at + mark.len()) as u64)?;
    goes_on(s)
}

/// Changes bytes of an image's header, and its checksum with them: as if such an image had been written.
fn craft(image: &Path, from: &[u8], to: &[u8]) -> Result<()> {
    let mut whole = fs::read(image)?;
    let number = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().expect("eight bytes"));
    let header = (number(64 + 8) + number(64 + 32)).next_multiple_of(dmtcp_image::PAGE) as usize;
    let at = whole[..header].windows(from.len()).position(|bytes| bytes == from).context("nothing to change")?;
    whole[at..at + to.len()].copy_from_slice(to);
    let sum = dmtcp_image::sum::plain(&whole[..header]);
    let end = whole.len() - 24;
    whole[end..end + 8].copy_from_slice(&sum.to_le_bytes());
    Ok(fs::write(image, whole)?)
}

fn other_processor(s: &mut Scenario) -> Result<()> {
    let image = one_image(s)?;
    let whole = fs::read(&image)?;
    let images = [image.as_path()];
    craft(&image, b"\"sse4_2\"", b"\"sse9_9\"")?;
    refused(s, "a processor with another feature", &images, &["sse9_9", "processor", "--no-strict-checking", "ckpt_"])?;
    fs::write(&image, whole)?;
    goes_on(s)
}

/// A file that the program reads is gone, or is no file any more.
fn without_its_files(s: &mut Scenario) -> Result<()> {
    let (needed, aside) = (s.path("needed"), s.path("aside"));
    fs::write(&needed, "what the program reads")?;
    s.run_as().own(&needed)?;
    let argv = s.prepared()?;
    let port = s.port()?;
    let mut command = s.command("/bin/sh");
    command.args(["-c", "exec 5<needed; exec dmtcp_launch -j -p \"$@\"", "sh", &port, "--ckptdir"]);
    command.arg(s.image_directory()).args(argv);
    s.launch_command(command)?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    let image = s.image_files()?.pop().context("no image")?;
    fs::rename(&needed, &aside)?;
    refused(s, "without a file", &[&image], &["work/needed", "missing"])?;
    fs::create_dir(&needed)?;
    refused(s, "with a directory instead of a file", &[&image], &["work/needed", "no regular file"])?;
    fs::remove_dir(&needed)?;
    fs::rename(&aside, &needed)?;
    goes_on(s)
}

/// By default an image is verified whole before the program runs; `--lazy` does less, and says so.
fn lazily(s: &mut Scenario) -> Result<()> {
    let image = one_image(s)?;
    let whole = fs::read(&image)?;
    // Part of ballast.c's memory that it does not look at: the upper half of a word.
    let number = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().expect("four bytes"));
    let is_ballast = |at: &usize| (0..4).all(|word| number(at + word as usize * 8) == 5000 + word);
    let at = (0..whole.len() - 32).step_by(8).find(is_ballast).context("no ballast in the image")?;
    fs::File::options().write(true).open(&image)?.write_at(&[whole[at + 7] ^ 1], at as u64 + 7)?;
    refused(s, "damaged memory", &[&image], &["damaged", "checksum", "ckpt_"])?;
    for (what, place) in [("the header", 200), ("the tables", whole.len() - 60), ("the end", whole.len() - 1)] {
        let file = fs::File::options().write(true).open(&image)?;
        file.write_at(&[whole[place] ^ 1], place as u64)?;
        let port = s.port()?;
        let mut command = s.tool("dmtcp_restart");
        command.args(["--lazy", "-j", "-p", &port]).arg(&image);
        let answer = s.output(command)?;
        ensure!(answer.status.code() == Some(99), "--lazy, {what} damaged: {}: {}", answer.status, text(&answer));
        file.write_at(&[whole[place]], place as u64)?;
    }
    s.output_in_pipe();
    s.restart(&Restart::images().options(&["--lazy"]))?;
    s.see_steps(3)?;
    let said = fs::read_to_string(s.output_file())?;
    ensure!(said.contains("not compared with its checksums"), "--lazy does not say what it leaves out: {said}");
    s.finish(STATUS)
}

fn doubled(s: &mut Scenario) -> Result<()> {
    let image = one_image(s)?;
    refused(s, "one image twice", &[&image, &image], &["same process", "ckpt_"])?;
    goes_on(s)
}

/// A generation that was never decided, and what was decided but not named.
fn undecided(s: &mut Scenario) -> Result<()> {
    let image = one_image(s)?;
    let manifest = find(s.image_directory(), "MANIFEST").pop().context("no manifest")?;
    let aside = s.path("manifest");
    fs::rename(&manifest, &aside)?;
    refused(s, "without a manifest", &[&image], &["never completed", "ckpt_"])?;
    fs::rename(&aside, &manifest)?;
    goes_on(s)
}

fn other_user(s: &mut Scenario) -> Result<()> {
    let image = one_image(s)?;
    let mut command = s.tool("dmtcp_restart");
    command.arg("--check").arg(&image);
    let own = s.output(command)?;
    ensure!(own.status.success(), "as its own user: {}", text(&own));
    // The same by root, who may read everything.
    let mut command = std::process::Command::new(s.tool("dmtcp_restart").get_program());
    command.arg("--check").arg(&image).env("HOME", s.path("roots-home"));
    let answer = s.output(command)?;
    let said = text(&answer);
    ensure!(answer.status.code() == Some(99), "as another user: {}: {said}", answer.status);
    ensure!(said.contains("of user 65534") && said.contains("--no-strict-checking"), "as another user: {said}");
    goes_on(s)
}

fn without_its_plugin(s: &mut Scenario) -> Result<()> {
    let beside = s.tool("dmtcp_restart").get_program().to_os_string();
    let own = Path::new(&beside).with_file_name("libdmtcp_event.so");
    let plugin = s.path("libextra.so");
    fs::copy(own, &plugin)?;
    let argv = s.prepared()?;
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--disable-plugin", "event", "--with-plugin"]).arg(&plugin).arg("--ckptdir");
    command.arg(s.image_directory()).args(argv);
    s.launch_command(command)?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    let image = s.image_files()?.pop().context("no image")?;
    let aside = s.path("aside.so");
    fs::rename(&plugin, &aside)?;
    refused(s, "without its plugin", &[&image], &["libextra.so"])?;
    fs::rename(&aside, &plugin)?;
    goes_on(s)
}

/// Files of this name below a directory.
fn find(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(find(&entry.path(), name));
        } else if entry.file_name() == name {
            found.push(entry.path());
        }
    }
    found
}

/// A coordinator and three programs on a port of their own, killed and started again as the dice fall.
struct Trio {
    port: String,
    coordinator: Option<Child>,
    programs: Vec<Child>,
}

impl Trio {
    fn coordinator(s: &Scenario) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let mut command = s.tool("dmtcp_coordinator");
        command.args(["-p", &port, "--ckptdir"]).arg(s.image_directory()).stdin(Stdio::null());
        let coordinator = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let trio = Self { port, coordinator: Some(coordinator), programs: Vec::new() };
        wait::until(10, "the coordinator to listen", || Ok(trio.ask(s, &["s"])?.status.success().then_some(())))?;
        Ok(trio)
    }

    fn start(s: &Scenario) -> Result<Self> {
        let mut trio = Self::coordinator(s)?;
        for name in ["first", "second", "third"] {
            let mut command = s.tool("dmtcp_launch");
            command.args(["-j", "-p", &trio.port, "-q", "-q", "--keep", "2", "--ckptdir"]).arg(s.image_directory());
            command.args(s.prepared()?).arg(name).stdout(Stdio::null()).stderr(Stdio::null());
            trio.programs.push(command.spawn()?);
        }
        trio.await_members(s, 3)?;
        Ok(trio)
    }

    /// Images under a new coordinator: all come back, and each makes steps.
    fn restart(s: &Scenario, images: &[PathBuf]) -> Result<()> {
        let mut trio = Self::coordinator(s)?;
        let mut command = s.tool("dmtcp_restart");
        command.args(["-j", "-p", &trio.port, "-q", "-q"]).args(images);
        let said = s.path("restart.said");
        command.stdout(Stdio::null()).stderr(fs::File::create(&said)?);
        let mut restarter = command.spawn()?;
        let told = || fs::read_to_string(&said).unwrap_or_default();
        trio.await_members(s, images.len()).with_context(told)?;
        let before = s.progress().last();
        wait::until(20, "each program to make steps", || {
            let now = s.progress().last();
            let moved = now.iter().filter(|(stream, n)| before.get(*stream).is_none_or(|old| *n > old)).count();
            Ok((moved == images.len()).then_some(()))
        })
        .with_context(told)?;
        trio.ask(s, &["q"])?;
        wait::until(20, "dmtcp_restart to end", || Ok(restarter.try_wait()?))?;
        trio.coordinator.take().map(|mut child| child.wait()).transpose()?;
        Ok(())
    }

    fn await_members(&self, s: &Scenario, count: usize) -> Result<()> {
        let words = [format!("NUM_PEERS={count}\n"), "RUNNING=yes".into()];
        wait::until(20, &format!("{count} programs to join"), || {
            let status = text(&self.ask(s, &["s"])?);
            Ok(words.iter().all(|word| status.contains(word)).then_some(()))
        })
    }

    fn ask(&self, s: &Scenario, args: &[&str]) -> Result<Output> {
        let mut command = s.tool("dmtcp_command");
        command.args(["-p", &self.port]).args(args);
        s.output(command)
    }

    fn kill(&mut self, who: usize) -> Result<()> {
        let child = if who < self.programs.len() { Some(&mut self.programs[who]) } else { self.coordinator.as_mut() };
        if let Some(child) = child {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL)?;
            child.wait()?;
        }
        Ok(())
    }
}

/// Images that are no set: one missing, of two generations, of two computations.
fn no_set(s: &mut Scenario) -> Result<()> {
    let take = |s: &mut Scenario, times: usize| -> Result<Vec<PathBuf>> {
        let mut trio = Trio::start(s)?;
        for _ in 0..times {
            let answer = trio.ask(s, &["bc"])?;
            ensure!(answer.status.success(), "{}", text(&answer));
        }
        (0..=3).try_for_each(|who| trio.kill(who))?;
        Ok(newest(s.image_directory())?.1)
    };
    let first = take(s, 2)?;
    let (number, _) = newest(s.image_directory())?;
    let inside = |generation: u64, image: &PathBuf| -> Result<PathBuf> {
        let name = image.file_name().context("an image without a name")?.to_string_lossy().into_owned();
        let mut among = find(s.image_directory(), &name).into_iter();
        among
            .find(|path| path.parent().is_some_and(|x| x.ends_with(generation.to_string())))
            .with_context(|| format!("{name} is not in generation {generation}"))
    };
    let old = inside(number - 1, &first[0])?;
    let new = first.iter().map(|image| inside(number, image)).collect::<Result<Vec<_>>>()?;
    let moved = s.path("first");
    fs::create_dir(&moved)?;
    for entry in fs::read_dir(s.image_directory())?.flatten() {
        fs::rename(entry.path(), moved.join(entry.file_name()))?;
    }
    let second = take(s, 1)?;
    let there = |path: &PathBuf| -> Result<PathBuf> { Ok(moved.join(path.strip_prefix(s.image_directory())?)) };
    let first = first.iter().map(there).collect::<Result<Vec<_>>>()?;
    let (old, new) = (there(&old)?, new.iter().map(there).collect::<Result<Vec<_>>>()?);
    let name = first[2].file_name().unwrap_or_default().to_string_lossy().into_owned();
    refused(s, "one image missing", &[&first[0], &first[1]], &["3 processes", "2 images", "missing", &name])?;
    refused(s, "two generations", &[&old, &new[1], &new[2]], &["generation"])?;
    refused(s, "two computations", &[&first[0], &first[1], &second[2]], &["different computations"])?;
    Trio::restart(s, &first)?;
    Trio::restart(s, &second)
}

/// The images of the newest decided generation, by the names that the user knows.
fn newest(directory: &Path) -> Result<(u64, Vec<PathBuf>)> {
    let number = |path: &Path| path.parent()?.file_name()?.to_str()?.parse::<u64>().ok();
    let manifests = find(directory, "MANIFEST");
    let newest = manifests.iter().max_by_key(|path| number(path)).context("no complete generation is there")?;
    let told = fs::read_to_string(newest)?;
    let names = told.lines().filter_map(|line| line.trim().strip_prefix("\"public_path\": \"")?.split('"').next());
    Ok((number(newest).unwrap_or(0), names.map(PathBuf::from).collect()))
}

/// Rounds of: three programs, a complete checkpoint, another one under way, and at a random moment a random choice of
/// programs and coordinator is killed. After each, one complete generation is there, not older than the first.
fn killed_at_random(s: &mut Scenario, rounds: usize) -> Result<()> {
    let seed = std::env::var("DMTCP_TEST_SEED").ok().and_then(|x| x.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("DMTCP_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    for round in 0..rounds {
        let mut trio = Trio::start(s)?;
        let first = trio.ask(s, &["bc"])?;
        ensure!(first.status.success(), "round {round}: {}", text(&first));
        let (before, _) = newest(s.image_directory())?;
        let mut command = s.tool("dmtcp_command");
        command.args(["-p", &trio.port, "bc"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut second = command.spawn()?;
        let moment = Instant::now() + Duration::from_micros(dice.roll(40_000) as u64);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        let victims: BTreeSet<usize> = (0..=dice.roll(4)).map(|_| dice.roll(4)).collect();
        for victim in &victims {
            trio.kill(*victim)?;
        }
        let outcome = wait::until(20, "the second checkpoint to end", || Ok(second.try_wait()?))?;
        for who in 0..=3 {
            if !victims.contains(&who) {
                trio.kill(who)?;
            }
        }
        let (after, images) = newest(s.image_directory())?;
        let context = format!("round {round}, victims {victims:?}, generation {before}, then {after}, bc: {outcome}");
        ensure!(after >= before, "{context}: the older generation is lost");
        ensure!(!outcome.success() || after > before, "{context}: bc says yes, and there is no newer generation");
        let mut check = s.tool("dmtcp_restart");
        check.arg("--verify").args(&images);
        let checked = s.output(check)?;
        ensure!(checked.status.success(), "{context}: {images:?}: {}", text(&checked));
        let mut check = s.tool("dmtcp_inspect");
        check.arg("--json").args(&images);
        let told = text(&s.output(check)?);
        let of_it = told.matches(&format!("\"generation\":{after},")).count();
        ensure!(of_it == images.len(), "{context}: {of_it} of {} images are of it", images.len());
        ensure!(images.len() == 3 || after > before, "{context}: {} images", images.len());
        Trio::restart(s, &images).with_context(|| context.clone())?;
        for path in fs::read_dir(s.image_directory())?.flatten().map(|entry| entry.path()) {
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let compressed = |name: &str, flow: fn(&mut Scenario) -> Result<()>| {
        Case::flow(name, ballast(), flow).options(&["--compress", "zstd"]).sampled_as(RunAs::User)
    };
    runner::main(vec![
        Case::flow("cut_anywhere", ballast(), cut_anywhere),
        compressed("cut_anywhere_compressed", cut_anywhere),
        Case::flow("changed_anywhere", ballast(), changed_anywhere),
        compressed("changed_anywhere_compressed", changed_anywhere),
        Case::flow("foreign_files", ballast(), foreign).sampled_as(RunAs::User),
        Case::flow("for_another_processor", ballast(), other_processor).sampled_as(RunAs::User),
        Case::flow("without_its_files", ballast(), without_its_files).sampled_as(RunAs::User),
        Case::flow("lazily_with_less_checked", ballast(), lazily).sampled_as(RunAs::User),
        Case::flow("one_image_twice", ballast(), doubled).sampled_as(RunAs::User),
        Case::flow("images_that_are_no_set", ballast(), no_set).sampled_as(RunAs::User),
        Case::flow("a_generation_that_was_not_decided", ballast(), undecided).sampled_as(RunAs::User),
        Case::flow("by_another_user", ballast(), other_user).only(RunAs::User),
        Case::flow("without_its_plugin", ballast(), without_its_plugin).sampled_as(RunAs::Root),
        Case::flow("three_programs_killed_at_random", ballast(), |s| killed_at_random(s, 12)).sampled_as(RunAs::User),
        Case::flow("three_programs_killed_at_random_200_times", ballast(), |s| killed_at_random(s, 200))
            .full_only()
            .limit(900),
    ])
}
