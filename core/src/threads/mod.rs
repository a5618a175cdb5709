//! The application's threads: stopping them, what has to be known of each, letting them go.
//!
//! ```text
//!            rt_tgsigqueueinfo(slot)             EPOCH += 1
//!   running ------------------------> PARKED --------------------> running (rt_sigreturn through the signal frame)
//!      ^                                |
//!      +--- AGAIN (was in the vdso) ----+            restart: a new task enters `restored`, is PARKED again
//! ```
//! A thread parks in the handler of the checkpoint signal, on a stack of its slot's own. All that makes up the thread is
//! then in memory: registers in the signal frame, the rest in the slot. Whether it goes on after a checkpoint or after a
//! restart, it leaves the same way, through the frame.

mod beginning;
mod call_number;
pub mod credentials;
mod handler;
mod helper;
pub mod leaderless;
mod named;
mod pending;
mod returning;
pub mod rewind;
mod robust;
pub mod slot;
pub mod spawn;
mod standstill;
mod status;
pub mod stop;
pub mod tracer;

pub use handler::{
    RSEQ_LENGTH, carried_slot, enter_task_address, install_handler, save_thread, set_thread_pointer, thread_pointer,
};
pub use named::note_trapped;
pub use pending::forget;
pub use standstill::{stand_still, stand_still_and};
pub use status::has_come;

use crate::ids;
use dmtcp_plugin_api::headroom::Raised;
use dmtcp_plugin_api::sys;
use dmtcp_plugin_api::usage::Usage;
use libc::siginfo_t;
use slot::{Order, Role, Slot, State};
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

/// Counts releases: a parked thread waits while it has the value that it had at the stop.
pub static EPOCH: AtomicU32 = AtomicU32::new(0);
/// Counts threads that have parked; the checkpoint thread waits on it.
pub static PARKED: AtomicU32 = AtomicU32::new(0);

/// Makes pending again what was pending. What comes from another process, which may go on before this one does, must lie
/// behind it. As much may be pending as the application allows itself, and its user's other processes count as well.
pub fn put_back_signals() {
    // SAFETY: parked threads leave their slots to us.
    let with_signals: Vec<&Slot> = parked().into_iter().filter(|s| unsafe { s.saved() }.pending.is_there()).collect();
    let _raised = with_signals.first().and_then(|_| Raised::new(libc::RLIMIT_SIGPENDING));
    for slot in with_signals {
        slot.give_order(Order::PutBack);
        while slot.order() == Order::PutBack && slot.state() == State::Parked {
            nudge();
        }
    }
}

/// Lets all parked threads go.
pub fn release() {
    beginning::forget_senders(&parked());
    put_back_signals();
    EPOCH.fetch_add(1, Ordering::AcqRel);
    sys::futex_wake(EPOCH.as_ptr());
}

/// Tells what the application calls the sender of a signal that it is to be given.
pub fn show_sender(info: *mut siginfo_t) {
    // SAFETY: the kernel has filled the siginfo, all 128 bytes of it.
    let info = unsafe { &mut *info.cast::<pending::Info>() };
    if let Some(sender) = pending::sender_of(info) {
        pending::set_sender(info, ids::to_virtual(sender));
    }
}

/// Between two tries to wake one thread among all that wait, in nanoseconds.
const WAKE: u64 = 20_000;

/// Lets one thread go, if it is parked; the others stay.
pub fn release_alone(tid: i32) {
    let is_it = |s: &&Slot| s.tid() == tid && s.state() == State::Parked && s.role() == Role::Application;
    let Some(slot) = slot::all().find(is_it) else { return };
    slot.give_order(Order::Go);
    while slot.state() == State::Parked {
        nudge();
    }
}

/// Has parked threads take the signals that are pending for them. What comes from now on is lost by a restart.
pub fn take_signals() {
    for slot in parked().into_iter().filter(|slot| pending::has_news(slot.tid())) {
        slot.give_order(Order::Take);
        while slot.order() == Order::Take && slot.state() == State::Parked {
            nudge();
        }
    }
}

/// What [`Order::Call`] means, as an address.
static CALLED: AtomicUsize = AtomicUsize::new(0);

/// Has each parked thread call a function, one after the other, with the context that it will go on with.
pub fn in_each(function: extern "C" fn(*mut c_void)) {
    CALLED.store(function as usize, Ordering::Release);
    for slot in parked() {
        slot.give_order(Order::Call);
        while slot.order() == Order::Call && slot.state() == State::Parked {
            nudge();
        }
    }
}

/// Carries [`Order::Call`] out.
fn call_for(frame: u64) {
    let address = CALLED.load(Ordering::Acquire);
    if address != 0 {
        // SAFETY: `in_each` has stored such a function.
        let function: extern "C" fn(*mut c_void) = unsafe { std::mem::transmute(address) };
        function(frame as *mut c_void);
    }
}

/// Has parked threads look at their orders. All wait on one word, whose value stays: a wake that comes just before the wait
/// is lost, so this is repeated until the order is carried out.
fn nudge() {
    sys::futex_wake(EPOCH.as_ptr());
    sys::nap(WAKE);
}

/// How long parked threads may take to come to rest, in nanoseconds.
const REST: u64 = 30_000_000_000;

/// Waits until all parked threads sleep: one that has just announced itself, or was woken to look at its orders, still
/// writes to the stack of its slot, which is about to be summed up and stored. After that nobody wakes them until the
/// image is written. The error names the thread.
pub fn settle() -> Result<(), String> {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    for slot in parked() {
        while slot.state() == State::Parked && !sleeps(slot.tid()) {
            if sys::clock(libc::CLOCK_MONOTONIC) - start > REST {
                return Err(format!("thread {} has stopped, but does not come to rest", slot.tid()));
            }
            sys::yield_cpu();
        }
    }
    Ok(())
}

/// Whether a thread is inside futex(2), and stays there: the kernel says `running` of one that has been woken. Where it does
/// not tell the call (proc(5), /proc/PID/syscall), it tells who sleeps, and a parked thread sleeps nowhere else.
fn sleeps(tid: i32) -> bool {
    stop::call_of(tid).map_or_else(|| stop::task_state(tid) == b'S', |call| call.number == libc::SYS_futex)
}

/// Slots of parked threads, the first thread's first.
pub fn parked() -> Vec<&'static Slot> {
    let mut out: Vec<&Slot> =
        slot::all().filter(|s| s.state() == State::Parked && s.role() == Role::Application).collect();
    let pid = sys::pid();
    out.sort_by_key(|s| (s.tid() != pid, s.tid()));
    out
}

/// What a parked thread had used when it stopped, and when it had come back by a restart.
pub fn usage_of(tid: i32) -> Option<[Usage; 2]> {
    let slot = slot::all().find(|s| s.tid() == tid && s.state() == State::Parked)?;
    // SAFETY: parked threads leave their slots to us.
    Some(unsafe { slot.saved() }.used)
}

/// Tids of parked threads.
pub fn parked_tids() -> Vec<i32> {
    parked().iter().map(|s| s.tid()).collect()
}

/// The process's id in the image.
static KNOWN: AtomicI32 = AtomicI32::new(0);
/// Counts tasks that have come back since the image was taken, and have noted their ids.
pub static RETURNED: AtomicU32 = AtomicU32::new(0);

/// Notes the ids that the image has of the process and of its threads, which are parked, and of the checkpoint thread.
pub fn note_known(checkpoint: &Slot) {
    RETURNED.store(0, Ordering::Release);
    KNOWN.store(ids::to_virtual(sys::pid()), Ordering::Relaxed);
    for slot in parked().into_iter().chain([checkpoint]) {
        slot.set_known(ids::to_virtual(slot.tid()));
    }
    parked().into_iter().for_each(named::note);
    beginning::note_senders(&parked());
}

/// After a restart, when all ids are known: those that parked threads carry with them become the new ones.
pub fn renew_ids() {
    parked().into_iter().for_each(named::renew);
    beginning::renew_senders(&parked());
}

/// Id of the process in the image.
pub fn known_process() -> i32 {
    KNOWN.load(Ordering::Relaxed)
}

/// After a restart: the process and its threads, by their ids in the image and those that they have now.
pub fn known() -> Vec<[i32; 2]> {
    let tasks = slot::all().filter(|s| s.state() == State::Parked).map(|s| [s.known(), s.tid()]);
    [[known_process(), sys::pid()]].into_iter().chain(tasks).collect()
}

/// A live thread of the application: parked if there is one, else any but the calling one. 0: none.
pub fn first_alive() -> i32 {
    if let Some(slot) = parked().first() {
        return slot.tid();
    }
    stop::tasks().into_iter().find(|t| *t != sys::tid() && stop::is_alive(*t)).unwrap_or(0)
}
