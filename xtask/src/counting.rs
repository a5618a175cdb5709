//! A program that counts, under the tool: started, watched, checkpointed and ended.
//!
//! The program prints to a pipe. A restarted program prints to the standard output of whoever restarted it, so each
//! run has a pipe of its own.

use crate::workspace::{release, root};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Exit status of the program at its end.
const STATUS: i32 = 7;

/// A number of each thread.
pub type Counts = BTreeMap<String, u64>;

/// A running program, and what it has printed.
pub struct Run {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

/// A blocking checkpoint: the last numbers before it and after it.
pub fn checkpoint(run: &Run, port: &str, images: &Path) -> Result<(Counts, Counts)> {
    let before = run.last();
    let begin = Instant::now();
    let mut command = tool("dmtcp_command");
    command.args(["-p", port, "bc"]);
    println!("    $ {}", shown(&command));
    let answer = command.output()?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    let said = [answer.stdout, answer.stderr].concat();
    ensure!(answer.status.success(), "dmtcp_command bc: {}: {}", answer.status, String::from_utf8_lossy(&said));
    let after = run.last();
    let size = fs::metadata(image(images)?)?.len() as f64 / 1e6;
    let between = after.iter().map(|(thread, n)| format!("{thread} at {} to {n}", before.get(thread).unwrap_or(&0)));
    let between = between.collect::<Vec<_>>().join(", ");
    println!("    {took:.1} ms, an image of {size:.1} MB; the threads were {between}");
    Ok((before, after))
}

/// The image of the program.
pub fn image(images: &Path) -> Result<PathBuf> {
    let mut found = fs::read_dir(images)?.flatten().map(|x| x.path());
    let image = found.find(|x| x.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ckpt_")));
    image.context("no image was written")
}

impl Run {
    /// Start it.
    pub fn start(command: &mut Command) -> Result<Run> {
        println!("    $ {}", shown(command));
        let (reader, writer) = std::io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        // Our own ends for writing are in the command: the pipe ends when it and the program are gone.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if let Ok(mut lines) = sink.lock() {
                    lines.push(line);
                }
            }
        });
        Ok(Run { child, lines })
    }

    fn printed(&self) -> Vec<String> {
        self.lines.lock().map(|x| x.clone()).unwrap_or_default()
    }

    fn numbers(&self) -> Vec<(String, u64)> {
        self.printed().iter().filter_map(|x| number(x)).collect()
    }

    /// The last number of each thread.
    pub fn last(&self) -> Counts {
        self.numbers().into_iter().collect()
    }

    /// The first number of each thread.
    pub fn first(&self) -> Counts {
        self.numbers().into_iter().rev().collect()
    }

    /// See both threads count, some way beyond `from`.
    pub fn watch(&mut self, from: &Counts) -> Result<()> {
        let now = wait("both threads to count", || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the program ended too early ({status}); it printed: {}", self.printed().join("\n"));
            }
            let now = self.last();
            let enough = now.iter().filter(|(thread, n)| **n >= from.get(*thread).unwrap_or(&0) + 20).count();
            Ok((enough == 2).then_some(now))
        })?;
        println!("    it counts: {}", list(&now));
        Ok(())
    }

    /// Each thread went on right after its number at the checkpoint, which was taken between `before` and `after`, and
    /// no number is missing, or there twice.
    pub fn continued(&self, before: &Counts, after: &Counts) -> Result<()> {
        let first = self.first();
        println!("    the first numbers were {}", list(&first));
        for (thread, n) in &first {
            let (low, high) = (before[thread] + 1, after[thread] + 1);
            ensure!((low..=high).contains(n), "{thread} went on with {n}; it had to be within {low} to {high}");
        }
        let mut last = Counts::new();
        for (thread, n) in self.numbers() {
            if let Some(before) = last.insert(thread.clone(), n) {
                ensure!(n == before + 1, "{thread} printed {n} after {before}");
            }
        }
        println!("    each thread continued exactly where it was checkpointed, without a gap");
        Ok(())
    }

    /// Tell the program to stop, and check its exit status.
    pub fn finish(&mut self, stop: &Path) -> Result<()> {
        File::create(stop)?;
        let status = wait("the program to end", || Ok(self.child.try_wait()?))?;
        ensure!(status.code() == Some(STATUS), "it ended with {status}, not with exit status {STATUS}");
        println!("    it ended with exit status {STATUS}, as it should\n");
        Ok(())
    }
}

/// Start a coordinator whose images go to `directory/images`; gives its port.
pub fn coordinator(directory: &Path) -> Result<String> {
    let port_file = directory.join("port");
    let _ = fs::remove_file(&port_file);
    let mut command = tool("dmtcp_coordinator");
    command.args(["-p", "0", "--port-file"]).arg(&port_file).arg("--ckptdir").arg(directory.join("images"));
    println!("    $ {}", shown(&command));
    let log = File::create(directory.join("coordinator.log"))?;
    command.stdout(log.try_clone()?).stderr(log).spawn()?;
    wait("the coordinator's port", || {
        Ok(fs::read_to_string(&port_file).ok().map(|x| x.trim().to_string()).filter(|x| !x.is_empty()))
    })
}

/// The launch of the program, which counts until `stop` exists.
pub fn launch(port: &str, images: &Path, stop: &Path) -> Command {
    let mut launch = tool("dmtcp_launch");
    launch.args(["-j", "-p", port, "--ckptdir"]).arg(images).arg("/usr/bin/python3");
    launch.arg(root().join("xtask/demo/count.py")).arg(stop);
    launch
}

/// `THREAD NUMBER` of a line.
pub fn number(line: &str) -> Option<(String, u64)> {
    let (thread, n) = line.split_once(' ')?;
    Some((thread.to_string(), n.parse().ok()?))
}

/// The counts in one line.
pub fn list(counts: &Counts) -> String {
    counts.iter().map(|(thread, n)| format!("{thread} {n}")).collect::<Vec<_>>().join(", ")
}

/// A program of the release build, without input.
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(release().join(name));
    command.stdin(Stdio::null());
    command
}

/// A command as a person would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let short = |x: &std::ffi::OsStr| Path::new(x).file_name().unwrap_or(x).to_string_lossy().into_owned();
    words.map(short).collect::<Vec<_>>().join(" ")
}

/// Wait for `condition`; an error that names it when it takes too long.
pub fn wait<T>(what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// SIGKILL, and wait until they are gone: a process is gone when it has been waited for, not before.
pub fn end(victims: &[i32]) -> Result<()> {
    for pid in victims {
        kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
    }
    for pid in victims {
        wait("the end of a killed process", || match waitpid(Pid::from_raw(*pid), None) {
            Ok(_) => Ok(Some(())),
            // Not a child of ours yet: it becomes one when its parent has ended; or its parent has waited for it.
            Err(_) => Ok((!Path::new(&format!("/proc/{pid}")).exists()).then_some(())),
        })?;
    }
    Ok(())
}

/// All descendants of this process, parents first.
pub fn descendants() -> Vec<i32> {
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
