//! Children that were continued (SIGCONT) and whose parent has not waited for that news yet (WCONTINUED): it is in the kernel
//! alone. After a restart the parent stops such a child and continues it, which makes it news again.
//!
//! That happens before the barrier that all pass before anybody stands still again or goes on. A child whose coordinator
//! had it continued for the checkpoint is told of as well, and stands still again behind the barrier. What the child and
//! the parent are sent by the kernel on the way is taken away again: by the core in the child, here in the parent.

use crate::{family, table};
use dmtcp_plugin_api::sys;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Virtual ids; leaked.
static NEWS: AtomicPtr<Vec<i32>> = AtomicPtr::new(std::ptr::null_mut());

/// How long a child may take to stop, in nanoseconds: it may be held by dmtcp_restart until all are there.
const LIMIT: u64 = 10_000_000_000;
const LOOK_AGAIN: u64 = 100_000;
const KERNEL_SET: usize = 8;

/// Whether there is this news of a child; it stays news.
fn is_news(child: i32, what: i32) -> bool {
    // Offset 16 of siginfo_t.
    const CHILD: usize = 4;
    let mut info = [0i32; 32];
    let flags = what | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    let args = [libc::P_PID as usize, child as usize, info.as_mut_ptr() as usize, flags as usize, 0, 0];
    // SAFETY: the kernel writes one siginfo_t of 128 bytes.
    unsafe { sys::call(libc::SYS_waitid as i32, args) }.is_ok() && info[CHILD] != 0
}

fn send(child: i32, signal: i32) {
    // SAFETY: no memory is passed.
    let _ = unsafe { sys::call(libc::SYS_kill as i32, [child as usize, signal as usize, 0, 0, 0, 0]) };
}

/// At PRECHECKPOINT: notes these children.
pub fn note() {
    let children = family::children().unwrap_or_default();
    let known =
        children.into_iter().filter(|child| is_news(*child, libc::WCONTINUED)).map(|child| table::to_virtual(child));
    NEWS.store(Box::leak(Box::new(known.collect())), Ordering::Release);
}

/// At Placed, when ids are known.
pub fn tell_again() {
    // SAFETY: leaked when it was stored.
    let Some(news) = (unsafe { NEWS.load(Ordering::Acquire).as_ref() }).filter(|news| !news.is_empty()) else { return };
    for child in news.iter().map(|id| table::to_real(*id)).filter(|real| *real > 0) {
        send(child, libc::SIGSTOP);
        let start = sys::clock(libc::CLOCK_MONOTONIC);
        while !is_news(child, libc::WSTOPPED) && sys::clock(libc::CLOCK_MONOTONIC) - start < LIMIT {
            sys::nap(LOOK_AGAIN);
        }
        send(child, libc::SIGCONT);
    }
    let (set, now) = (1u64 << (libc::SIGCHLD - 1), libc::timespec { tv_sec: 0, tv_nsec: 0 });
    let args = [sys::argument(&raw const set), 0, sys::argument(&raw const now), KERNEL_SET, 0, 0];
    // SAFETY: set and time are valid.
    let _ = unsafe { sys::call(libc::SYS_rt_sigtimedwait as i32, args) };
}
