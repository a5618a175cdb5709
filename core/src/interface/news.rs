//! What the checkpoint thread lets the other threads know: where the coordinator is, how generations went.
//!
//! ```text
//!   captured(n)   all threads are parked for generation n: who asks from now on asks for a later one
//!   Committed n   n is whole and on disk        Abort n   n is not to be
//!   restarted()   this memory has come back from an image
//! ```
//! Readers compare with what they saw before they asked; [`NEWS`] is the futex word that they wait on.

use crate::life::worker::Worker;
use dmtcp_plugin_api::sys;
use dmtcp_protocol::auth::Key;
use dmtcp_protocol::message::{ComputationId, FromCoordinator};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The process's place in the computation.
pub struct Standing {
    /// Coordinator's address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its unix socket, if it is of this host; else empty.
    pub socket: String,
    /// The computation's key.
    pub key: Key,
    /// The computation.
    pub computation: ComputationId,
    /// The same as a zero-terminated text.
    pub computation_text: std::ffi::CString,
    /// Identity of the process.
    pub process: u128,
    /// When the computation began, or was restarted: nanoseconds since 1970.
    pub since: u64,
}

static STANDING: AtomicPtr<Standing> = AtomicPtr::new(std::ptr::null_mut());
static NEWS: AtomicU32 = AtomicU32::new(0);
static JOINS: AtomicU32 = AtomicU32::new(0);
static CHECKPOINTS: AtomicU32 = AtomicU32::new(0);
static RESTARTS: AtomicU32 = AtomicU32::new(0);
static CAPTURED: AtomicU64 = AtomicU64::new(0);
static COMMITTED: AtomicU64 = AtomicU64::new(0);
static ABORTED: AtomicU64 = AtomicU64::new(0);
static PENDING: AtomicU32 = AtomicU32::new(0);

/// How generations stand; two of these are compared.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Value of the futex word.
    pub news: u32,
    /// How often the process has joined a coordinator.
    pub joins: u32,
    /// How often it has come back from an image.
    pub restarts: u32,
    /// How often an image of it was written.
    pub checkpoints: u32,
    /// The last generation that its threads were stopped for.
    pub captured: u64,
    /// The last generation that was committed.
    pub committed: u64,
    /// The last generation that was given up.
    pub aborted: u64,
}

/// How generations stand now. What happens afterwards changes `news`.
pub fn snapshot() -> Snapshot {
    Snapshot {
        news: NEWS.load(Ordering::Acquire),
        joins: JOINS.load(Ordering::Acquire),
        restarts: RESTARTS.load(Ordering::Acquire),
        checkpoints: CHECKPOINTS.load(Ordering::Acquire),
        captured: CAPTURED.load(Ordering::Acquire),
        committed: COMMITTED.load(Ordering::Acquire),
        aborted: ABORTED.load(Ordering::Acquire),
    }
}

/// Waits until something changes, or for a second.
pub fn wait(seen: &Snapshot) {
    let _ = sys::futex_wait(NEWS.as_ptr(), seen.news, Some(1_000_000_000));
}

/// The process's place in the computation; `None` before it has one, and in a fork's child that is no member.
pub fn standing() -> Option<&'static Standing> {
    if !crate::life::is_member() {
        return None;
    }
    // SAFETY: leaked when it was published.
    unsafe { STANDING.load(Ordering::Acquire).as_ref() }
}

/// Whether a checkpoint was asked for and the program has not gone on after it.
pub fn is_pending() -> bool {
    PENDING.load(Ordering::Acquire) != 0
}

fn tell() {
    NEWS.fetch_add(1, Ordering::AcqRel);
    sys::futex_wake(NEWS.as_ptr());
}

/// The worker has joined a coordinator.
pub fn joined(worker: &Worker) {
    let standing = Standing {
        host: worker.host.clone(),
        port: worker.port,
        socket: worker.socket.clone(),
        key: worker.key.clone(),
        computation: worker.computation,
        computation_text: std::ffi::CString::new(worker.computation.to_string()).unwrap_or_default(),
        process: worker.process,
        since: worker.since,
    };
    // Leaked: another thread may be reading the one before.
    STANDING.store(Box::leak(Box::new(standing)), Ordering::Release);
    super::files::publish_directory(&worker.checkpoint_dir);
    JOINS.fetch_add(1, Ordering::AcqRel);
    tell();
}

/// The coordinator has said something.
pub fn heard(message: &FromCoordinator) {
    match message {
        FromCoordinator::Committed { generation, .. } => COMMITTED.store(*generation, Ordering::Release),
        FromCoordinator::Abort { generation, .. } => ABORTED.store(*generation, Ordering::Release),
        _ => return,
    }
    tell();
}

/// A checkpoint begins, or will in a moment.
pub fn asked() {
    PENDING.store(1, Ordering::Release);
}

/// In a fork's child, of which no checkpoint is asked yet.
pub fn after_fork() {
    PENDING.store(0, Ordering::Release);
}

/// All threads are parked for a generation.
pub fn captured(generation: u64) {
    CAPTURED.store(generation, Ordering::Release);
}

/// The program is about to go on in the memory that it had.
pub fn resumed(written: bool) {
    PENDING.store(0, Ordering::Release);
    CHECKPOINTS.fetch_add(u32::from(written), Ordering::AcqRel);
}

/// The program is about to go on in restored memory.
pub fn restarted() {
    PENDING.store(0, Ordering::Release);
    CHECKPOINTS.fetch_add(1, Ordering::AcqRel);
    RESTARTS.fetch_add(1, Ordering::AcqRel);
    tell();
}
