//! A real coordinator and scripted workers that talk to it over real sockets. Every wait is bounded.

#![allow(dead_code, reason = "each test file is a program of its own and uses its part of this")]

use dmtcp_launcher::client::{self, ClientError, Connection};
use dmtcp_protocol::auth::Key;
use dmtcp_protocol::manifest;
use dmtcp_protocol::message::{
    Barrier, Command as Ask, ComputationId, FromClient, FromCoordinator, Join, Outcome, Status, Timings, Written,
};
use dmtcp_protocol::names::{Answer, Operation, Scope};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Limit of every wait.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How long nothing has to come for it to count as not coming.
pub const SILENCE: Duration = Duration::from_millis(300);
const KEY: [u8; 32] = [7; 32];

/// A coordinator of its own, in a directory of its own; ended with the value.
pub struct Coordinator {
    child: Child,
    pub port: u16,
    pub directory: tempfile::TempDir,
}

impl Coordinator {
    pub fn start(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key_file = directory.path().join("key");
        std::fs::write(&key_file, Key::new(KEY).to_text()).unwrap();
        std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let port_file = directory.path().join("port");
        let images = directory.path().join("images");
        std::fs::create_dir(&images).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dmtcp_coordinator"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DMTCP_")) {
            command.env_remove(name);
        }
        let child = command
            .env("TMPDIR", directory.path())
            .env("DMTCP_COORD_PORT", "0")
            .arg("--port-file")
            .arg(&port_file)
            .arg("--ckptdir")
            .arg(&images)
            .args(flags)
            .env("DMTCP_COORD_KEY_FILE", &key_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let port = wait_for("the port file", || std::fs::read_to_string(&port_file).ok()?.trim().parse().ok());
        Self { child, port, directory }
    }

    pub fn connect(&self) -> Connection {
        client::connect("127.0.0.1", self.port, &Key::new(KEY), None).unwrap()
    }

    pub fn connect_with(&self, key: [u8; 32]) -> Result<Connection, ClientError> {
        client::connect("127.0.0.1", self.port, &Key::new(key), None)
    }

    /// Like a program with the coordinator's scratch directory; the other connections know another one.
    pub fn connect_locally(&self, key: [u8; 32]) -> Result<Connection, ClientError> {
        client::connect("127.0.0.1", self.port, &Key::new(key), Some(self.directory.path()))
    }

    /// Ends it without a chance to clean up.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Where images and the restart script go.
    pub fn images(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    pub fn ask(&self, command: Ask) -> Outcome {
        self.connect().command(command, LIMIT, |_, _| {}).unwrap()
    }

    pub fn status(&self) -> Status {
        match self.ask(Ask::Status) {
            Outcome::Status(status) => *status,
            other => panic!("no status: {other:?}"),
        }
    }

    /// Sends a command and leaves the answer for later.
    pub fn begin(&self, command: Ask) -> Asking {
        let mut connection = self.connect();
        connection.send(&FromClient::Command(command)).unwrap();
        Asking(connection)
    }

    pub fn worker(&self, virtual_pid: i32) -> Worker {
        self.join(join(virtual_pid, &self.images()))
    }

    pub fn join(&self, join: Join) -> Worker {
        let mut worker = self.knock(join);
        worker.welcome();
        worker
    }

    /// Joins without waiting for the welcome.
    pub fn knock(&self, join: Join) -> Worker {
        let mut connection = self.connect();
        connection.send(&FromClient::Join(join.clone())).unwrap();
        Worker { connection, join, computation: ComputationId::default(), counting: false }
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the coordinator to end", || child.try_wait().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn interrupt(&self) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), nix::sys::signal::Signal::SIGINT)
            .unwrap();
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that waits for the outcome of a command.
pub struct Asking(Connection);

impl Asking {
    pub fn outcome(&mut self) -> Outcome {
        loop {
            match self.0.recv(LIMIT, "an outcome").unwrap() {
                FromCoordinator::Outcome(outcome) => return outcome,
                FromCoordinator::Progress { .. } => {}
                other => panic!("no outcome: {other:?}"),
            }
        }
    }

    pub fn waits(&mut self) {
        match self.0.recv(SILENCE, "nothing") {
            Err(ClientError::TooLong { .. }) => {}
            other => panic!("came too early: {other:?}"),
        }
    }
}

/// A process, as far as the coordinator can see.
pub struct Worker {
    pub connection: Connection,
    pub join: Join,
    pub computation: ComputationId,
    /// Has counted its children, and does not know yet that all have.
    pub counting: bool,
}

impl Worker {
    /// Waits until all have been counted.
    fn await_the_count(&mut self) {
        match self.connection.recv(LIMIT, "the barrier Counted").unwrap() {
            FromCoordinator::Passed { barrier: Barrier::Counted, .. } => self.counting = false,
            other => panic!("not all are counted: {other:?}"),
        }
    }

    /// The next message; that all have been counted goes without saying.
    pub fn next(&mut self) -> FromCoordinator {
        loop {
            match self.connection.recv(LIMIT, "a message to a worker").unwrap() {
                FromCoordinator::Passed { barrier: Barrier::Counted, .. } => self.counting = false,
                message => return message,
            }
        }
    }

    pub fn send(&mut self, message: FromClient) {
        self.connection.send(&message).unwrap();
    }

    /// Nothing comes.
    pub fn silent(&mut self) {
        loop {
            match self.connection.recv(SILENCE, "nothing") {
                Ok(FromCoordinator::Passed { barrier: Barrier::Counted, .. }) => self.counting = false,
                Err(ClientError::TooLong { .. }) => return,
                other => panic!("{other:?} came too early"),
            }
        }
    }

    pub fn welcome(&mut self) -> u32 {
        match self.next() {
            FromCoordinator::Welcome { computation, peers, .. } => {
                self.computation = computation;
                peers
            }
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub fn checkpoint(&mut self) -> u64 {
        match self.next() {
            FromCoordinator::Checkpoint { generation } => generation,
            other => panic!("no checkpoint: {other:?}"),
        }
    }

    pub fn reach(&mut self, generation: u64, barrier: Barrier) {
        self.send(FromClient::Reached { generation, barrier });
    }

    /// A barrier is passed; at the first one the worker lacks no child.
    pub fn passed(&mut self, expected: Barrier) {
        let generation = self.passes(expected);
        if expected == Barrier::Suspended {
            self.reach(generation, Barrier::Counted);
            self.counting = true;
        }
    }

    /// A barrier is passed; the generation's number.
    pub fn passes(&mut self, expected: Barrier) -> u64 {
        match self.next() {
            FromCoordinator::Passed { generation, barrier, .. } if barrier == expected => generation,
            other => panic!("{expected:?} is not passed: {other:?}"),
        }
    }

    pub fn aborted(&mut self) -> String {
        match self.next() {
            FromCoordinator::Abort { reason, .. } => reason,
            other => panic!("no abort: {other:?}"),
        }
    }

    pub fn committed(&mut self) -> (u64, bool) {
        match self.next() {
            FromCoordinator::Committed { generation, exit } => (generation, exit),
            other => panic!("not committed: {other:?}"),
        }
    }

    pub fn killed(&mut self) {
        match self.next() {
            FromCoordinator::Kill => {}
            other => panic!("not killed: {other:?}"),
        }
    }

    /// Name of its image.
    pub fn name(&self) -> String {
        format!("ckpt_{}_{:x}.dmtcp", self.join.program, self.join.process)
    }

    pub fn public_path(&self) -> PathBuf {
        Path::new(&self.join.checkpoint_dir).join(self.name())
    }

    pub fn generation_directory(&self, generation: u64) -> PathBuf {
        manifest::generation_directory(&self.join.checkpoint_dir, self.computation, generation).into()
    }

    /// Writes an image of this content and says so.
    pub fn write(&mut self, generation: u64, content: &str) {
        if self.counting {
            self.await_the_count();
        }
        let written = self.image(generation, content);
        self.send(FromClient::Written(written));
    }

    /// Writes an image of this content.
    pub fn image(&self, generation: u64, content: &str) -> Written {
        let directory = self.generation_directory(generation);
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join(self.name());
        std::fs::write(&path, content).unwrap();
        Written {
            generation,
            path: path.to_str().unwrap().into(),
            public_path: self.public_path().to_str().unwrap().into(),
            bytes: content.len() as u64,
            background: false,
            unsupported: Vec::new(),
            stages: vec![("write".into(), 5)],
        }
    }

    /// Comes to a barrier of a plugin's: in a hook, and none runs while processes are counted.
    pub fn meet(&mut self, ticket: u32, generation: u64, name: &str, scope: Scope) {
        if self.counting {
            self.await_the_count();
        }
        self.send(FromClient::Meet { ticket, generation, name: name.into(), scope });
    }

    /// The answer to a barrier: why it failed, if it did.
    pub fn met(&mut self, expected: u32) -> Option<String> {
        match self.next() {
            FromCoordinator::Met { ticket, failure } if ticket == expected => failure,
            other => panic!("no answer to barrier {expected}: {other:?}"),
        }
    }

    pub fn share(&mut self, database: &str, key: &str, operation: Operation) -> Answer {
        work_on_name(&mut self.connection, self.computation, database, key, operation)
    }

    pub fn sync(&mut self, generation: u64) {
        self.send(FromClient::Synced { generation, stages: vec![("pause".into(), 7)] });
    }
}

/// Works on a value of a computation.
pub fn work_on_name(
    connection: &mut Connection,
    computation: ComputationId,
    database: &str,
    key: &str,
    operation: Operation,
) -> Answer {
    let (database, key) = (database.into(), key.into());
    connection.send(&FromClient::Name { ticket: 7, computation, database, key, operation }).unwrap();
    match connection.recv(LIMIT, "an answer").unwrap() {
        FromCoordinator::Named { ticket: 7, answer } => answer,
        other => panic!("no answer: {other:?}"),
    }
}

/// What a process says of itself.
pub fn join(virtual_pid: i32, checkpoint_dir: &Path) -> Join {
    Join {
        virtual_pid,
        real_pid: virtual_pid,
        program: "prog".into(),
        host: "here".into(),
        process: virtual_pid as u128 + 0x1000,
        restarted: None,
        member_of: None,
        checkpoint_dir: checkpoint_dir.to_str().unwrap().into(),
        interval: 0,
        keep: 1,
    }
}

/// Takes workers through a generation; the value is its number.
pub fn run_generation(workers: &mut [Worker], content: &str) -> u64 {
    let generation = workers.iter_mut().map(Worker::checkpoint).max().unwrap();
    for worker in workers.iter_mut() {
        worker.reach(generation, Barrier::Suspended);
    }
    for worker in workers.iter_mut() {
        worker.passed(Barrier::Suspended);
    }
    for worker in workers.iter_mut() {
        worker.write(generation, content);
    }
    for worker in workers.iter_mut() {
        worker.passed(Barrier::Written);
        worker.sync(generation);
    }
    for worker in workers.iter_mut() {
        assert_eq!(worker.committed().0, generation);
    }
    generation
}

pub const CHECKPOINT: Ask = Ask::Checkpoint { wait: true, kill: false };

/// What dmtcp_restart tells when it announces a restart.
pub fn restart_of(generation: u64, processes: u32) -> Timings {
    Timings { generation, processes, bytes: 4096, stages: vec![("check".into(), 9)], ..Timings::default() }
}

/// A failed outcome's reason.
pub fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(reason) => reason,
        other => panic!("did not fail: {other:?}"),
    }
}

pub fn assert_done(outcome: Outcome) -> Option<u64> {
    match outcome {
        Outcome::Done { generation, .. } => generation,
        other => panic!("not done: {other:?}"),
    }
}

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
