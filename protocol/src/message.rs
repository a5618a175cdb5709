//! The messages. `docs/protocol.md` shows them in order.
//!
//! A worker's life in one generation:
//!
//! ```text
//!   RUNNING --Checkpoint--> presuspend, stop --Reached(Suspended)--> (waits) --Passed(Suspended)--> look, write
//!        ^                                                                                             |
//!        |                                                                                     Written |
//!        +-- threads go on <--Passed(Written)-- (waits) <----------------------------------------------+
//!            then, with the application running: fsync, Synced; the coordinator commits, Committed
//! ```
//! `Failed` from any worker, or its death before `Written`, makes the coordinator send `Abort` to all.

use crate::auth::{Nonce, Proof};
use crate::names::{self, Operation, Scope};
use alloc::{boxed::Box, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Identity of a computation: random, given by the first coordinator, kept over restarts.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct ComputationId(pub u128);

impl core::fmt::Display for ComputationId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// First message of a client.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Hello {
    /// The client's share of the conversation's nonces.
    pub nonce: Nonce,
}

/// The coordinator's answer to [`Hello`].
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Challenge {
    /// The coordinator's share of the nonces.
    pub nonce: Nonce,
    /// Shows that the coordinator knows the key.
    pub proof: Proof,
}

/// Shows that the client knows the key.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Answer {
    /// The client's proof.
    pub proof: Proof,
}

/// The points where all processes of a computation wait for each other, in their order.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Barrier {
    /// All threads of all processes are stopped.
    Suspended,
    /// Each process has found its children among those that have stopped: nobody is missing.
    Counted,
    /// All images are written.
    Written,
    /// What was drained is back (only if anybody drained).
    Refilled,
    /// After a restart: every process is back in its memory.
    Restarted,
    /// After a restart: every process has run its hooks.
    Resumed,
}

/// What a process tells of itself when it joins.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Join {
    /// Pid as the application knows it.
    pub virtual_pid: i32,
    /// Pid as the kernel of the worker's host knows it in the worker's own namespace.
    pub real_pid: i32,
    /// Name of the program, without its directory.
    pub program: String,
    /// Host name.
    pub host: String,
    /// Random identity of the process image, kept over restarts; part of the image's file name.
    pub process: u128,
    /// Set after a restart: the computation that the process belongs to, and the generation it comes from.
    pub restarted: Option<(ComputationId, u64)>,
    /// Set when the coordinator before is gone: the computation that the process has been a member of, and the last
    /// generation that it took part in.
    pub member_of: Option<(ComputationId, u64)>,
    /// Where its images go; absolute.
    pub checkpoint_dir: String,
    /// Checkpoint interval that the launch asked for, in seconds; 0: none.
    pub interval: u32,
    /// How many complete generations the launch wants to have kept; the newest is always.
    pub keep: u32,
}

/// What a client asks after the handshake; everything that a client sends.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum FromClient {
    /// A process of a computation begins; the connection is a worker's from here on.
    Join(Join),
    /// dmtcp_restart announces what it is about to bring back; it ends the connection when its part is done.
    Restart {
        /// The computation of the images.
        computation: ComputationId,
        /// The generation of the images.
        generation: u64,
        /// How many processes come back in all.
        processes: u32,
        /// Bytes of their images.
        bytes: u64,
        /// Microseconds that dmtcp_restart has spent on each of its stages so far.
        stages: Vec<(String, u64)>,
    },
    /// The request of dmtcp_command, or of `dmtcp_checkpoint()` in an application.
    Command(Command),
    /// Worker: has come to a barrier.
    Reached {
        /// The generation under way; for the restart barriers, the one restarted from.
        generation: u64,
        /// The barrier.
        barrier: Barrier,
    },
    /// Worker: how far the image is.
    Progress {
        /// Bytes written.
        done: u64,
        /// Bytes to write.
        total: u64,
    },
    /// Worker: the image is complete in the generation's directory (stands for reaching [`Barrier::Written`]).
    Written(Written),
    /// Worker: the image has reached the disk.
    Synced {
        /// The generation.
        generation: u64,
        /// Microseconds that each stage took that came after [`Written::stages`]: resume, sync, and pause, the time for
        /// which the application stood still in all.
        stages: Vec<(String, u64)>,
    },
    /// Worker: the generation cannot be; the worker goes on as if nothing had been asked.
    Failed {
        /// The generation.
        generation: u64,
        /// One sentence: what, which object, what to do.
        reason: String,
        /// The last lines of the worker's log.
        recent: Vec<String>,
    },
    /// Worker: now that all have stopped, a child is missing that was in the middle of an exec. It has joined by now, or has
    /// ended: when it has stopped as well, all are to be counted again.
    Again {
        /// The generation.
        generation: u64,
    },
    /// Anybody: works on a value of the computation.
    Name {
        /// What the answer repeats.
        ticket: u32,
        /// The computation that is meant.
        computation: ComputationId,
        /// The database.
        database: String,
        /// The key in it.
        key: Vec<u8>,
        /// What to do.
        operation: Operation,
    },
    /// Worker: a plugin has come to a barrier of its own.
    Meet {
        /// What the answer repeats.
        ticket: u32,
        /// The generation under way; after a restart, the one restarted from.
        generation: u64,
        /// The barrier.
        name: String,
        /// Whom it is for.
        scope: Scope,
    },
}

/// A complete image.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Written {
    /// The generation.
    pub generation: u64,
    /// Where the image is: `CKPTDIR/.dmtcp-COMPUTATION/GENERATION/NAME`.
    pub path: String,
    /// The name that the user sees once the generation is committed: `CKPTDIR/NAME`.
    pub public_path: String,
    /// Bytes that the image takes on disk.
    pub bytes: u64,
    /// The image is not complete yet: a child of the worker writes it, and `Synced` says when it is.
    pub background: bool,
    /// One sentence for each resource that no plugin claims.
    pub unsupported: Vec<String>,
    /// Microseconds that each stage took: stop, look, write.
    pub stages: Vec<(String, u64)>,
}

/// Everything that a coordinator sends.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum FromCoordinator {
    /// The worker is a member; to dmtcp_restart: the restart is agreed to, the processes may join.
    Welcome {
        /// The computation.
        computation: ComputationId,
        /// How many processes it has now, the new one included; to dmtcp_restart: how many will have to join.
        peers: u32,
        /// When the computation began here, or was restarted: nanoseconds of the coordinator's clock.
        since: u64,
        /// `Checkpoint` comes next: a worker's program does not execute another one before it has been stopped.
        asks: bool,
    },
    /// The client is turned away; the connection ends.
    Refused {
        /// One sentence.
        reason: String,
    },
    /// A checkpoint begins.
    Checkpoint {
        /// Number of the generation, greater than any before in this computation.
        generation: u64,
    },
    /// All have come to the barrier.
    Passed {
        /// The generation.
        generation: u64,
        /// The barrier.
        barrier: Barrier,
        /// How many processes take part.
        processes: u32,
        /// Real pids of those on the receiver's host, ascending; the receiver's own among them.
        neighbours: Vec<i32>,
        /// Of `Suspended`: real pids on the receiver's host of processes that have left a moment ago. Some may be executing a
        /// program, without a parent in the computation that would look for them: the receiver does.
        strays: Vec<i32>,
        /// Of `Written`: all are to end with the generation. Threads stay stopped until it is decided on, so that nothing
        /// happens behind the images.
        ends: bool,
    },
    /// The generation is given up; whoever is stopped lets its threads go.
    Abort {
        /// The generation.
        generation: u64,
        /// Why.
        reason: String,
    },
    /// The generation is whole, on disk, and has its names.
    Committed {
        /// The generation.
        generation: u64,
        /// The worker is to end now (kill after checkpoint).
        exit: bool,
    },
    /// The worker is to end at once.
    Kill,
    /// Answer to [`FromClient::Command`].
    Outcome(Outcome),
    /// To a blocking checkpoint: how far things are.
    Progress {
        /// Bytes done, all processes.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// To dmtcp_restart: every process has run its hooks and goes on.
    Restarted,
    /// Answer to [`FromClient::Name`].
    Named {
        /// The request's.
        ticket: u32,
        /// What came of it.
        answer: names::Answer,
    },
    /// Answer to [`FromClient::Meet`], when all have come or it is known that they will not.
    Met {
        /// The request's.
        ticket: u32,
        /// Why they have not all come.
        failure: Option<String>,
    },
    /// The worker's process stood still (SIGSTOP) and has been continued for what it is asked. It stops itself again when
    /// that is over.
    Continued,
}

/// What dmtcp_command asks.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// How things stand.
    Status,
    /// Who is there.
    List,
    /// A checkpoint.
    Checkpoint {
        /// Answer when the generation is committed or has failed, not at once.
        wait: bool,
        /// End all processes once it is committed.
        kill: bool,
    },
    /// End all processes.
    Kill,
    /// End all processes and the coordinator.
    Quit,
    /// Checkpoint by itself every so many seconds; 0: never.
    Interval(u32),
}

/// What came of a command.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum Outcome {
    /// Done; for a blocking checkpoint, the generation that was committed.
    Done {
        /// The generation of a blocking checkpoint.
        generation: Option<u64>,
        /// What the user should know although it worked: unsupported resources.
        notes: Vec<String>,
    },
    /// Nothing to do it to: no process is there.
    NotRunning,
    /// It did not work.
    Failed(String),
    /// Answer to [`Command::Status`].
    Status(Box<Status>),
    /// Answer to [`Command::List`].
    List(Vec<Worker>),
}

/// How things stand.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Status {
    /// Host name of the coordinator.
    pub host: String,
    /// Port it listens on.
    pub port: u16,
    /// Number of processes.
    pub peers: u32,
    /// Whether all of them run (and at least one is there).
    pub running: bool,
    /// Seconds between checkpoints; 0: none by itself.
    pub interval: u32,
    /// The computation, if there is one.
    pub computation: Option<ComputationId>,
    /// Number of the last committed generation, 0: none.
    pub generation: u64,
    /// Where the restart script goes.
    pub checkpoint_dir: String,
    /// How long the last committed generation took.
    pub last: Option<Timings>,
    /// How long the restart took that the computation comes from.
    pub restart: Option<Timings>,
}

/// How long a generation or a restart took; times in microseconds.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The generation.
    pub generation: u64,
    /// How many processes it has.
    pub processes: u32,
    /// Bytes of its images on disk.
    pub bytes: u64,
    /// From the request to the commit, or from the announcement of the restart until all go on.
    pub total: u64,
    /// What the computation as a whole did, in order: suspend, capture, sync, commit; or place, rejoin, resume.
    pub phases: Vec<(String, u64)>,
    /// What each process did: the longest time that any took. stop, look, write, resume, sync, pause; or what
    /// dmtcp_restart had done before: check.
    pub stages: Vec<(String, u64)>,
}

/// A row of the list.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Worker {
    /// Its number, from 1 in the order of joining.
    pub number: u32,
    /// Name of the program.
    pub program: String,
    /// Pid as the application knows it.
    pub virtual_pid: i32,
    /// Pid as its kernel knows it.
    pub real_pid: i32,
    /// Host name.
    pub host: String,
    /// Random identity.
    pub process: u128,
    /// State in the field's words: RUNNING, SUSPENDED, CHECKPOINTED, ...
    pub state: String,
    /// The barrier that it waits at, if it does.
    pub barrier: Option<Barrier>,
}
