//! The thread that hooks of C plugins run on. It exists only if there is such a plugin.
//!
//! Hooks of C plugins use libc as they please and work on the program's own descriptors, which the checkpoint thread does
//! not share. So they get an ordinary thread, which is
//!
//! ```text
//!   running   PRESUSPEND, and spared by the stop: PRECHECKPOINT
//!   parked    by a second stop, before the image is planned: it is saved and restored like any thread of the program
//!   let go    alone, before the others: RESUME or RESTART; with them: RUNNING
//! ```
//! What can go wrong: a hook waits for a lock of libc's that a stopped thread holds. After a time limit the checkpoint is
//! given up; the threads go on, the hook comes to its end, and events that were due meanwhile follow in their order.

use super::plugins;
use crate::{config, threads};
use dmtcp_plugin_api::abi::Event;
use dmtcp_plugin_api::sys;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// How long the hooks of one event may take, in nanoseconds.
const LIMIT: u64 = 30_000_000_000;
const STACK: usize = 1 << 20;
/// All signals but the two of libc's own and ours: the program's are handled by the program's threads.
const LIBC_SIGNALS: u64 = 1 << 31 | 1 << 32;

/// The thread; 0: there is none.
static THREAD: AtomicI32 = AtomicI32::new(0);
/// Futex word: a bit for each event whose hooks have not run yet, by its number.
static DUE: AtomicU32 = AtomicU32::new(0);

/// Starts the thread.
pub fn start() -> Result<(), String> {
    let ours = config::config().map_or(0, |c| 1u64 << (c.signal - 1));
    threads::spawn::spawn(serve, 0, STACK, !(LIBC_SIGNALS | ours))
        .map_err(|e| format!("the thread for hooks of C plugins cannot be started (errno {e})"))?;
    while THREAD.load(Ordering::Acquire) == 0 {
        let _ = sys::futex_wait(THREAD.as_ptr().cast(), 0, None);
    }
    Ok(())
}

/// In a fork's child: the thread is not there. True: it was in the parent.
pub fn after_fork() -> bool {
    DUE.store(0, Ordering::Release);
    THREAD.swap(0, Ordering::AcqRel) != 0
}

extern "C" fn serve(_: *mut c_void) -> *mut c_void {
    THREAD.store(sys::tid(), Ordering::Release);
    sys::futex_wake(THREAD.as_ptr().cast());
    loop {
        let due = DUE.load(Ordering::Acquire);
        // Numbers are in the order of events.
        match Event::ALL.into_iter().find(|event| due & bit(*event) != 0) {
            None => {
                let _ = sys::futex_wait(DUE.as_ptr(), due, None);
            }
            Some(event) => {
                // After a restart it may be another one.
                THREAD.store(sys::tid(), Ordering::Release);
                plugins::deliver(event);
                DUE.fetch_and(!bit(event), Ordering::AcqRel);
                sys::futex_wake(DUE.as_ptr());
            }
        }
    }
}

fn bit(event: Event) -> u32 {
    1 << event as u32
}

/// Whether the calling thread is the one for hooks.
pub fn is_hook_thread() -> bool {
    THREAD.load(Ordering::Acquire) == sys::tid()
}

/// Threads that the stop leaves running.
pub fn spared() -> Vec<i32> {
    match THREAD.load(Ordering::Acquire) {
        0 => Vec::new(),
        tid => vec![tid],
    }
}

/// Checkpoint thread: runs the hooks of an event and waits for their end.
pub fn run(event: Event) -> Result<(), String> {
    let tid = THREAD.load(Ordering::Acquire);
    if tid == 0 {
        return Ok(());
    }
    threads::release_alone(tid);
    let late = DUE.fetch_or(bit(event), Ordering::AcqRel) != 0;
    sys::futex_wake(DUE.as_ptr());
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    loop {
        let due = DUE.load(Ordering::Acquire);
        if due == 0 {
            return Ok(());
        }
        // What was late before does not get the whole time again while threads are stopped.
        let limit = if late && event != Event::PreSuspend { 0 } else { LIMIT };
        let passed = sys::clock(libc::CLOCK_MONOTONIC) - start;
        if passed >= limit {
            return Err(format!(
                "the {event:?} hooks of the C plugins have not come to their end within {} s; \
                 a hook may wait for a lock that a stopped thread holds",
                LIMIT / 1_000_000_000
            ));
        }
        let _ = sys::futex_wait(DUE.as_ptr(), due, Some(limit - passed));
    }
}

/// Checkpoint thread: parks the thread like all others.
pub fn park() -> Result<(), String> {
    if THREAD.load(Ordering::Acquire) == 0 {
        return Ok(());
    }
    threads::stop::stop(config::config().map_or(0, |c| c.signal), &[])
}
