//! The thread that hooks of C plugins run on. It exists only if there is such a plugin.
//!
//! Hooks of C plugins use libc as they please and work on the program's own descriptors, which the checkpoint thread does
//! not share. So they get an ordinary thread, which is
//!
//! ```text
//!   running   PRESUSPEND, and spared by the stop, which is repeated until libc is usable ([`locks`]): PRECHECKPOINT
//!   parked    by a second stop, before the image is planned: it is saved and restored like any thread of the program
//!   let go    alone, before the others: RESUME or RESTART; with them: RUNNING
//! ```
//! What can go wrong: a hook waits for a lock of another library that a stopped thread holds. After a time limit the
//! checkpoint is given up; the threads go on, the hook comes to its end, and events that were due meanwhile follow in
//! their order.

use super::{locks, plugins};
use crate::life::errand::{self, Errand, Reply};
use crate::threads::slot::State;
use crate::threads::spawn;
use crate::{config, ids, threads};
use dmtcp_plugin_api::abi::Event;
use dmtcp_plugin_api::sys;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// How long the hooks of one event may take, in nanoseconds.
const LIMIT: u64 = 30_000_000_000;
const STACK: usize = 1 << 20;
/// All signals but the two of libc's own and ours: the program's are handled by the program's threads.
const LIBC_SIGNALS: u64 = 1 << 31 | 1 << 32;

/// The thread; 0: there is none.
static THREAD: AtomicI32 = AtomicI32::new(0);
/// Its id in the image.
static KNOWN: AtomicI32 = AtomicI32::new(0);
/// How long taking the locks may take, in nanoseconds, until a stopped thread is thought to hold one; each stop more gives
/// as much more.
const LOCKS_LIMIT: u64 = 1_000_000;
/// How often a stop is repeated.
const STOPS: u32 = 200;
/// From this stop on a locked stream is put up with.
const STREAMS: u32 = 20;
/// In [`DUE`]: the locks are to be tried.
const TRY: u32 = 1 << 31;
/// In [`DUE`]: a hook has an errand for the checkpoint thread.
const LETTER: u32 = 1 << 30;

/// Whether the last try found all streams unlocked.
static STREAMS_FREE: AtomicU32 = AtomicU32::new(0);
/// Futex word: a bit for each event whose hooks have not run yet, by its number.
static DUE: AtomicU32 = AtomicU32::new(0);

/// An errand of a hook's, on the hook thread's stack.
struct Letter {
    errand: Option<Errand>,
    reply: Option<Reply>,
    /// Futex word: 1 once the reply is there.
    answered: AtomicU32,
}

/// The letter that nobody has taken yet.
static LETTERBOX: AtomicPtr<Letter> = AtomicPtr::new(std::ptr::null_mut());

/// Starts the thread.
pub fn start() -> Result<(), String> {
    let ours = config::config().map_or(0, |c| 1u64 << (c.signal - 1));
    spawn::spawn(spawn::Maker::Anybody, serve, 0, STACK, !(LIBC_SIGNALS | ours))
        .map_err(|e| format!("the thread for hooks of C plugins cannot be started (errno {e})"))?;
    while THREAD.load(Ordering::Acquire) == 0 {
        let _ = sys::futex_wait(THREAD.as_ptr().cast(), 0, None);
    }
    Ok(())
}

/// Whether there is such a thread.
pub fn are_there() -> bool {
    THREAD.load(Ordering::Acquire) != 0
}

/// In a fork's child: the thread is not there. True: it was in the parent.
pub fn after_fork() -> bool {
    DUE.store(0, Ordering::Release);
    LETTERBOX.store(std::ptr::null_mut(), Ordering::Release);
    THREAD.swap(0, Ordering::AcqRel) != 0
}

extern "C" fn serve(_: *mut c_void) -> *mut c_void {
    THREAD.store(sys::tid(), Ordering::Release);
    sys::futex_wake(THREAD.as_ptr().cast());
    loop {
        let due = DUE.load(Ordering::Acquire);
        if due & TRY != 0 {
            STREAMS_FREE.store(u32::from(locks::try_all()), Ordering::Release);
            finish(TRY);
            continue;
        }
        // Numbers are in the order of events.
        match Event::ALL.into_iter().find(|event| due & bit(*event) != 0) {
            None => {
                let _ = sys::futex_wait(DUE.as_ptr(), due, None);
            }
            Some(event) => {
                // After a restart it may be another one.
                THREAD.store(sys::tid(), Ordering::Release);
                plugins::deliver(event, std::ptr::null_mut());
                finish(bit(event));
            }
        }
    }
}

/// Says that something which was due is done.
fn finish(bits: u32) {
    DUE.fetch_and(!bits, Ordering::AcqRel);
    sys::futex_wake(DUE.as_ptr());
}

fn bit(event: Event) -> u32 {
    1u32.checked_shl(event as u32).unwrap_or(0)
}

/// Notes the thread's id in the image.
pub fn note_known() {
    KNOWN.store(ids::to_virtual(THREAD.load(Ordering::Acquire)), Ordering::Release);
}

/// After a restart: the thread may have another id.
pub fn returned() {
    let known = KNOWN.load(Ordering::Acquire);
    let now = threads::slot::all().find(|s| s.state() == State::Parked && s.known() == known);
    if let Some(slot) = now.filter(|_| THREAD.load(Ordering::Acquire) != 0) {
        THREAD.store(slot.tid(), Ordering::Release);
    }
}

/// Whether the calling thread is the one for hooks.
pub fn is_hook_thread() -> bool {
    is_thread(sys::tid())
}

/// Whether this is the thread for hooks.
pub fn is_thread(tid: i32) -> bool {
    THREAD.load(Ordering::Acquire) == tid
}

/// Checkpoint thread: stops all threads of the program, and if there is a thread for hooks, in such a place that it can
/// use libc.
pub fn stop(signal: i32) -> Result<(), String> {
    let tid = THREAD.load(Ordering::Acquire);
    if tid == 0 {
        return threads::stop::stop(signal, &[]);
    }
    for count in 1..=STOPS {
        threads::stop::stop(signal, &[tid])?;
        DUE.fetch_or(TRY, Ordering::AcqRel);
        sys::futex_wake(DUE.as_ptr());
        if wait(TRY, LOCKS_LIMIT * u64::from(count)) && (STREAMS_FREE.load(Ordering::Acquire) != 0 || count >= STREAMS)
        {
            return Ok(());
        }
        threads::release();
        // With the threads running the lock gets free; a hook that is still in the way of its own is not helped by this.
        if !wait(TRY, LIMIT) {
            return Err("the thread for hooks of C plugins does not come back from libc".into());
        }
    }
    Err(format!(
        "{STOPS} stops each found a thread inside libc's allocator, environment or loader, which hooks of C plugins need"
    ))
}

/// Hook thread: has the checkpoint thread do an errand.
pub fn send(errand: Errand) -> Reply {
    let mut letter = Letter { errand: Some(errand), reply: None, answered: AtomicU32::new(0) };
    let address = &raw mut letter;
    LETTERBOX.store(address, Ordering::Release);
    DUE.fetch_or(LETTER, Ordering::AcqRel);
    sys::futex_wake(DUE.as_ptr());
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    loop {
        // SAFETY: the letter is this function's; whoever took it out of the box writes its fields before `answered`.
        let answered = unsafe { &(*address).answered };
        if answered.load(Ordering::Acquire) != 0 {
            // SAFETY: as above; it is nobody else's any more.
            return unsafe { (*address).reply.take() }.unwrap_or_else(|| Err("there was no reply".into()));
        }
        let late = sys::clock(libc::CLOCK_MONOTONIC) - start > LIMIT;
        let untaken = || {
            let null = std::ptr::null_mut();
            LETTERBOX.compare_exchange(address, null, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if late && untaken() {
            finish(LETTER);
            return Err("the hook is late: the checkpoint thread does not wait for it any more".into());
        }
        let _ = sys::futex_wait(answered.as_ptr(), 0, Some(LIMIT));
    }
}

/// Checkpoint thread: does the errand that a hook has, if there is one.
fn answer_letter() -> bool {
    let address = LETTERBOX.swap(std::ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: the hook thread keeps the letter where it is until it is answered, and does not touch it meanwhile.
    let Some(letter) = (unsafe { address.as_mut() }) else { return false };
    letter.reply = letter.errand.take().map(errand::run);
    finish(LETTER);
    let word = letter.answered.as_ptr();
    letter.answered.store(1, Ordering::Release);
    // From here on the letter may be gone; waking looks at the address only.
    sys::futex_wake(word);
    true
}

/// Waits until none of these bits is due; false: the time is up. Errands of hooks take no time.
fn wait(bits: u32, limit: u64) -> bool {
    let mut start = sys::clock(libc::CLOCK_MONOTONIC);
    loop {
        let due = DUE.load(Ordering::Acquire);
        if due & bits == 0 {
            return true;
        }
        if due & LETTER != 0 && answer_letter() {
            start = sys::clock(libc::CLOCK_MONOTONIC);
            continue;
        }
        let passed = sys::clock(libc::CLOCK_MONOTONIC) - start;
        if passed >= limit {
            return false;
        }
        let _ = sys::futex_wait(DUE.as_ptr(), due, Some(limit - passed));
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
    // What was late before does not get the whole time again while threads are stopped.
    if wait(u32::MAX, if late && event != Event::PreSuspend { 0 } else { LIMIT }) {
        return Ok(());
    }
    Err(format!(
        "the {event:?} hooks of the C plugins have not come to their end within {} s; \
         a hook may wait for a lock that a stopped thread holds",
        LIMIT / 1_000_000_000
    ))
}

/// Checkpoint thread: parks the thread like all others.
pub fn park() -> Result<(), String> {
    if THREAD.load(Ordering::Acquire) == 0 {
        return Ok(());
    }
    threads::stop::stop(config::config().map_or(0, |c| c.signal), &[])
}
