//! The computation: who belongs to it, what it is doing, and what each message does to that.
//!
//! Pure state: no sockets and no clock of its own. The server hands in what happened and when; what is to be sent comes
//! out as [`Effect`]s. Only claiming and committing a generation touch the file system (see [`crate::commit`]).
//!
//! ```text
//!              Checkpoint, interval                      Restart
//!   Running ------------------------> Generation    Running ------> Restart
//!      ^   committed, failed              |             ^  all resumed  |
//!      +----------------------------------+             +---------------+
//!      ^                                  | kill after it               | failed
//!      |   all gone, or too late          v                             v
//!      +------------------------------ Ending <--------- Kill, Quit ----+
//! ```

mod commands;
mod generation;
mod meeting;
mod members;
mod restart;
mod settings;
mod standstill;
mod timing;

pub use settings::{Limits, Settings};

use crate::journal::Journal;
use crate::metrics::Counts;
use crate::values;
use dmtcp_protocol::message::{Barrier, ComputationId, FromClient, FromCoordinator, Join, Outcome, Timings};
use dmtcp_protocol::names::Names;
use generation::Generation;
use meeting::Meetings;
use restart::Restart;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// How long an exit on the last process waits for another: a process that execs leaves and comes back.
const LINGER: Duration = Duration::from_secs(1);
/// How long it is remembered who left.
const DEPARTED: Duration = Duration::from_secs(5);
/// How many of those who left are remembered.
const DEPARTED_MOST: usize = 2048;

/// One connection, as the server numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub usize);

/// Who waits for an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// A program that connected.
    Client(ClientId),
    /// The person at the console.
    Console,
}

/// What the server is to do.
#[derive(Debug)]
pub enum Effect {
    /// Send a message.
    Send(ClientId, FromCoordinator),
    /// End a connection once everything has been sent.
    Close(ClientId),
    /// Tell the person at the console.
    Tell(Outcome),
    /// Continue those of these processes that stand still (SIGSTOP): they are waited for.
    Awaken {
        /// The processes.
        clients: Vec<ClientId>,
        /// Only if all of them stand still.
        unless_others_run: bool,
    },
    /// Find those of these processes that stand still, for [`Computation::stand_still`].
    LookForStopped(Vec<ClientId>),
    /// Write what processes have shared to a file.
    Values(PathBuf, Value),
    /// Remove directories that no longer count; nobody waits for that.
    Remove(Vec<PathBuf>),
    /// End the coordinator.
    Exit(i32),
}

/// A process of the computation.
struct Worker {
    number: u32,
    join: Join,
    /// It stood still (SIGSTOP), was continued, and has not yet stopped its threads.
    continued: bool,
}

impl Worker {
    /// How messages name it.
    fn describe(&self) -> String {
        format!("{}[{}]@{}", self.join.program, self.join.virtual_pid, self.join.host)
    }

    /// The same for a program.
    fn fields(&self) -> Value {
        let Join { program, virtual_pid, real_pid, host, process, .. } = &self.join;
        json!({"program": program, "pid": virtual_pid, "real_pid": real_pid, "host": host, "process": format!("{process:032x}")})
    }
}

/// What is under way.
enum Activity {
    Running,
    Generation(Box<Generation>),
    Restart(Restart),
    Ending(Ending),
}

/// Processes have been told to end.
struct Ending {
    askers: Vec<Asker>,
    outcome: Outcome,
    deadline: Instant,
    exit: Option<i32>,
}

/// Somebody who left: a process that execs comes back under the same identity.
struct Departed {
    at: Instant,
    process: u128,
    virtual_pid: i32,
    real_pid: i32,
    host: String,
    /// It is to stand still again (SIGSTOP).
    continued: bool,
}

/// A checkpoint that was asked for.
#[derive(Default)]
struct Request {
    waiting: Vec<Asker>,
    kill: bool,
}

/// The state of the one computation that a coordinator serves.
pub struct Computation {
    settings: Settings,
    journal: Journal,
    id: Option<ComputationId>,
    /// When it began here, or was restarted: nanoseconds since 1970.
    since: u64,
    /// Values that its processes share.
    names: Names,
    meetings: Meetings,
    /// Greatest generation number that was used.
    last_generation: u64,
    /// Last generation that was committed.
    committed: u64,
    workers: BTreeMap<ClientId, Worker>,
    /// Joined while the others were stopped; they get their welcome afterwards.
    held: VecDeque<(ClientId, Join)>,
    departed: VecDeque<Departed>,
    activity: Activity,
    /// Asked for while another generation was too far on to be joined, or while the only process executes a program.
    queued: Option<Request>,
    /// How long what is queued waits for that process.
    awaited: Option<Instant>,
    next_number: u32,
    interval: u32,
    /// The interval that the last launch with one asked for: its children repeat it.
    asked_interval: u32,
    next_checkpoint: Option<Instant>,
    last_timings: Option<Timings>,
    /// How long the restart took that the computation comes from.
    restart_timings: Option<Timings>,
    counts: Counts,
    linger: Option<Instant>,
    /// When it is looked whether somebody who is waited for stands still.
    look: Option<Instant>,
    effects: Vec<Effect>,
}

impl Computation {
    /// A coordinator's state before anybody has come.
    pub fn new(settings: Settings, journal: Journal) -> Self {
        Self {
            interval: settings.interval,
            settings,
            journal,
            id: None,
            since: 0,
            names: Names::new(),
            meetings: Meetings::default(),
            last_generation: 0,
            committed: 0,
            workers: BTreeMap::new(),
            held: VecDeque::new(),
            departed: VecDeque::new(),
            activity: Activity::Running,
            queued: None,
            awaited: None,
            next_number: 1,
            asked_interval: 0,
            next_checkpoint: None,
            last_timings: None,
            restart_timings: None,
            counts: Counts::default(),
            linger: None,
            look: None,
            effects: Vec::new(),
        }
    }

    /// What the server is to do by now.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Whether no process is there and none is expected.
    pub fn is_idle(&self) -> bool {
        self.workers.is_empty() && matches!(self.activity, Activity::Running)
    }

    /// A client that has proved the key sent a message.
    pub fn receive(&mut self, client: ClientId, message: FromClient, now: Instant) {
        match message {
            FromClient::Join(join) => self.join(client, join, now),
            FromClient::Restart { computation, generation, processes, bytes, stages } => {
                let timings = Timings { generation, processes, bytes, stages, ..Timings::default() };
                self.announce_restart(client, computation, timings, now);
            }
            FromClient::Command(command) => self.command(Asker::Client(client), command, now),
            FromClient::Name { ticket, computation, database, key, operation } => {
                self.work_on_name(client, ticket, computation, &database, &key, &operation);
            }
            _ if !self.workers.contains_key(&client) => self.refuse(client, "only a process that joined may send that"),
            FromClient::Reached { generation, barrier } => match barrier {
                Barrier::Suspended => self.suspended(client, generation, now),
                Barrier::Restarted | Barrier::Resumed => self.reached_in_restart(client, generation, barrier, now),
                Barrier::Counted => self.counted(client, generation, true, now),
                // Images are announced by `Written`; nobody drains yet.
                Barrier::Written | Barrier::Refilled => self.refuse(client, "that barrier is not reached this way"),
            },
            FromClient::Progress { done, total } => self.progress(client, done, total, now),
            FromClient::Written(written) => self.written(client, written, now),
            FromClient::Synced { generation, stages } => self.synced(client, generation, stages, now),
            FromClient::Failed { generation, reason, recent } => {
                self.failed(client, generation, &reason, &recent, now);
            }
            FromClient::Again { generation } => self.counted(client, generation, false, now),
            FromClient::Meet { ticket, generation, name, scope } => {
                self.meet(client, ticket, generation, name, scope, now);
            }
        }
    }

    /// A connection has ended.
    pub fn gone(&mut self, client: ClientId, now: Instant) {
        self.held.retain(|(held, _)| *held != client);
        self.forget_asker(client);
        let Some(worker) = self.workers.remove(&client) else { return };
        self.journal.note("left", worker.fields(), format_args!("{} left", worker.describe()));
        self.departed.push_back(Departed {
            at: now,
            process: worker.join.process,
            virtual_pid: worker.join.virtual_pid,
            real_pid: worker.join.real_pid,
            host: worker.join.host.clone(),
            continued: worker.continued,
        });
        if self.departed.len() > DEPARTED_MOST {
            self.departed.pop_front();
        }
        match self.activity {
            Activity::Generation(_) => self.left_generation(client, &worker, now),
            Activity::Restart(_) => self.left_restart(&worker, now),
            Activity::Running | Activity::Ending(_) => {}
        }
        self.check_meetings(now);
        if self.workers.is_empty() {
            self.last_left(now);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        // First: it says more than that a process has not stopped.
        self.check_meeting_limit(now);
        match &self.activity {
            Activity::Running => {}
            Activity::Generation(_) => self.check_generation_limit(now),
            Activity::Restart(_) => self.check_restart_limit(now),
            Activity::Ending(ending) => {
                if now >= ending.deadline {
                    self.finish_ending(now);
                }
            }
        }
        if self.look.is_some_and(|due| now >= due) {
            self.look_for_the_stopped(now);
        }
        if self.next_checkpoint.is_some_and(|due| now >= due) {
            self.schedule(now);
            if matches!(self.activity, Activity::Running) && !self.workers.is_empty() {
                self.begin_generation(Request::default(), now);
            }
        }
        if self.awaited.is_some_and(|due| now >= due) {
            self.end_waiting();
        }
        if self.linger.is_some_and(|due| now >= due) {
            self.linger = None;
            if self.is_idle() {
                self.journal.note("last_left", Value::Null, "the last process has left");
                self.effects.push(Effect::Exit(0));
            }
        }
    }

    /// When [`Self::tick`] has something to do at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let activity = match &self.activity {
            Activity::Running => None,
            Activity::Generation(generation) => Some(generation.deadline(&self.settings.limits)),
            Activity::Restart(restart) => Some(restart.deadline(&self.settings.limits)),
            Activity::Ending(ending) => Some(ending.deadline),
        };
        let others = [self.meeting_deadline(), self.next_checkpoint, self.linger, self.look, self.awaited];
        others.into_iter().chain([activity]).flatten().min()
    }

    /// What has happened so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Ends all processes, then the coordinator.
    pub fn end(&mut self, code: i32, now: Instant) {
        self.kill(None, Some(code), now);
    }

    /// A computation begins, or comes back: what its processes said to each other before is not known.
    fn begin_anew(&mut self) {
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.since = clock.as_nanos().try_into().unwrap_or(u64::MAX);
        self.names = Names::new();
    }

    fn last_left(&mut self, now: Instant) {
        if let (true, Some(id)) = (self.settings.write_values && self.names.databases().next().is_some(), self.id) {
            let (name, content) = values::file(id, self.since / 1_000_000_000, &self.names);
            self.effects.push(Effect::Values(self.settings.checkpoint_dir.join(name), content));
        }
        if matches!(self.activity, Activity::Ending(_)) {
            return self.finish_ending(now);
        }
        self.next_checkpoint = None;
        if self.settings.exit_on_last {
            self.linger = Some(now + LINGER);
        }
    }

    /// Sets the time of the next checkpoint that nobody asks for.
    fn schedule(&mut self, now: Instant) {
        self.next_checkpoint = (self.interval > 0).then(|| now + Duration::from_secs(u64::from(self.interval)));
    }

    /// What was under way is over: those who waited for that get their turn.
    fn run_on(&mut self, now: Instant) {
        self.activity = Activity::Running;
        self.all_stop_by_themselves();
        self.welcome_held(now);
        self.schedule(now);
        if let Some(request) = self.queued.take() {
            self.begin_generation(request, now);
        }
    }

    fn send(&mut self, client: ClientId, message: FromCoordinator) {
        self.effects.push(Effect::Send(client, message));
    }

    /// Real pids of the processes on each host, ascending.
    fn neighbours(&self) -> BTreeMap<String, Vec<i32>> {
        let mut pids: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for worker in self.workers.values() {
            pids.entry(worker.join.host.clone()).or_default().push(worker.join.real_pid);
        }
        pids.values_mut().for_each(|pids| pids.sort_unstable());
        pids
    }

    fn send_to_workers(&mut self, message: &FromCoordinator) {
        self.effects.extend(self.workers.keys().map(|client| Effect::Send(*client, message.clone())));
    }

    fn refuse(&mut self, client: ClientId, reason: &str) {
        self.counts.refused += 1;
        self.journal.warn("refused", json!({"reason": reason}), format_args!("a client was refused: {reason}"));
        self.send(client, FromCoordinator::Refused { reason: reason.into() });
        self.effects.push(Effect::Close(client));
    }

    fn answer(&mut self, asker: Asker, outcome: Outcome) {
        self.effects.push(match asker {
            Asker::Client(client) => Effect::Send(client, FromCoordinator::Outcome(outcome)),
            Asker::Console => Effect::Tell(outcome),
        });
    }

    fn answer_all(&mut self, askers: Vec<Asker>, outcome: &Outcome) {
        for asker in askers {
            self.answer(asker, outcome.clone());
        }
    }

    fn forget_asker(&mut self, client: ClientId) {
        let stays = |asker: &Asker| *asker != Asker::Client(client);
        match &mut self.activity {
            Activity::Running => {}
            Activity::Generation(generation) => generation.request.waiting.retain(stays),
            Activity::Restart(restart) => restart.restarter_left(client),
            Activity::Ending(ending) => ending.askers.retain(stays),
        }
        if let Some(request) = &mut self.queued {
            request.waiting.retain(stays);
        }
    }
}
