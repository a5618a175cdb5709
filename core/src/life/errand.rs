//! Errands: what hooks and the program ask of the other processes, through the coordinator: names and barriers.
//!
//! ```text
//!   hooks on the checkpoint thread    its own connection, lent to them by Worker::event
//!   hooks of C plugins                a note to the checkpoint thread, which waits for them (interface::hooks)
//!   threads of the program            a connection of their own (interface::application)
//! ```
//! Whatever else comes while an answer is waited for is deferred, not lost: an abort, the next checkpoint. A process without
//! a coordinator has a store of its own and nobody to meet.

use super::link::Silence;
use super::worker::Worker;
use super::{alone, exit};
use dmtcp_plugin_api::{arena, sys};
use dmtcp_protocol::message::{FromClient, FromCoordinator};
use dmtcp_protocol::names::{Answer, Names, Operation, Scope};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// How long the coordinator may take to answer, in milliseconds; it names who does not come to a barrier long before.
pub const LIMIT: i32 = 600_000;

/// What is asked.
#[derive(Debug)]
pub enum Errand {
    /// Work on a value.
    Name {
        /// The database.
        database: String,
        /// The key in it.
        key: Vec<u8>,
        /// What to do.
        operation: Operation,
    },
    /// Wait for the other processes.
    Meet {
        /// The barrier.
        name: String,
        /// Whom it is for.
        scope: Scope,
    },
}

/// What came of it: an answer about a value, or `None` from a barrier where all have met. The error is one sentence.
pub type Reply = Result<Option<Answer>, String>;

/// The worker while hooks run on its thread; null otherwise.
static LENT: AtomicPtr<Worker> = AtomicPtr::new(std::ptr::null_mut());

/// Lets what runs meanwhile on this thread have errands.
pub fn lend<R>(worker: &mut Worker, run: impl FnOnce() -> R) -> R {
    LENT.store(worker, Ordering::Release);
    let result = run();
    LENT.store(std::ptr::null_mut(), Ordering::Release);
    result
}

/// Checkpoint thread: does an errand.
pub fn run(errand: Errand) -> Reply {
    if !arena::on_checkpoint_stack() {
        return Err("only the checkpoint thread can do that".into());
    }
    let lent = LENT.swap(std::ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: `lend` has given its exclusive reference away until it returns, on this thread; taking the pointer out keeps
    // a second user away.
    let Some(worker) = (unsafe { lent.as_mut() }) else {
        return Err("the process is not a member of a computation yet".into());
    };
    let reply = worker.run_errand(errand);
    LENT.store(lent, Ordering::Release);
    reply
}

impl Worker {
    fn run_errand(&mut self, errand: Errand) -> Reply {
        if let (Errand::Meet { name, .. }, 0) = (&errand, self.underway) {
            return Err(not_now(name));
        }
        let errand = match alone::is_alone() {
            true => return Ok(run_alone(errand)),
            false => errand,
        };
        self.ticket = self.ticket.wrapping_add(1);
        let (ticket, computation) = (self.ticket, self.computation);
        self.send(&match errand {
            Errand::Name { database, key, operation } => {
                FromClient::Name { ticket, computation, database, key, operation }
            }
            Errand::Meet { name, scope } => FromClient::Meet { ticket, generation: self.underway, name, scope },
        });
        loop {
            let Some(link) = &mut self.link else { return Err("the coordinator is gone".into()) };
            match link.receive(LIMIT) {
                Ok(FromCoordinator::Named { ticket: t, answer }) if t == ticket => return Ok(Some(answer)),
                Ok(FromCoordinator::Met { ticket: t, failure }) if t == ticket => return failure.map_or(Ok(None), Err),
                Ok(FromCoordinator::Kill) => exit(0),
                Ok(other) => self.deferred.push_back(other),
                Err(Silence::Gone) => self.link = None,
                Err(Silence::TimeOut) => {
                    return Err(format!("the coordinator did not answer within {} s", LIMIT / 1000));
                }
            }
        }
    }
}

/// A barrier outside of hooks.
pub fn not_now(name: &str) -> String {
    format!(
        "barrier '{name}' is in no checkpoint or restart: processes wait for each other in hooks from PRESUSPEND to RUNNING"
    )
}

/// The store of a process that has no coordinator.
struct Own {
    locked: AtomicBool,
    names: UnsafeCell<Names>,
}

// SAFETY: the store is touched by whoever holds the lock.
unsafe impl Sync for Own {}

static OWN: Own = Own { locked: AtomicBool::new(false), names: UnsafeCell::new(Names::new()) };

/// Does an errand of a process without a coordinator. On a thread of the program with checkpoints held off and signals
/// blocked: nobody is stopped with the lock in his hands.
pub fn run_alone(errand: Errand) -> Option<Answer> {
    let Errand::Name { database, key, operation } = errand else { return None };
    while OWN.locked.swap(true, Ordering::Acquire) {
        sys::yield_cpu();
    }
    // SAFETY: the lock is ours.
    let answer = unsafe { &mut *OWN.names.get() }.carry_out(&database, &key, &operation);
    OWN.locked.store(false, Ordering::Release);
    Some(answer)
}

/// In a fork's child: it is a computation of its own. What another thread was in the middle of stays as it is.
pub fn after_fork() {
    // SAFETY: the child has one thread. The old store is not dropped: it may be half changed.
    unsafe { OWN.names.get().write(Names::new()) };
    OWN.locked.store(false, Ordering::Release);
    LENT.store(std::ptr::null_mut(), Ordering::Release);
}
