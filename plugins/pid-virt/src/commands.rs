//! system(3): libc waits for its command by the real id that the kernel gave it, and cannot be told another one.
//!
//! ```text
//!   checkpoint: a thread is inside libc's function; the kernel or the core knows which child it waits for
//!   restart:    its wait fails (no such child), libc's function returns -1
//!   wrapper:    waits for the child by the virtual id, as libc would have
//! ```
//! What can go wrong: a thread that is cancelled here after a restart leaves SIGINT and SIGQUIT ignored.

use crate::children::waitpid;
use crate::signals::{self, KernelAction};
use crate::table;
use crate::translate::{errno, made};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::sys;
use libc::{c_char, c_int};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// A thread inside libc's function, and the child that its wait is for, by their virtual ids; 0: none.
struct Inside {
    thread: AtomicI32,
    child: AtomicI32,
}

const PLACES: usize = 256;
static INSIDE: [Inside; PLACES] = [const { Inside { thread: AtomicI32::new(0), child: AtomicI32::new(0) } }; PLACES];

/// For the core, after a restart.
pub extern "C" fn waits_again(thread: i32, child: i32) -> i32 {
    let inside = INSIDE.iter().find(|inside| inside.thread.load(Ordering::Acquire) == thread);
    inside.map(|inside| inside.child.store(child, Ordering::Release)).is_some().into()
}

fn enter(thread: i32) -> Option<&'static Inside> {
    // One that was cancelled inside has left its place.
    let own = INSIDE.iter().find(|inside| inside.thread.load(Ordering::Acquire) == thread);
    let take =
        |inside: &&Inside| inside.thread.compare_exchange(0, thread, Ordering::AcqRel, Ordering::Acquire).is_ok();
    let inside = own.or_else(|| INSIDE.iter().find(take))?;
    inside.child.store(0, Ordering::Release);
    Some(inside)
}

const IGNORE: KernelAction = [1, 0, 0, 0];

/// How many threads want interrupts to be ignored, and whether one of them is just changing that.
static IGNORING: AtomicU32 = AtomicU32::new(0);
const CHANGING: u32 = 1 << 31;
static SAVED: [[AtomicU64; 4]; 2] = [const { [const { AtomicU64::new(0) }; 4] }; 2];

fn exchange(signal: c_int, action: &KernelAction) -> KernelAction {
    signals::exchange_kernel_action(signal as usize, action).unwrap_or_default()
}

/// One more thread, or one fewer, that wants interrupts to be ignored.
fn ignore_interrupts(more: bool) {
    let take = |state: u32| (state & CHANGING == 0).then_some(state | CHANGING);
    while IGNORING.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_err() {
        sys::yield_cpu();
    }
    let before = IGNORING.load(Ordering::Acquire) & !CHANGING;
    let after = if more { before + 1 } else { before.saturating_sub(1) };
    for (signal, saved) in [libc::SIGINT, libc::SIGQUIT].into_iter().zip(&SAVED) {
        if before == 0 {
            for (word, value) in saved.iter().zip(exchange(signal, &IGNORE)) {
                word.store(value, Ordering::Relaxed);
            }
        } else if after == 0 {
            exchange(signal, &std::array::from_fn(|i| saved[i].load(Ordering::Relaxed)));
        }
    }
    IGNORING.store(after, Ordering::Release);
}

/// The hook for a fork's child: nobody else is in the middle of anything.
pub fn forget(_: Core) {
    IGNORING.store(0, Ordering::Release);
}

/// Waits for the command as libc does: without interrupts, and without news of the child for anybody else.
#[cold]
fn wait(child: i32) -> c_int {
    let mask = signals::change_mask(libc::SIG_BLOCK, 1 << (libc::SIGCHLD - 1));
    ignore_interrupts(true);
    let mut status = 0;
    let result = loop {
        let result = waitpid::wrapper(child, &raw mut status, 0);
        if result != -1 || errno() != libc::EINTR {
            break result;
        }
    };
    ignore_interrupts(false);
    signals::change_mask(libc::SIG_SETMASK, mask);
    if result == child { status } else { -1 }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The command is waited for by the virtual id, if a restart falls into the call.
    fn system(command: *const c_char) -> c_int {
        let tid = sys::tid();
        let thread = table::current().map_or(tid, |table| made(table, tid));
        let restarts = table::restarts();
        let inside = enter(thread);
        let status = next(command);
        let child = inside.map_or(0, |inside| {
            inside.thread.store(0, Ordering::Release);
            inside.child.load(Ordering::Acquire)
        });
        if status != -1 || table::restarts() == restarts || errno() != libc::ECHILD {
            return status;
        }
        // Stopped before it could wait: then its command was the last thing that it had started.
        match if child != 0 { child } else { table::youngest_child(thread) } {
            0 => status,
            child => wait(child),
        }
    }
}
