//! THREAD_RESUME: a thread that has come back by a restart is told so where it next calls one of the functions below, or one
//! that tells of another event.
//!
//! Not where it goes on: that may be inside `malloc`, or with a lock of a library in its hands, and no hook that uses
//! libc could run there, nor one of ours that allocates. A call from outside of libc is what every thread makes before long,
//! and where hooks run at other times, too.
//!
//! What can go wrong: a thread that only computes, or that uses nothing of libc but what is not listed here, is never told.
//! One that is inside a hook when it comes back is told after that.

use crate::tell;
use dmtcp_plugin_api::abi::{Event, ThreadResume};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::sys;
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// How many threads have not been told yet.
pub static OWED: AtomicU32 = AtomicU32::new(0);
/// How often the process has come back.
static RESTARTS: AtomicU32 = AtomicU32::new(0);
/// Ids of the threads that have come back; 0 for one that has been told. Leaked at each restart: a thread may have been
/// stopped while it looked through the list of before.
static THREADS: AtomicPtr<Vec<AtomicI32>> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// The last restart after which nothing has to be told to the calling thread any more.
    static SETTLED: Cell<u32> = const { Cell::new(0) };
}

/// At RESTART, while all threads are stopped.
pub fn after_restart(core: Core) {
    if !core.asked(Event::ThreadResume) {
        return;
    }
    let threads: Vec<AtomicI32> = core.threads().into_iter().map(AtomicI32::new).collect();
    let count = threads.len() as u32;
    THREADS.store(Box::leak(Box::new(threads)), Ordering::Release);
    RESTARTS.fetch_add(1, Ordering::AcqRel);
    OWED.store(count, Ordering::Release);
}

/// In a fork's child: its thread has not come back from an image, and the others are not here.
pub fn after_fork() {
    OWED.store(0, Ordering::Release);
}

/// Tells the calling thread that it has come back, if it has and does not know yet.
pub fn tell_own() {
    let restarts = RESTARTS.load(Ordering::Acquire);
    if SETTLED.get() == restarts {
        return;
    }
    // SAFETY: leaked when it was stored.
    let Some(threads) = (unsafe { THREADS.load(Ordering::Acquire).as_ref() }) else { return };
    let tid = sys::tid();
    if let Some(entry) = threads.iter().find(|entry| entry.load(Ordering::Relaxed) == tid) {
        // Inside a hook nobody is told of anything: later.
        if !dmtcp_plugin_api::core::core().is_some_and(|core| core.wanted(Event::ThreadResume)) {
            return;
        }
        entry.store(0, Ordering::Relaxed);
        OWED.fetch_sub(1, Ordering::AcqRel);
        SETTLED.set(restarts);
        tell(Event::ThreadResume, &mut ThreadResume { is_restart: 1 });
    } else {
        SETTLED.set(restarts);
    }
}

fn look(_: &[usize; 6]) {
    tell_own();
}

dmtcp_plugin_api::pass_through! { pub static WRAPPERS;
    /// THREAD_RESUME.
    fn read if OWED => look;
    /// THREAD_RESUME.
    fn __read_chk if OWED => look;
    /// THREAD_RESUME.
    fn readv if OWED => look;
    /// THREAD_RESUME.
    fn pread64 if OWED => look;
    /// THREAD_RESUME.
    fn write if OWED => look;
    /// THREAD_RESUME.
    fn writev if OWED => look;
    /// THREAD_RESUME.
    fn pwrite64 if OWED => look;
    /// THREAD_RESUME.
    fn recv if OWED => look;
    /// THREAD_RESUME.
    fn __recv_chk if OWED => look;
    /// THREAD_RESUME.
    fn recvfrom if OWED => look;
    /// THREAD_RESUME.
    fn __recvfrom_chk if OWED => look;
    /// THREAD_RESUME.
    fn recvmsg if OWED => look;
    /// THREAD_RESUME.
    fn send if OWED => look;
    /// THREAD_RESUME.
    fn sendto if OWED => look;
    /// THREAD_RESUME.
    fn sendmsg if OWED => look;
    /// THREAD_RESUME.
    fn accept if OWED => look;
    /// THREAD_RESUME.
    fn accept4 if OWED => look;
    /// THREAD_RESUME.
    fn connect if OWED => look;
    /// THREAD_RESUME.
    fn poll if OWED => look;
    /// THREAD_RESUME.
    fn __poll_chk if OWED => look;
    /// THREAD_RESUME.
    fn ppoll if OWED => look;
    /// THREAD_RESUME.
    fn __ppoll_chk if OWED => look;
    /// THREAD_RESUME.
    fn select if OWED => look;
    /// THREAD_RESUME.
    fn pselect if OWED => look;
    /// THREAD_RESUME.
    fn epoll_wait if OWED => look;
    /// THREAD_RESUME.
    fn epoll_pwait if OWED => look;
    /// THREAD_RESUME.
    fn nanosleep if OWED => look;
    /// THREAD_RESUME.
    fn clock_nanosleep if OWED => look;
    /// THREAD_RESUME.
    fn usleep if OWED => look;
    /// THREAD_RESUME.
    fn sleep if OWED => look;
    /// THREAD_RESUME.
    fn pause if OWED => look;
    /// THREAD_RESUME.
    fn sched_yield if OWED => look;
    /// THREAD_RESUME.
    fn wait if OWED => look;
    /// THREAD_RESUME.
    fn waitpid if OWED => look;
    /// THREAD_RESUME.
    fn wait4 if OWED => look;
    /// THREAD_RESUME.
    fn waitid if OWED => look;
    /// THREAD_RESUME.
    fn pthread_join if OWED => look;
    /// THREAD_RESUME.
    fn pthread_cond_wait if OWED => look;
    /// THREAD_RESUME.
    fn pthread_cond_timedwait if OWED => look;
    /// THREAD_RESUME.
    fn pthread_cond_clockwait if OWED => look;
    /// THREAD_RESUME.
    fn sem_wait if OWED => look;
    /// THREAD_RESUME.
    fn sem_timedwait if OWED => look;
    /// THREAD_RESUME.
    fn sem_clockwait if OWED => look;
}
