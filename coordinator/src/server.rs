//! The event loop: sockets, console, signals and the clock in, effects out.
//!
//! One thread, and one that removes what is old. Nothing here waits but [`Poll::poll`]; only a commit (in [`crate::commit`])
//! waits for the disk.

use crate::computation::{Asker, ClientId, Computation, Effect};
use crate::connection::{Connection, End};
use crate::console::{self, Console, Line};
use crate::journal::Journal;
use crate::metrics::MetricsFile;
use crate::removal::Remover;
use crate::standstill;
use crate::stream::Stream;
use crate::values;
use dmtcp_launcher::{local, say};
use dmtcp_protocol::auth::Key;
use dmtcp_protocol::message::{FromCoordinator, Outcome};
use mio::net::{TcpListener, UnixListener};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{Backlog, listen};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LISTENER: Token = Token(0);
const CONSOLE: Token = Token(1);
const SIGNALS: Token = Token(2);
const LOCAL: Token = Token(3);
/// Tokens from here on are connections.
const FIRST_CLIENT: usize = 16;
/// Strangers at the door at the same time; one more and the oldest has to leave.
const MOST_STRANGERS: usize = 128;
/// How often a listener is tried again that could not accept, and a console that was in the background.
const RETRY: Duration = Duration::from_millis(200);
/// How long sending the last messages may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// When to end without being told.
pub struct Options {
    /// After this time in any case.
    pub timeout: Option<Duration>,
    /// After this time without any client.
    pub stale: Option<Duration>,
    /// After this time if no process has ever joined.
    pub unused: Option<Duration>,
    /// So long after the first client has left, if no process has ever joined: the one that was to is gone.
    pub forsaken: Option<Duration>,
    /// Whether somebody may type on stdin.
    pub console: bool,
    /// File for a monitor.
    pub metrics_file: Option<PathBuf>,
}

/// The coordinator's outside.
pub struct Server {
    poll: Poll,
    /// The name of the unix socket; before `listener`, for it has to go first.
    _local: Option<local::Listener>,
    local: Option<UnixListener>,
    listener: TcpListener,
    key: Key,
    computation: Computation,
    journal: Journal,
    options: Options,
    signals: SignalFd,
    console: Option<Console>,
    /// A regular file as stdin cannot be polled, and never has to be waited for.
    console_polled: bool,
    connections: BTreeMap<ClientId, Connection>,
    /// Those without a handshake, the oldest first: only they have to be looked at when time passes.
    strangers: BTreeSet<ClientId>,
    /// Connections that have more to read than one turn takes.
    ready: Vec<ClientId>,
    next_client: usize,
    /// Set while descriptors are short: connections wait to be accepted.
    accept_again: Option<Instant>,
    started: Instant,
    /// Since when nobody is connected.
    lonely: Option<Instant>,
    used: bool,
    /// When the first clients had all left.
    left: Option<Instant>,
    exit: Option<i32>,
    metrics: Option<MetricsFile>,
    remover: Remover,
    /// When the metrics have to be written that were too soon.
    metrics_due: Option<Instant>,
}

impl Server {
    /// A server on sockets that listen.
    pub fn new(
        listener: std::net::TcpListener,
        local: Option<local::Listener>,
        key: Key,
        computation: Computation,
        journal: Journal,
        options: Options,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        listener.set_nonblocking(true)?;
        listen(&listener, Backlog::MAXALLOWABLE)?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let unix = match &local {
            Some(local) => {
                let socket = local.socket().try_clone()?;
                socket.set_nonblocking(true)?;
                listen(&socket, Backlog::MAXALLOWABLE)?;
                let mut socket = UnixListener::from_std(socket);
                poll.registry().register(&mut socket, LOCAL, Interest::READABLE)?;
                Some(socket)
            }
            None => None,
        };
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&signals.as_fd().as_raw_fd()), SIGNALS, Interest::READABLE)?;
        let console = if options.console { Console::open() } else { None };
        let console_polled = console.is_some()
            && poll.registry().register(&mut SourceFd(&io::stdin().as_raw_fd()), CONSOLE, Interest::READABLE).is_ok();
        let now = Instant::now();
        let metrics = options.metrics_file.clone().map(MetricsFile::new);
        Ok(Self {
            poll,
            _local: local,
            local: unix,
            listener,
            key,
            computation,
            journal,
            options,
            signals,
            console,
            console_polled,
            connections: BTreeMap::new(),
            strangers: BTreeSet::new(),
            ready: Vec::new(),
            next_client: FIRST_CLIENT,
            accept_again: None,
            started: now,
            lonely: Some(now),
            used: false,
            left: None,
            exit: None,
            metrics,
            remover: Remover::default(),
            metrics_due: None,
        })
    }

    /// Serves until the end; the value is the exit code.
    pub fn serve(&mut self) -> io::Result<i32> {
        let mut events = Events::with_capacity(256);
        if let Some(console) = &self.console {
            console.show_prompt();
        }
        loop {
            let wait = self.wait(Instant::now());
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            for client in std::mem::take(&mut self.ready) {
                self.receive(client, now);
            }
            for event in &events {
                match event.token() {
                    LISTENER | LOCAL => self.accept(now),
                    CONSOLE => self.read_console(now),
                    SIGNALS => self.read_signals(now),
                    Token(number) => {
                        let client = ClientId(number);
                        if event.is_writable() {
                            self.flush(client, now);
                        }
                        self.receive(client, now);
                    }
                }
            }
            if !self.console_polled {
                self.read_console(now);
            }
            self.keep_time(now);
            self.carry_out(now);
            if let Some(metrics) = &mut self.metrics {
                let (status, counts) = (self.computation.status(), self.computation.counts());
                self.metrics_due = metrics.update(&status, counts, self.journal, now);
            }
            if let Some(code) = self.exit {
                self.say_last_words();
                return Ok(code);
            }
        }
    }

    /// How long nothing has to be done.
    fn wait(&self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() || (self.console.is_some() && !self.console_polled) {
            return Some(Duration::ZERO);
        }
        let handshakes = self.oldest_stranger().map(|(_, deadline)| deadline);
        let ends = [
            self.options.timeout.map(|limit| self.started + limit),
            self.options.stale.and_then(|limit| Some(self.lonely? + limit)),
            self.options.unused.filter(|_| !self.used).map(|limit| self.started + limit),
            self.options.forsaken.filter(|_| self.is_idle()).and_then(|limit| Some(self.left? + limit)),
        ];
        let others = [handshakes, self.computation.next_deadline(), self.accept_again, self.metrics_due];
        let next = ends.into_iter().chain(others).flatten().min()?;
        // Never early: the deadline must have passed when we wake, or we would spin.
        Some(next.saturating_duration_since(now) + Duration::from_millis(1))
    }

    /// Whether nobody has ever joined, and nobody is here who could.
    fn is_idle(&self) -> bool {
        !self.used && self.lonely.is_some()
    }

    /// The connection that has been without a handshake for the longest time, and when that must be over.
    fn oldest_stranger(&self) -> Option<(ClientId, Instant)> {
        let client = *self.strangers.first()?;
        Some((client, self.connections.get(&client)?.deadline()?))
    }

    fn keep_time(&mut self, now: Instant) {
        if self.accept_again.is_some_and(|due| now >= due) {
            self.accept(now);
        }
        while let Some((client, _)) = self.oldest_stranger().filter(|(_, deadline)| now >= *deadline) {
            self.end(client, &End::Slow, now);
        }
        self.computation.tick(now);
        self.used |= !self.computation.is_idle();
        if self.connections.is_empty() {
            if self.lonely.is_none() {
                self.left.get_or_insert(now);
            }
            self.lonely.get_or_insert(now);
        } else {
            self.lonely = None;
        }
        let passed =
            |since: Instant, limit: Option<Duration>| limit.is_some_and(|limit| now.duration_since(since) >= limit);
        if passed(self.started, self.options.timeout) {
            self.options.timeout = None;
            self.journal.warn("time_up", Value::Null, "the time is up");
            self.computation.end(1, now);
        } else if self.lonely.is_some_and(|since| passed(since, self.options.stale)) {
            self.journal.warn("stale", Value::Null, "nobody has been here for too long");
            self.exit = Some(1);
        } else if self.is_idle() && self.left.is_some_and(|since| passed(since, self.options.forsaken)) {
            self.journal.warn("unused", Value::Null, "the process that was to join has ended before");
            self.exit = Some(1);
        } else if !self.used && passed(self.started, self.options.unused) {
            self.journal.warn("unused", Value::Null, "no process has ever joined");
            self.exit = Some(1);
        }
    }

    fn accept(&mut self, now: Instant) {
        self.accept_again = None;
        loop {
            let mut stream = match self.next_stranger() {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The one that came has left again.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                    continue;
                }
                Err(error) => {
                    self.tell_of_connection("accept", &error);
                    self.accept_again = Some(now + RETRY);
                    return;
                }
            };
            let client = ClientId(self.next_client);
            self.next_client += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            let prepared =
                stream.prepare().and_then(|()| self.poll.registry().register(&mut stream, Token(client.0), interest));
            if let Err(error) = prepared {
                self.tell_of_connection("serve", &error);
                continue;
            }
            self.connections.insert(client, Connection::new(stream, now));
            self.strangers.insert(client);
            if self.strangers.len() > MOST_STRANGERS {
                self.make_room(now);
            }
        }
    }

    fn tell_of_connection(&self, what: &str, error: &io::Error) {
        let fields = json!({"reason": error.to_string()});
        self.journal.warn("accept_failed", fields, format_args!("cannot {what} a connection: {error}"));
    }

    /// Has the oldest stranger leave. Many of them may have left long ago, or have said who they are, while this process had
    /// no time to listen: they are heard first.
    fn make_room(&mut self, now: Instant) {
        self.strangers.clone().into_iter().for_each(|client| self.receive(client, now));
        if let Some((oldest, _)) = self.oldest_stranger().filter(|_| self.strangers.len() > MOST_STRANGERS) {
            self.end(oldest, &End::Crowded, now);
        }
    }

    /// Accepts a connection from either socket that listens.
    fn next_stranger(&self) -> io::Result<Stream> {
        match self.listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map(|(stream, _)| Stream::Tcp(stream)),
        }
        let local = self.local.as_ref().ok_or(io::ErrorKind::WouldBlock)?;
        local.accept().map(|(stream, _)| Stream::Local(stream))
    }

    fn receive(&mut self, client: ClientId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&client) else { return };
        let turn = connection.receive(&self.key);
        if connection.deadline().is_none() {
            self.strangers.remove(&client);
        }
        if turn.more {
            self.ready.push(client);
        }
        for message in turn.messages {
            self.computation.receive(client, message, now);
        }
        if let Some(end) = turn.end {
            self.end(client, &end, now);
        }
        self.carry_out(now);
    }

    fn flush(&mut self, client: ClientId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&client) else { return };
        match connection.flush() {
            Ok(true) => self.end(client, &End::Closed, now),
            Ok(false) => {}
            Err(end) => self.end(client, &end, now),
        }
    }

    /// A connection is over.
    fn end(&mut self, client: ClientId, end: &End, now: Instant) {
        self.strangers.remove(&client);
        let Some(mut connection) = self.connections.remove(&client) else { return };
        // A process that ends, or executes a program, before it has joined leaves the challenge unread.
        let is_usual = match end {
            End::Closed => true,
            End::Broken(error) => error.kind() == io::ErrorKind::ConnectionReset && connection.deadline().is_some(),
            _ => false,
        };
        if !is_usual {
            let reason = end.to_string();
            self.journal.warn(
                "connection_ended",
                json!({"reason": reason}),
                format_args!("a connection was ended: {end}"),
            );
        }
        // Closing the socket takes it out of the poll, whatever this says.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        self.computation.gone(client, now);
    }

    fn carry_out(&mut self, now: Instant) {
        loop {
            let effects = self.computation.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Send(client, message) => {
                        let sent = self.connections.get_mut(&client).map(|connection| connection.send(&message));
                        if let Some(Err(end)) = sent {
                            self.end(client, &end, now);
                        }
                    }
                    Effect::Close(client) => {
                        if let Some(connection) = self.connections.get_mut(&client) {
                            connection.close_when_sent();
                        }
                        self.flush(client, now);
                    }
                    Effect::Tell(outcome) => {
                        console::tell(&outcome);
                        if let Outcome::Status(status) = &outcome {
                            say::out(self.computation.settings_text(status));
                        }
                    }
                    Effect::Awaken { clients, unless_others_run } => {
                        let standing = self.standing_still(&clients);
                        if !unless_others_run || standing.len() == clients.len() {
                            self.awaken(&standing, now);
                        }
                    }
                    Effect::LookForStopped(clients) => {
                        let standing = self.standing_still(&clients);
                        self.computation.stand_still(standing.into_iter().map(|(client, _)| client), now);
                    }
                    Effect::Values(path, content) => {
                        if let Err(error) = values::write(&path, &content) {
                            let fields = json!({"path": path.display().to_string(), "reason": error.to_string()});
                            let message = format!("cannot write the values to {}: {error}", path.display());
                            self.journal.warn("values_failed", fields, message);
                        }
                    }
                    Effect::Remove(directories) => self.remover.remove(directories),
                    Effect::Exit(code) => self.exit = Some(code),
                }
            }
        }
    }

    /// Those of these clients that stand still, and their pids.
    fn standing_still(&self, clients: &[ClientId]) -> Vec<(ClientId, Pid)> {
        standstill::among(clients.iter().filter_map(|client| Some((*client, &self.connections.get(client)?.stream))))
    }

    /// Continues these clients, and tells them.
    fn awaken(&mut self, standing: &[(ClientId, Pid)], now: Instant) {
        for (client, pid) in standing {
            let Some(connection) = self.connections.get_mut(client) else { continue };
            let message = format!("process {pid} stands still (SIGSTOP): it is continued for what is asked");
            self.journal.note("continued", json!({"pid": pid.as_raw()}), message);
            match connection.send(&FromCoordinator::Continued) {
                Err(end) => self.end(*client, &end, now),
                Ok(()) => {
                    self.computation.continued(*client);
                    // It may have been continued or killed meanwhile, which is as good.
                    let _ = kill(*pid, Signal::SIGCONT);
                }
            }
        }
    }

    fn read_console(&mut self, now: Instant) {
        let Some(console) = &mut self.console else { return };
        let (lines, open) = console.read();
        for line in &lines {
            match line {
                Line::Command(command) => self.computation.command(Asker::Console, *command, now),
                Line::Hosts => console::tell_hosts(&self.computation.rows()),
                Line::Help => say::out(console::HELP),
                Line::Unknown(text) => say::out(format_args!("unknown command '{text}'; h lists the commands")),
                Line::Empty => {}
            }
            // Answers come in the order of the lines.
            self.carry_out(now);
        }
        if let (Some(console), false) = (&self.console, lines.is_empty()) {
            console.show_prompt();
        }
        if !open {
            // The end of stdin is no reason to end: somebody may have closed a terminal.
            let _ = self.poll.registry().deregister(&mut SourceFd(&io::stdin().as_raw_fd()));
            self.console = None;
        }
    }

    fn read_signals(&mut self, now: Instant) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = signal.ssi_signo;
            self.journal.note("signal", json!({"signal": number}), format_args!("ended by signal {number}"));
            self.computation.end(0, now);
        }
    }

    /// Sends what is still to be sent, for a limited time.
    fn say_last_words(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut events = Events::with_capacity(64);
        while Instant::now() < deadline {
            self.connections.retain(|_, connection| {
                connection.close_when_sent();
                matches!(connection.flush(), Ok(false))
            });
            if self.connections.is_empty() || self.poll.poll(&mut events, Some(RETRY)).is_err() {
                return;
            }
        }
    }
}
