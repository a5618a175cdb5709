//! A coordinator and a program under it, for one measurement; all of it ends with the value.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A coordinator with a directory for images.
pub struct Session {
    directory: PathBuf,
    port: String,
    coordinator: Child,
    running: Vec<Child>,
}

/// Where the programs of the tool are: beside this one.
fn tool(name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name(name));
    command.stdin(Stdio::null());
    Ok(command)
}

/// Build a C program of `benches/programs`.
pub fn compile(source: &str) -> Result<PathBuf> {
    compile_with(source, source.trim_end_matches(".c"), &[])
}

/// As [`compile`], with a name and further words for the compiler.
pub fn compile_with(source: &str, name: &str, words: &[&str]) -> Result<PathBuf> {
    let directory = std::env::current_exe()?.with_file_name("bench-programs");
    fs::create_dir_all(&directory)?;
    let program = directory.join(name);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(source);
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O2", "-pthread", "-o"]).arg(&program).arg(&path).args(words);
    ensure!(compiler.status().context("cannot run cc")?.success(), "cannot build {}", path.display());
    Ok(program)
}

impl Session {
    /// Start a coordinator whose images go below `images`.
    pub fn new(images: &Path) -> Result<Session> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = images.join(format!("dmtcp-bench.{}.{number}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let file = directory.join("port");
        let mut command = tool("dmtcp_coordinator")?;
        command.args(["-p", "0", "--port-file"]).arg(&file).arg("--ckptdir").arg(&directory);
        let log = fs::File::create(directory.join("coordinator.log"))?;
        let coordinator = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut session = Session { directory, port: String::new(), coordinator, running: Vec::new() };
        let deadline = Instant::now() + LIMIT;
        while session.port.is_empty() {
            ensure!(Instant::now() < deadline, "the coordinator writes no port");
            std::thread::sleep(Duration::from_millis(1));
            session.port = fs::read_to_string(&file).unwrap_or_default().trim().to_string();
        }
        Ok(session)
    }

    /// `dmtcp_launch` with our options, to which the program is to be added.
    pub fn launch(&self) -> Result<Command> {
        let mut command = tool("dmtcp_launch")?;
        command.args(["-q", "-q", "-j", "-p", &self.port, "--no-gzip", "--ckptdir"]).arg(&self.directory);
        Ok(command)
    }

    /// Start a command that goes on until the session, or the program, is killed.
    pub fn start(&mut self, command: &mut Command) -> Result<&mut Child> {
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        self.running.push(child);
        self.running.last_mut().context("nothing runs")
    }

    /// A blocking checkpoint; how long the command took.
    pub fn checkpoint(&self) -> Result<f64> {
        let mut command = tool("dmtcp_command")?;
        command.args(["-p", &self.port, "bc"]);
        let start = Instant::now();
        let output = command.output()?;
        let took = start.elapsed().as_secs_f64();
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "dmtcp_command bc: {}: {}", output.status, String::from_utf8_lossy(&said));
        Ok(took)
    }

    /// `dmtcp_restart` of the images of the last checkpoint.
    pub fn restart(&self, options: &[&str]) -> Result<Command> {
        let mut command = tool("dmtcp_restart")?;
        command.args(["-q", "-q", "-j", "-p", &self.port]).args(options).args(self.images()?);
        Ok(command)
    }

    /// The images of the last checkpoint.
    pub fn images(&self) -> Result<Vec<PathBuf>> {
        let found = fs::read_dir(&self.directory)?.flatten().map(|x| x.path());
        let is_image = |x: &PathBuf| x.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ckpt_"));
        let images: Vec<PathBuf> = found.filter(is_image).collect();
        ensure!(!images.is_empty(), "no image was written");
        Ok(images)
    }

    /// Bytes that the images of the last checkpoint take on the disk.
    pub fn stored(&self) -> Result<f64> {
        let sizes: std::io::Result<Vec<u64>> =
            self.images()?.iter().map(|x| Ok(x.metadata()?.blocks() * 512)).collect();
        Ok(sizes?.iter().sum::<u64>() as f64)
    }

    /// How long the stop of the last checkpoint took, as the coordinator reports it.
    pub fn stop(&self) -> Result<f64> {
        let log = fs::read_to_string(self.directory.join("coordinator.log"))?;
        let microseconds =
            log.lines().rev().find_map(|x| x.split_once(" stop ")?.1.split_once(" us")?.0.parse::<f64>().ok());
        Ok(microseconds.context("the coordinator reports no stop")? * 1e-6)
    }

    /// Kill the program and wait until the coordinator knows that it is gone.
    pub fn kill(&mut self) -> Result<()> {
        for mut child in self.running.drain(..) {
            for pid in below(child.id() as i32) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            child.wait()?;
        }
        self.await_processes(0)
    }

    /// Wait until the computation has so many processes.
    pub fn await_processes(&self, count: usize) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let told = format!("NUM_PEERS={count}");
        loop {
            let mut command = tool("dmtcp_command")?;
            let output = command.args(["-p", &self.port, "s"]).output()?;
            if String::from_utf8_lossy(&output.stdout).lines().any(|line| line.trim() == told) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the computation does not come to {count} processes");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A process and all of its descendants.
fn below(first: i32) -> Vec<i32> {
    let mut found = vec![first];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        for task in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|x| x.parse::<i32>().ok()));
        }
        next += 1;
    }
    found
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = self.coordinator.kill();
        let _ = self.coordinator.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
