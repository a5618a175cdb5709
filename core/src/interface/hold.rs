//! Sections of the program that no checkpoint cuts: `dmtcp_disable_ckpt` and `dmtcp_enable_ckpt`.
//!
//! ```text
//!   word:  CLOSED | WANTED | number of holds
//!   program          0 --hold--> 1 --hold--> 2 --release--> ... 0        nested, by any number of threads
//!   checkpoint       WANTED: threads without a hold of their own wait; at 0 holds: CLOSED, stop, ..., open
//! ```
//! WANTED keeps threads that take turns from putting a checkpoint off for ever. A thread that holds already may nest: it
//! has to reach its release. How deep a thread is in is known to that thread alone; a hold may still be released by
//! another one. A fork's child keeps the holds of the thread that forked, and no others.

use crate::life::{self, worker::Worker};
use dmtcp_plugin_api::{arena, sys};
use dmtcp_protocol::message::FromCoordinator;
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};

const CLOSED: u32 = 1 << 31;
const WANTED: u32 = 1 << 30;
const COUNT: u32 = WANTED - 1;
/// How long the checkpoint thread waits before it looks for messages of the coordinator's, in nanoseconds.
const PATIENCE: u64 = 50_000_000;

static WORD: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Holds of this thread. Constant and without a destructor: plain thread-local memory.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Whether the calling thread holds checkpoints off.
pub fn is_held_here() -> bool {
    DEPTH.get() > 0
}

/// Holds checkpoints off until [`release`].
pub fn hold() {
    let depth = DEPTH.get();
    loop {
        let word = WORD.load(Ordering::Acquire);
        let waits = word & CLOSED != 0 || (word & WANTED != 0 && depth == 0);
        // Hooks run while the rest is stopped: for them there is nothing to wait for.
        if waits && !super::hooks::is_hook_thread() && !arena::on_checkpoint_stack() {
            let _ = sys::futex_wait(WORD.as_ptr(), word, None);
        } else if WORD.compare_exchange(word, word + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            DEPTH.set(depth + 1);
            return;
        }
    }
}

/// Gives one hold back.
pub fn release() {
    DEPTH.set(DEPTH.get().saturating_sub(1));
    loop {
        let word = WORD.load(Ordering::Acquire);
        if word & COUNT == 0 {
            return;
        }
        if WORD.compare_exchange(word, word - 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            if word & COUNT == 1 && word & WANTED != 0 {
                sys::futex_wake(WORD.as_ptr());
            }
            return;
        }
    }
}

/// Checkpoint thread: waits until nobody holds, then lets nobody hold until [`open`]. The error says why the generation is
/// not to be; the coordinator, which limits the wait, knows it.
pub fn close(worker: &mut Worker, generation: u64) -> Result<(), String> {
    loop {
        let word = WORD.fetch_or(WANTED, Ordering::AcqRel) | WANTED;
        if word & COUNT == 0 {
            if WORD.compare_exchange(word, word | CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
            continue;
        }
        let _ = sys::futex_wait(WORD.as_ptr(), word, Some(PATIENCE));
        match worker.receive(1) {
            Ok(FromCoordinator::Abort { generation: g, reason }) if g == generation => {
                open();
                return Err(reason);
            }
            Ok(FromCoordinator::Kill) => life::exit(0),
            Ok(_) | Err(life::link::Silence::TimeOut) => {}
            Err(life::link::Silence::Gone) => {
                open();
                return Err("the coordinator is gone".into());
            }
        }
    }
}

/// Checkpoint thread: the program may hold again.
pub fn open() {
    WORD.fetch_and(COUNT, Ordering::AcqRel);
    sys::futex_wake(WORD.as_ptr());
}

/// In a fork's child: the holds of threads that are not there are gone.
pub fn after_fork() {
    WORD.store(DEPTH.get(), Ordering::Release);
}

/// No checkpoint of this process until `dmtcp_enable_ckpt`. Calls nest.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_disable_ckpt() -> c_int {
    hold();
    1
}

/// Undoes one `dmtcp_disable_ckpt`.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_enable_ckpt() -> c_int {
    release();
    1
}

/// `dmtcp_disable_ckpt` as wrappers of plugins call it.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_plugin_disable_ckpt() -> c_int {
    dmtcp_disable_ckpt()
}

/// `dmtcp_enable_ckpt` as wrappers of plugins call it.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_plugin_enable_ckpt() {
    dmtcp_enable_ckpt();
}
