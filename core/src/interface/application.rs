//! A checkpoint that the program itself asks for, and how things stand.
//!
//! Questions go to the coordinator over a connection of their own, made and closed by the calling thread with all signals
//! blocked and checkpoints held off: no handler can jump out of it, no checkpoint can find its descriptor.

use super::news::{self, Snapshot};
use super::{NOT_PRESENT, PRESENT, hold};
use crate::life::errand::{self, Errand, Reply};
use crate::life::{self, alone, link::Link};
use crate::{log, signal};
use dmtcp_plugin_api::sys;
use dmtcp_protocol::message::{Command, FromClient, FromCoordinator, Outcome};
use std::ffi::c_int;

/// How long the coordinator may take to answer, in milliseconds.
const ANSWER_LIMIT: i32 = 10_000;
/// Between two tries to have a request accepted, in nanoseconds.
const RETRY: u64 = 100_000_000;
const AFTER_CHECKPOINT: c_int = 1;
const AFTER_RESTART: c_int = 2;
const FAILED: c_int = -1;

/// Asks the coordinator something; `None`: it cannot be reached or does not answer.
fn ask(command: Command) -> Option<Outcome> {
    let standing = news::standing()?;
    if alone::is_alone() {
        return match command {
            Command::Checkpoint { .. } => {
                alone::ask();
                Some(Outcome::Done { generation: None, notes: Vec::new() })
            }
            _ => None,
        };
    }
    converse(standing, &FromClient::Command(command), |message| match message {
        FromCoordinator::Outcome(outcome) => Some(outcome),
        _ => None,
    })
}

/// Does an errand of a thread of the program.
pub fn run_errand(errand: Errand) -> Reply {
    let (database, key, operation) = match errand {
        Errand::Meet { name, .. } => return Err(errand::not_now(&name)),
        Errand::Name { database, key, operation } => (database, key, operation),
    };
    let Some(standing) = news::standing() else { return Err("the process is not a member of a computation".into()) };
    if alone::is_alone() {
        return Ok(undisturbed(|| errand::run_alone(Errand::Name { database, key, operation })));
    }
    let request = FromClient::Name { ticket: 0, computation: standing.computation, database, key, operation };
    let answer = converse(standing, &request, |message| match message {
        FromCoordinator::Named { answer, .. } => Some(answer),
        _ => None,
    });
    answer.map(Some).ok_or_else(|| "the coordinator cannot be reached, or does not answer".into())
}

/// Runs something that no checkpoint cuts and no handler of the program's leaves.
pub fn undisturbed<R>(run: impl FnOnce() -> R) -> R {
    hold::hold();
    let mask = signal::set_mask(life::CHECKPOINT_THREAD_MASK);
    let result = run();
    signal::set_mask(mask);
    hold::release();
    result
}

/// Says one thing to the coordinator and waits for the message that answers it.
fn converse<R>(
    standing: &news::Standing,
    message: &FromClient,
    answer: impl Fn(FromCoordinator) -> Option<R>,
) -> Option<R> {
    undisturbed(|| {
        let mut link = Link::open(&standing.host, standing.port, &standing.socket, &standing.key).ok()?;
        link.send(message).ok()?;
        loop {
            match link.receive(ANSWER_LIMIT) {
                Ok(FromCoordinator::Refused { .. }) | Err(_) => return None,
                Ok(message) => {
                    if let Some(answer) = answer(message) {
                        return Some(answer);
                    }
                }
            }
        }
    })
}

/// What has become of a checkpoint that was asked for when things stood like this.
enum Fate {
    Known(c_int),
    Waiting,
    /// The coordinator that had accepted it is gone.
    Lost,
}

fn fate(asked: &Snapshot, now: &Snapshot) -> Fate {
    if now.restarts != asked.restarts {
        Fate::Known(AFTER_RESTART)
    } else if now.committed > asked.captured {
        Fate::Known(AFTER_CHECKPOINT)
    } else if now.aborted > asked.captured {
        Fate::Known(FAILED)
    } else if now.joins != asked.joins {
        Fate::Lost
    } else {
        Fate::Waiting
    }
}

/// 1: the program runs under our control.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_is_enabled() -> c_int {
    c_int::from(life::is_member())
}

/// Takes a checkpoint of the whole computation and waits for it. 1: it is on disk. 2: this is the restarted program.
/// 3: no coordinator. -1: the checkpoint failed, or cannot be because this thread has disabled checkpoints.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_checkpoint() -> c_int {
    if hold::is_held_here() || super::hooks::is_hook_thread() {
        log::tell(
            "dmtcp_checkpoint was called between dmtcp_disable_ckpt and dmtcp_enable_ckpt: there is no checkpoint",
        );
        return FAILED;
    }
    'request: loop {
        // Taken before the request: what is captured after this point has the state that the caller wants saved.
        let asked = news::snapshot();
        match ask(Command::Checkpoint { wait: false, kill: false }) {
            None => return NOT_PRESENT,
            Some(Outcome::Done { .. }) => {}
            Some(_) => {
                sys::nap(RETRY);
                continue 'request;
            }
        }
        loop {
            let now = news::snapshot();
            match fate(&asked, &now) {
                Fate::Known(result) => return result,
                Fate::Lost => continue 'request,
                Fate::Waiting => news::wait(&now),
            }
        }
    }
}

/// How many processes there are, and whether all of them run. 4: the answer is there.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_coordinator_status(peers: *mut c_int, running: *mut c_int) -> c_int {
    let Some(Outcome::Status(status)) = ask(Command::Status) else { return NOT_PRESENT };
    put(peers, status.peers as c_int);
    put(running, c_int::from(status.running));
    PRESENT
}

/// How many checkpoints and restarts this process has been through. 4: the answer is there.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_local_status(checkpoints: *mut c_int, restarts: *mut c_int) -> c_int {
    if !life::is_member() {
        return NOT_PRESENT;
    }
    let now = news::snapshot();
    put(checkpoints, now.checkpoints as c_int);
    put(restarts, now.restarts as c_int);
    PRESENT
}

fn put(into: *mut c_int, value: c_int) {
    if !into.is_null() {
        // SAFETY: the interface demands null or a valid pointer.
        unsafe { into.write(value) };
    }
}

/// 1: a checkpoint was asked for and this process has not gone on after it.
#[unsafe(no_mangle)]
pub extern "C" fn checkpoint_is_pending() -> c_int {
    c_int::from(news::is_pending())
}

/// 1: no checkpoint or restart is under way in this process.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_is_running_state() -> c_int {
    c_int::from(life::is_member() && !news::is_pending())
}

/// Makes sure that we are set up: callers in constructors that run before ours.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_initialize() {
    crate::host::wiring::dmtcp_core_wire();
}
