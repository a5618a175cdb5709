//! `cargo xtask demo`: the main job, narrated.
//!
//! A Python program with two threads counts. It is checkpointed, counts on, is killed with SIGKILL, and is restarted
//! from its image: it must go on right after the number where it was checkpointed, in both threads. Then all of that
//! once more, with an image made by the restarted program. The numbers are checked here; the exit status tells.

use crate::packages;
use crate::workspace::{build, release, root};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Exit status of the program at its end.
const STATUS: i32 = 7;

/// The last number of each thread.
type Counts = BTreeMap<String, u64>;

struct Demo {
    directory: PathBuf,
    port: String,
    running: Option<Child>,
}

/// Build, and show it.
pub fn run() -> Result<String> {
    packages::ensure_installed(packages::DEMO)?;
    build()?;
    let directory = std::env::temp_dir().join(format!("dmtcp-demo.{}", std::process::id()));
    fs::create_dir_all(directory.join("images"))?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut coordinator = None;
    let outcome = show(&directory, &mut coordinator);
    for pid in descendants() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    if let Some(mut child) = coordinator {
        let _ = child.wait();
    }
    match outcome {
        Ok(closing) => {
            fs::remove_dir_all(&directory)?;
            Ok(closing)
        }
        Err(error) => Err(error.context(format!("logs and images are in {}", directory.display()))),
    }
}

fn show(directory: &Path, coordinator: &mut Option<Child>) -> Result<String> {
    say("A coordinator for one computation, on a port of its own:");
    let port_file = directory.join("port");
    let mut command = tool("dmtcp_coordinator");
    command.args(["-p", "0", "--port-file"]).arg(&port_file).arg("--ckptdir").arg(directory.join("images"));
    command.stdin(Stdio::null());
    *coordinator = Some(start(command, &directory.join("coordinator.log"))?);
    let port = wait("the coordinator's port", || {
        Ok(fs::read_to_string(&port_file).ok().map(|x| x.trim().to_string()).filter(|x| !x.is_empty()))
    })?;
    let mut demo = Demo { directory: directory.to_path_buf(), port, running: None };

    say("A Python program with two threads that count, started under dmtcp_launch:");
    let script = root().join("xtask/demo/count.py");
    let mut launch = tool("dmtcp_launch");
    launch.args(["-j", "-p", &demo.port, "--ckptdir"]).arg(demo.images()).arg("/usr/bin/python3").arg(script);
    launch.arg(demo.log()).arg(demo.stop());
    demo.start(launch)?;
    demo.watch(&Counts::new(), 20)?;

    for round in ["first", "second"] {
        demo.round(round)?;
    }

    say("The program is told to stop:");
    File::create(demo.stop())?;
    let mut child = demo.running.take().context("nothing runs")?;
    let status = wait("the program to end", || Ok(child.try_wait()?))?;
    ensure!(status.code() == Some(STATUS), "it ended with {status}, not with exit status {STATUS}");
    println!("    it ended with exit status {STATUS}, as it should");
    Ok("The demo went well: killed twice, and each time it continued exactly where it was checkpointed.".into())
}

impl Demo {
    fn images(&self) -> PathBuf {
        self.directory.join("images")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("counts")
    }

    fn stop(&self) -> PathBuf {
        self.directory.join("stop")
    }

    fn start(&mut self, command: Command) -> Result<()> {
        self.running = Some(start(command, &self.directory.join("output.log"))?);
        Ok(())
    }

    /// Checkpoint, count on, kill, restart, and check the numbers.
    fn round(&mut self, name: &str) -> Result<()> {
        say(&format!("The {name} checkpoint, while both threads count:"));
        let before = counts(&self.log())?;
        let begin = Instant::now();
        let mut command = tool("dmtcp_command");
        command.args(["-p", &self.port, "bc"]);
        println!("    $ {}", shown(&command));
        let answer = command.output()?;
        let took = begin.elapsed();
        let said = format!("{}{}", String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
        ensure!(answer.status.success(), "dmtcp_command bc: {}: {said}", answer.status);
        let after = counts(&self.log())?;
        let image = self.image()?;
        let size = fs::metadata(&image)?.len() as f64 / 1e6;
        println!(
            "    {:.1} ms, an image of {size:.1} MB; the threads were {}",
            took.as_secs_f64() * 1e3,
            between(&before, &after)
        );

        self.watch(&after, 20)?;
        say("SIGKILL:");
        let mut child = self.running.take().context("nothing runs")?;
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL)?;
        let status = child.wait()?;
        let killed = counts(&self.log())?;
        println!(
            "    the process {} is gone ({status}); the last numbers that it wrote: {}",
            child.id(),
            list(&killed)
        );

        say("Restart from the image, in another directory:");
        let length = fs::metadata(self.log())?.len() as usize;
        let mut restart = tool("dmtcp_restart");
        restart.args(["-j", "-p", &self.port]).arg(&image).current_dir("/");
        self.start(restart)?;
        let first = wait("numbers of both threads after the restart", || {
            self.alive()?;
            let text = fs::read_to_string(self.log())?;
            let mut first = Counts::new();
            for (thread, n) in text.get(length..).unwrap_or_default().lines().filter_map(number) {
                first.entry(thread).or_insert(n);
            }
            Ok((first.len() == before.len()).then_some(first))
        })?;
        println!("    the first numbers that it wrote now: {}", list(&first));
        for (thread, n) in &first {
            let (low, high) = (before[thread] + 1, after[thread] + 1);
            ensure!((low..=high).contains(n), "{thread} went on with {n}; it had to be within {low} to {high}");
        }
        self.watch(&first, 20)?;
        let text = fs::read_to_string(self.log())?;
        in_order(text.get(length..).unwrap_or_default())?;
        println!("    each thread continued exactly where it was checkpointed, without a gap");
        Ok(())
    }

    /// The image of the program.
    fn image(&self) -> Result<PathBuf> {
        let mut found = fs::read_dir(self.images())?.flatten().map(|x| x.path());
        let image = found.find(|x| x.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ckpt_")));
        image.context("no image was written")
    }

    /// See both threads count `more` numbers beyond `from`.
    fn watch(&mut self, from: &Counts, more: u64) -> Result<()> {
        let now = wait("both threads to count", || {
            self.alive()?;
            let now = counts(&self.log())?;
            let enough = now.iter().filter(|(thread, n)| **n >= from.get(*thread).unwrap_or(&0) + more).count();
            Ok((enough == 2).then_some(now))
        })?;
        println!("    it counts: {}", list(&now));
        Ok(())
    }

    fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.running.as_mut().map(Child::try_wait).transpose()?.flatten() {
            let output = fs::read_to_string(self.directory.join("output.log")).unwrap_or_default();
            bail!("the program ended too early ({status}); it printed: {output}");
        }
        Ok(())
    }
}

fn say(text: &str) {
    println!("\n==> {text}");
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(release().join(name));
    command.stdin(Stdio::null());
    command
}

/// A command as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let short = |x: &std::ffi::OsStr| Path::new(x).file_name().unwrap_or(x).to_string_lossy().into_owned();
    words.map(short).collect::<Vec<_>>().join(" ")
}

fn start(mut command: Command, log: &Path) -> Result<Child> {
    println!("    $ {}", shown(&command));
    let output = File::options().append(true).create(true).open(log)?;
    command.stdout(output.try_clone()?).stderr(output).spawn().with_context(|| format!("cannot run {command:?}"))
}

fn wait<T>(what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `THREAD NUMBER` of a line of the log.
fn number(line: &str) -> Option<(String, u64)> {
    let (thread, n) = line.split_once(' ')?;
    Some((thread.to_string(), n.parse().ok()?))
}

fn counts(log: &Path) -> Result<Counts> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().filter_map(number).collect())
}

fn in_order(text: &str) -> Result<()> {
    let mut last = Counts::new();
    for (thread, n) in text.lines().filter_map(number) {
        if let Some(before) = last.insert(thread.clone(), n) {
            ensure!(n == before + 1, "{thread} wrote {n} after {before}");
        }
    }
    Ok(())
}

fn list(counts: &Counts) -> String {
    counts.iter().map(|(thread, n)| format!("{thread} at {n}")).collect::<Vec<_>>().join(", ")
}

fn between(before: &Counts, after: &Counts) -> String {
    let one = |(thread, n): (&String, &u64)| format!("{thread} at {} to {n}", before.get(thread).unwrap_or(&0));
    after.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// All live descendants of this process.
fn descendants() -> Vec<i32> {
    let parent_of = |pid: i32| -> Option<i32> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|x| x.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent_of(pid)?)))
        .collect();
    let mut found = vec![std::process::id() as i32];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|x| x.1 == parent).map(|x| x.0));
        next += 1;
    }
    found.split_off(1)
}
