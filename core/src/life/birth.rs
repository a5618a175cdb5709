//! fork(2): the child becomes a member of its own before it runs any code of the application.
//!
//! ```text
//!   parent   prepare: a shared page --clone--> parent handler: waits for the page's word
//!   child                          \---------> child handler: own checkpoint thread, Join; word = JOINED
//! ```
//! The parent goes on only when the child has joined. So a process that forks and ends at once (a daemon) cannot leave a
//! grandchild behind that no generation knows of. Programs that are spawned (vfork, posix_spawn, system, popen) join from
//! their constructor; [`await_children`] keeps their parent's part of a generation open until they have.

use super::{MEMBER, start_checkpoint_thread};
use crate::threads::stop;
use crate::{interface, log, threads};
use dmtcp_plugin_api::abi::Event;
use dmtcp_plugin_api::{proc_files, sys};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Name of a checkpoint thread that has joined: how a parent sees that a child is a member.
pub const MEMBER_NAME: &[u8; 16] = b"dmtcp\0\0\0\0\0\0\0\0\0\0\0";

const BEGUN: u32 = 1;
const SETTLED: u32 = 2;
/// How long the child may take until it runs at all; after that the fork is taken to have failed. In nanoseconds.
const BEGIN_LIMIT: u64 = 200_000_000;
/// How long it may take to join.
const JOIN_LIMIT: u64 = 10_000_000_000;
/// How long a spawned program may take until our library is loaded, before it counts as outside.
const LOAD_LIMIT: u64 = 300_000_000;
const LOOK_AGAIN: u64 = 500_000;
/// How long a process that is about to end may take, before it counts as one that is executing a program.
const END_LIMIT: u64 = 50_000_000;
const PAGE: usize = 4096;

thread_local! {
    /// The page of the fork that the calling thread is in, 0: none.
    static BIRTH: Cell<u64> = const { Cell::new(0) };
}

fn word(page: u64) -> &'static AtomicU32 {
    // SAFETY: the page is mapped until its fork is over, and its first word is used as an atomic only.
    unsafe { &*(page as *const AtomicU32) }
}

/// Runs in the parent before the fork.
pub extern "C" fn prepare() {
    if !super::is_member() {
        return;
    }
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    BIRTH.set(sys::map(0, PAGE, prot, flags, -1, 0).unwrap_or(0));
}

/// Waits on a word shared between processes while it has a value.
fn wait_shared(page: u64, value: u32, limit: u64) {
    let time = libc::timespec { tv_sec: (limit / 1_000_000_000) as i64, tv_nsec: (limit % 1_000_000_000) as i64 };
    // SAFETY: the word and the time are valid. No FUTEX_PRIVATE_FLAG: the page is shared.
    let _ = unsafe {
        sys::call(
            libc::SYS_futex as i32,
            [page as usize, libc::FUTEX_WAIT as usize, value as usize, (&raw const time) as usize, 0, 0],
        )
    };
}

/// Runs in the parent after the fork, whether it succeeded or not.
pub extern "C" fn in_parent() {
    let page = BIRTH.replace(0);
    if page == 0 {
        return;
    }
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    loop {
        let value = word(page).load(Ordering::Acquire);
        let limit = if value == 0 { BEGIN_LIMIT } else { JOIN_LIMIT };
        let passed = sys::clock(libc::CLOCK_MONOTONIC) - start;
        if value == SETTLED || passed > limit {
            break;
        }
        wait_shared(page, value, limit - passed);
    }
    let _ = sys::unmap(page, PAGE as u64);
}

fn settle(page: u64, value: u32) {
    word(page).store(value, Ordering::Release);
    sys::futex_wake(word(page).as_ptr());
}

/// Runs in the child.
pub extern "C" fn in_child() {
    let page = BIRTH.replace(0);
    crate::ARENAS.after_fork();
    crate::host::event(Event::AtforkChild, std::ptr::null_mut());
    MEMBER.store(0, Ordering::Release);
    super::exec::after_fork();
    interface::hold::after_fork();
    super::errand::after_fork();
    let has_hooks = interface::hooks::after_fork();
    if page == 0 {
        return;
    }
    settle(page, BEGUN);
    threads::slot::forget_all();
    MEMBER.store(sys::pid(), Ordering::Release);
    let started = start_checkpoint_thread().and_then(|()| if has_hooks { interface::hooks::start() } else { Ok(()) });
    if let Err(reason) = started {
        MEMBER.store(0, Ordering::Release);
        log::line(dmtcp_plugin_api::core::Level::Error, "core", &format!("a forked child stays outside: {reason}"));
    }
    settle(page, SETTLED);
    let _ = sys::unmap(page, PAGE as u64);
}

/// Children of this process, by the thread that made them.
fn children() -> Vec<i32> {
    let mut out = Vec::new();
    for tid in stop::tasks() {
        let text = proc_files::read_file(&proc_files::task_path(tid, "children")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        out.extend(text.split_ascii_whitespace().filter_map(|w| w.parse::<i32>().ok()));
    }
    out
}

/// How far a child is.
enum Standing {
    /// It has joined, or is no more.
    Settled,
    /// Our library is there, or may still come.
    Underway,
    /// A program without our library is running.
    Outside,
}

/// State letter of a process, as in proc(5); `None` if it is gone.
fn state_letter(pid: i32) -> Option<u8> {
    let state = proc_files::read_file(&format!("/proc/{pid}/stat")).ok()?;
    state.iter().rposition(|&b| b == b')').and_then(|at| state.get(at + 2).copied())
}

/// A child that is no member, for good.
pub struct Outsider {
    /// The process.
    pub pid: i32,
    /// What the user should know.
    pub sentence: String,
}

fn standing(pid: i32) -> Standing {
    let tasks = proc_files::numbers_in(&format!("/proc/{pid}/task")).unwrap_or_default();
    if tasks.is_empty() {
        return Standing::Settled;
    }
    match state_letter(pid) {
        Some(b'Z' | b'X') | None => return Standing::Settled,
        // One that stands still (SIGSTOP) is continued by the coordinator, if it is a member.
        Some(_) => {}
    }
    let name = MEMBER_NAME.split(|&b| b == 0).next().unwrap_or_default();
    for tid in tasks {
        let comm = proc_files::read_file(&format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default();
        if comm.trim_ascii_end() == name {
            return Standing::Settled;
        }
    }
    let maps = proc_files::read_file(&format!("/proc/{pid}/maps")).unwrap_or_default();
    let has = |what: &[u8]| maps.windows(what.len()).any(|w| w == what);
    if has(b"/libdmtcp.so") { Standing::Underway } else { Standing::Outside }
}

/// Waits until every child has joined or is known to stay outside; says who does. Called when all threads are stopped, so
/// that no child can come meanwhile.
pub fn await_children() -> Vec<Outsider> {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let mut waiting = children();
    let mut outside = Vec::new();
    loop {
        let passed = sys::clock(libc::CLOCK_MONOTONIC) - start;
        waiting.retain(|&pid| match standing(pid) {
            Standing::Settled => false,
            Standing::Underway if passed < JOIN_LIMIT => true,
            Standing::Outside if passed < LOAD_LIMIT => true,
            _ => {
                let exe = proc_files::read_link(&format!("/proc/{pid}/exe")).unwrap_or_default();
                let sentence = format!(
                    "child process {pid} ({}) runs outside of control (static, setuid, or by dmtcp_nocheckpoint): it will not be restarted",
                    String::from_utf8_lossy(&exe)
                );
                outside.push(Outsider { pid, sentence });
                false
            }
        });
        if waiting.is_empty() {
            return outside;
        }
        sys::nap(LOOK_AGAIN);
    }
}

/// Whether a child has ended as a whole, so that it can be waited for: its first thread may be a zombie long before.
fn has_ended(pid: i32) -> bool {
    // Offset 16 of siginfo_t.
    const CHILD_PID: usize = 4;
    let mut info = [0i32; 32];
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    // SAFETY: the kernel writes one siginfo_t of 128 bytes.
    let looked = unsafe {
        let args = [libc::P_PID as usize, pid as usize, info.as_mut_ptr() as usize, flags as usize, 0, 0];
        sys::call(libc::SYS_waitid as i32, args)
    };
    // An error: it is no child any more.
    looked.is_err() || info[CHILD_PID] != 0
}

/// Whether a child is missing from a generation although it lives, now that every process of it has stopped: it was in the
/// middle of an exec and will join again. One that was about to end is given the time to.
pub fn misses_a_child(members: &[i32], outside: &[Outsider]) -> bool {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let strangers: Vec<i32> = children().into_iter().filter(|pid| !members.contains(pid)).collect();
    strangers.into_iter().filter(|pid| outside.iter().all(|o| o.pid != *pid)).any(|pid| {
        while !has_ended(pid) {
            if sys::clock(libc::CLOCK_MONOTONIC) - start > END_LIMIT {
                return true;
            }
            sys::nap(LOOK_AGAIN);
        }
        false
    })
}

/// Marks the calling thread as the checkpoint thread of a member.
pub fn show_membership() {
    let _ = sys::prctl(libc::PR_SET_NAME, MEMBER_NAME.as_ptr() as usize, 0, 0, 0);
}
