//! One run of one case: its directories, its coordinator, its processes, and the four commands.
//!
//! ```text
//!   launch -> see_steps -> checkpoint -> see_steps -> kill -> restart -> see_steps -> ... -> finish
//! ```
//! A scenario kills like a machine that loses power: everything at once, the coordinator too. A restart therefore
//! always meets a new coordinator on another port, and writes its images into another directory.

mod flow;

use crate::coordinator::Coordinator;
use crate::identity::RunAs;
use crate::process::{self, Pids};
use crate::program::Program;
use crate::progress::{self, Bounds, Progress, Steps};
use crate::restart::{Named, Restart};
use crate::terminal::{StartedBy, Terminal};
use crate::tool;
use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

/// Limit for one wait, in seconds.
const PATIENCE: u64 = 30;

static STAGE: Mutex<String> = Mutex::new(String::new());

/// What the case is doing, for whoever reports that it hangs.
pub fn stage() -> String {
    STAGE.lock().map(|x| x.clone()).unwrap_or_default()
}

fn enter(stage: String) {
    println!("* {stage}");
    if let Ok(mut current) = STAGE.lock() {
        *current = stage;
    }
}

/// One run of one case.
pub struct Scenario {
    run_as: RunAs,
    root: PathBuf,
    tool: PathBuf,
    program: Program,
    streams: usize,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    generation: usize,
    run: usize,
    images: PathBuf,
    coordinator: Option<Coordinator>,
    front: Option<Child>,
    bounds: Vec<Bounds>,
    required: BTreeSet<String>,
    fresh: bool,
    steps_on_stdout: bool,
    output_in_pipe: bool,
    input: Option<PathBuf>,
    on_terminal: Option<StartedBy>,
    terminal: Option<Terminal>,
    others: Vec<(Option<Child>, Option<Coordinator>)>,
    restarted: Cell<bool>,
}

impl Scenario {
    /// Make the directories for `program`, which advances at least `streams` streams of steps.
    pub fn new(root: &Path, run_as: RunAs, program: Program, streams: usize, options: &[String]) -> Result<Scenario> {
        let aslr = fs::read_to_string("/proc/sys/kernel/randomize_va_space")?;
        ensure!(aslr.trim() == "2", "tests run with address space randomisation; this machine has it switched off");
        for name in ["", "bin", "work", "images.0", "tmp", "home", "logs", "elsewhere"] {
            let directory = root.join(name);
            fs::create_dir_all(&directory)?;
            run_as.own(&directory)?;
        }
        Ok(Scenario {
            run_as,
            root: root.to_path_buf(),
            tool: tool::directory(root)?,
            program,
            streams,
            options: options.to_vec(),
            environment: Vec::new(),
            generation: 0,
            run: 0,
            images: root.join("images.0"),
            coordinator: None,
            front: None,
            bounds: Vec::new(),
            required: BTreeSet::new(),
            fresh: false,
            steps_on_stdout: false,
            output_in_pipe: false,
            input: None,
            on_terminal: None,
            terminal: None,
            others: Vec::new(),
            restarted: Cell::new(false),
        })
    }

    /// Who runs the programs.
    pub fn run_as(&self) -> RunAs {
        self.run_as
    }

    /// Whether anything was to be restarted.
    pub fn has_restarted(&self) -> bool {
        self.restarted.get()
    }

    /// Further options of `dmtcp_launch` that the case asks for.
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// A path in the working directory of the program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join("work").join(name)
    }

    /// Where the images of the current generation go.
    pub fn image_directory(&self) -> &Path {
        &self.images
    }

    /// The log that the program appends its steps to.
    pub fn progress(&self) -> Progress {
        Progress::read(&self.log())
    }

    /// Where the steps are.
    pub fn log(&self) -> PathBuf {
        if self.steps_on_stdout { self.output_file() } else { self.path("progress") }
    }

    /// What the program prints since it was last started or restarted.
    pub fn output_file(&self) -> PathBuf {
        self.root.join("logs").join(format!("output.{}", self.run))
    }

    /// Let standard output and error lead into a pipe, as from a terminal or a batch system: a restarted program then
    /// writes to whoever restarted it. Else they are a file, which belongs to the program's state as any other.
    pub fn output_in_pipe(&mut self) {
        self.output_in_pipe = true;
    }

    /// Let the program write its steps to its standard output, a pipe: each restart then has a log of its own.
    pub fn steps_on_stdout(&mut self) {
        self.output_in_pipe();
        self.steps_on_stdout = true;
        self.set_env("STEPS_LOG", "-");
    }

    /// Let the program, and whatever restarts it, be started so on a terminal of the case, from now on; it is a new
    /// terminal each time.
    pub fn on_terminal(&mut self, by: StartedBy) {
        self.on_terminal = Some(by);
    }

    /// The terminal.
    pub fn terminal(&mut self) -> Result<&mut Terminal> {
        self.terminal.as_mut().context("no terminal")
    }

    /// Set a variable for everything that is started from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// The coordinator, started when there is none.
    pub fn coordinator(&mut self) -> Result<&mut Coordinator> {
        if self.coordinator.is_none() {
            let command = self.tool("dmtcp_coordinator");
            let started = Coordinator::start(command, self.run_as, &self.root.join("logs"), &self.images, self.run)?;
            self.coordinator = Some(started);
        }
        self.coordinator.as_mut().context("no coordinator")
    }

    /// The coordinator's port.
    pub fn port(&mut self) -> Result<String> {
        Ok(self.coordinator()?.port().to_string())
    }

    /// Use the programs in another directory from now on.
    pub fn use_tool(&mut self, directory: &Path) {
        self.tool = directory.to_path_buf();
    }

    /// A command of the tool, with the environment of the case.
    pub fn tool(&self, name: &str) -> Command {
        self.command(&self.tool.join(name).display().to_string())
    }

    /// Any command, with the environment of the case.
    pub fn command(&self, program: &str) -> Command {
        self.restarted.set(self.restarted.get() || program.contains("dmtcp_restart"));
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.root.join("work")).stdin(Stdio::null());
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.tool.display()));
        command.env("HOME", self.root.join("home")).env("TMPDIR", self.root.join("tmp"));
        command.env("DMTCP_TMPDIR", self.root.join("tmp")).env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
        command.env("STEPS_LOG", self.log()).env("STEPS_STOP", self.path("stop"));
        command.env("STEPS_DIR", self.root.join("work"));
        // What the kernel may be asked for is a dimension of the whole suite.
        if let Some(features) = env::var_os("DMTCP_TEST_FORBID") {
            command.env("DMTCP_FORBID", features);
        }
        command.envs(self.program.environment().iter().map(|(n, v)| (n, v)));
        command.envs(self.environment.iter().map(|(n, v)| (n, v)));
        self.run_as.apply(&mut command);
        command
    }

    /// Run a short command to its end.
    pub fn output(&self, mut command: Command) -> Result<Output> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let waited = wait::until(PATIENCE, &format!("{command:?} to end"), || Ok(child.try_wait()?));
        if waited.is_err() {
            let _ = child.kill();
        }
        waited?;
        Ok(child.wait_with_output()?)
    }

    /// Run `dmtcp_command` on this case's coordinator.
    pub fn ask(&mut self, args: &[&str]) -> Result<Output> {
        let port = self.port()?;
        let mut command = self.tool("dmtcp_command");
        command.args(["-p", &port]).args(args);
        self.output(command)
    }

    /// Let `command` write to a log of this case, and start it as the computation's first process.
    fn start(&mut self, mut command: Command) -> Result<()> {
        let path = self.output_file();
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        self.run_as.own(&path)?;
        if let Some(by) = self.on_terminal {
            let (mut terminal, mut session) = Terminal::open(self.run_as, by, &command, file)?;
            self.front = Some(session.spawn().with_context(|| format!("cannot run {session:?}"))?);
            // Else the other side of the terminal stays open here.
            drop(session);
            if by == StartedBy::Shell {
                terminal.command(&command)?;
            }
            self.terminal = Some(terminal);
            return Ok(());
        }
        if self.output_in_pipe {
            let (mut reader, writer) = std::io::pipe()?;
            let mut file = file;
            std::thread::spawn(move || std::io::copy(&mut reader, &mut file));
            command.stdout(writer.try_clone()?).stderr(writer);
        } else {
            command.stdout(file.try_clone()?).stderr(file);
        }
        if let Some(input) = &self.input {
            command.stdin(OpenOptions::new().read(true).append(true).open(input)?);
        }
        // As a shell with job control does it.
        command.process_group(0);
        self.front = Some(command.spawn().with_context(|| format!("cannot run {command:?}"))?);
        Ok(())
    }

    /// Start the program under the tool.
    pub fn launch(&mut self) -> Result<()> {
        enter("launch".into());
        let argv = self.prepared()?;
        let port = self.port()?;
        let mut command = self.tool("dmtcp_launch");
        command.args(["-j", "-p", &port, "--no-gzip", "--ckptdir"]).arg(&self.images).args(&self.options).args(argv);
        self.start(command)
    }

    /// Start the program without any tool: the proof that a test tests what it says.
    pub fn launch_native(&mut self) -> Result<()> {
        enter("native launch".into());
        let argv = self.prepared()?;
        let mut command = self.command(&argv[0]);
        command.args(&argv[1..]);
        self.start(command)
    }

    /// Start another command of the tool as the computation's first process.
    pub fn launch_command(&mut self, command: Command) -> Result<()> {
        enter(format!("{:?}", command.get_args().collect::<Vec<_>>()));
        self.start(command)
    }

    /// The program as it is executed, built.
    pub fn prepared(&self) -> Result<Vec<String>> {
        self.program.prepare(&self.root.join("bin"))
    }

    /// Fail if something already went wrong: a complaint of the program, or its end.
    pub fn healthy(&mut self) -> Result<()> {
        self.progress().complaint()?;
        if let Some(front) = self.front.as_mut()
            && let Some(status) = front.try_wait()?
        {
            bail!("{}: the program ended too early: {status}", stage());
        }
        Ok(())
    }

    /// Wait until each stream has made `count` more steps since the restart, if that was just now, else from here on.
    pub fn see_steps(&mut self, count: u64) -> Result<()> {
        let start = self.progress().last();
        let fresh = std::mem::take(&mut self.fresh);
        let streams = self.streams.max(self.required.len());
        let required = self.required.clone();
        let moved = wait::until(PATIENCE, &format!("{count} more steps of {streams} streams ({})", stage()), || {
            self.healthy()?;
            let log = self.progress();
            let base = match (fresh, log.since_restart(self.generation)) {
                (true, Some(steps)) => return Ok(enough(&steps, &Steps::new(), count, streams, &required)),
                // The marker is gone: the restart has cut the log back to its length at the checkpoint.
                (true, None) => self.bounds.last().map(|b| b.after.clone()).unwrap_or_default(),
                (false, _) => start.clone(),
            };
            Ok(enough(&log.last(), &base, count, streams, &required))
        })?;
        self.required.extend(moved);
        Ok(())
    }

    /// The pid of what was started last, as its shell knows it.
    pub fn front(&self) -> Option<i32> {
        self.front.as_ref().map(|front| front.id() as i32)
    }

    /// The images of the current generation.
    pub fn image_files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.images)?.flatten().map(|x| x.path());
        let mut found: Vec<PathBuf> = entries
            .filter(|p| {
                p.file_name().and_then(|x| x.to_str()).is_some_and(|x| x.starts_with("ckpt_") && x.ends_with(".dmtcp"))
            })
            .collect();
        found.sort();
        Ok(found)
    }

    /// A blocking checkpoint.
    pub fn checkpoint(&mut self) -> Result<()> {
        enter(format!("checkpoint {}", self.generation + 1));
        self.healthy()?;
        let caught = self.generation.checked_sub(1).and_then(|k| self.bounds.get(k)).cloned();
        let before = self.progress().standing(self.generation, caught.as_ref().map(|x| &x.before));
        let answer = self.ask(&["bc"])?;
        ensure!(answer.status.success(), "dmtcp_command bc: {}: {}", answer.status, text(&answer));
        self.healthy()?;
        let after = self.progress().standing(self.generation, caught.as_ref().map(|x| &x.after));
        ensure!(!self.image_files()?.is_empty(), "no ckpt_*.dmtcp in {} after the checkpoint", self.images.display());
        let script = self.images.join("dmtcp_restart_script.sh");
        ensure!(script.exists(), "no {} after the checkpoint", script.display());
        self.bounds.truncate(self.generation);
        self.bounds.push(Bounds { before, after });
        Ok(())
    }

    /// SIGKILL everything, the coordinator too unless it is to be spared.
    pub fn kill_sparing(&mut self, spare_coordinator: bool) -> Result<()> {
        enter(format!("kill {}", self.generation + 1));
        self.healthy()?;
        let mut spare = Pids::new();
        if let Some(coordinator) = self.coordinator.as_ref().filter(|_| spare_coordinator) {
            spare.insert(coordinator.pid());
        }
        process::freeze(&spare);
        let length = fs::metadata(self.log())?.len();
        let mut waited: Pids = self.front.iter().map(|x| x.id() as i32).collect();
        waited.extend(self.coordinator.iter().map(Coordinator::pid));
        process::kill_all(&spare, &waited)?;
        OpenOptions::new().write(true).open(self.log())?.set_len(length)?;
        if let Some(mut front) = self.front.take() {
            front.wait()?;
        }
        if !spare_coordinator && let Some(coordinator) = self.coordinator.take() {
            coordinator.reap();
        }
        Ok(())
    }

    /// SIGKILL everything.
    pub fn kill(&mut self) -> Result<()> {
        self.kill_sparing(false)
    }

    /// Let go of the running computation without killing it: it is stopped by SIGSTOP and keeps its ids.
    pub fn leave_stopped(&mut self) -> Result<()> {
        enter("stop the instance that goes on holding its ids".into());
        self.healthy()?;
        process::freeze(&Pids::new());
        self.leave_running()
    }

    /// Let go of the running computation, which goes on by itself.
    pub fn leave_running(&mut self) -> Result<()> {
        self.others.push((self.front.take(), self.coordinator.take()));
        self.run += 1;
        Ok(())
    }

    /// Restart the last checkpoint.
    pub fn restart(&mut self, how: &Restart) -> Result<()> {
        self.run += 1;
        self.generation += 1;
        self.restarted.set(true);
        enter(format!("restart {} ({how:?})", self.run));
        let mut source = self.images.clone();
        if how.moved {
            let moved = self.root.join("elsewhere").join(format!("moved.{}", self.run));
            fs::rename(&source, &moved)?;
            source = moved.clone();
            self.images = moved;
        }
        let mut images = self.image_files()?;
        if !how.same_coordinator {
            self.images = self.root.join(format!("images.{}", self.run));
            fs::create_dir_all(&self.images)?;
            self.run_as.own(&self.images)?;
        }
        let mut log = OpenOptions::new().append(true).create(true).open(self.log())?;
        writeln!(log, "{}", progress::marker(self.generation))?;
        self.run_as.own(&self.log())?;
        let port = self.port()?;
        let restarts = match how.named {
            Named::Script => source.join("dmtcp_restart_script.sh"),
            _ => self.tool.join("dmtcp_restart"),
        };
        let expand = ["/bin/sh", "-c", "directory=$1; shift; exec \"$@\" \"$directory\"/ckpt_*.dmtcp", "sh"];
        let expanding = if how.named == Named::Pattern { &expand[..] } else { &[] };
        let expanding = expanding.iter().map(|word| word.to_string());
        let directory = (how.named == Named::Pattern).then(|| source.display().to_string());
        let mut words =
            how.under.iter().cloned().chain(expanding).chain(directory).chain([restarts.display().to_string()]);
        let mut command = self.command(&words.next().context("no command")?);
        command.args(words);
        command.current_dir(self.root.join("elsewhere"));
        if how.named != Named::Script {
            command.arg("-j");
        }
        command.args(["-p", &port, "--ckptdir"]).arg(&self.images).args(&how.options);
        match how.named {
            Named::Each => command.args(&images),
            Named::Backwards => {
                images.reverse();
                command.args(&images)
            }
            Named::Directory => command.arg("--restartdir").arg(&source),
            Named::Pattern | Named::Script => &mut command,
        };
        if let Some(way) = &how.ids {
            command.env("DMTCP_PID_RESTORE", way);
        }
        self.fresh = true;
        self.start(command)
    }

    /// Directories whose files tell what happened.
    pub fn evidence(root: &Path) -> String {
        let (logs, work) = (root.join("logs"), root.join("work"));
        let mut directories = vec![logs, work];
        directories.extend(fs::read_dir(root.join("tmp")).into_iter().flatten().flatten().map(|x| x.path()));
        crate::evidence::gather(&directories.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    }
}

/// What a command printed, on both streams.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The streams that have made `count` steps beyond `base`, if those are enough.
fn enough(
    now: &Steps,
    base: &Steps,
    count: u64,
    streams: usize,
    required: &BTreeSet<String>,
) -> Option<BTreeSet<String>> {
    let from = |stream: &String| base.get(stream).copied().unwrap_or(0);
    let moved: BTreeSet<String> =
        now.iter().filter(|(stream, n)| **n >= from(stream) + count).map(|x| x.0.clone()).collect();
    (moved.len() >= streams && moved.is_superset(required)).then_some(moved)
}
