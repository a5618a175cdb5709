//! fork(2): the child becomes a member of its own, beside what the application does in it.
//!
//! ```text
//!   parent   --fork--> goes on at once               stop: [`await_children`]      end: [`see_off`]
//!   child       \----> its checkpoint thread starts; goes on; has joined some time later
//! ```
//! Nobody waits for a child to join but those for whom it matters: its parent's part of a generation stays open until all
//! its children have joined (the same with programs that are spawned, by vfork, posix_spawn, system, popen: they join from
//! their constructor), and a process that ends waits for the children that it leaves behind, since after that nobody would
//! know of them. So a daemon cannot get away; one whose parent is killed just then is looked for ([`super::orphans`]).
//!
//! An exec ends the checkpoint thread, and the new program joins anew. Who executes one just while all others stop is looked
//! for by its parent; who has no parent in the computation (the process that was launched, an orphan), by a process that
//! the coordinator tells of those that have left a moment ago, the strays.

use super::standstill::Awakened;
use super::{MEMBER, adoption, start_checkpoint_thread};
use crate::{interface, log, threads};
use dmtcp_plugin_api::abi::Event;
use dmtcp_plugin_api::{proc_files, sys};
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

/// Name of a checkpoint thread that has joined: how a parent sees that a child is a member.
pub const MEMBER_NAME: &[u8; 16] = b"dmtcp\0\0\0\0\0\0\0\0\0\0\0";

/// How long a child may take to join.
const JOIN_LIMIT: u64 = 10_000_000_000;
/// How long it may be unclear whether our library will be loaded into a program, before that counts as outside.
const LOAD_LIMIT: u64 = 300_000_000;
/// The same for one that has just left, which costs the checkpoints of a few seconds at most.
const STRAY_LIMIT: u64 = 3_000_000_000;
const LOOK_AGAIN: u64 = 500_000;
/// How long a process that is about to end may take, before it counts as one that is executing a program.
const END_LIMIT: u64 = 50_000_000;

/// What the name of our library contains.
pub const LIBRARY: &[u8] = b"/libdmtcp.so";
/// What that of the dynamic loader which loads it contains: before glibc 2.34 the file is named by the version.
const LOADERS: [&[u8]; 2] = [b"/ld-linux-x86-64", b"/ld-2."];

thread_local! {
    /// Whether the calling thread's forks are to be seen off at once: libc ends the parent, past us.
    static LEAVING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this process has forked.
static HAS_FORKED: AtomicBool = AtomicBool::new(false);

/// Runs before the fork.
pub extern "C" fn before() {
    adoption::birth_begins();
    crate::host::forks::before();
}

/// Runs in the parent after the fork, whether it succeeded or not.
pub extern "C" fn in_parent() {
    adoption::birth_ends();
    crate::host::forks::in_parent();
    HAS_FORKED.store(true, Ordering::Relaxed);
    if LEAVING.get() {
        see_off();
    }
}

/// Runs in the child.
pub extern "C" fn in_child() {
    let is_child_of_member = MEMBER.load(Ordering::Acquire) != 0;
    LEAVING.set(false);
    crate::host::forks::in_child();
    let has_hooks = forget_parent();
    if !is_child_of_member {
        return;
    }
    threads::slot::forget_all();
    super::keeper::begin();
    MEMBER.store(sys::pid(), Ordering::Release);
    let started = start_checkpoint_thread(has_hooks);
    let started = started.and_then(|()| if has_hooks { interface::hooks::start() } else { Ok(()) });
    if let Err(reason) = started {
        MEMBER.store(0, Ordering::Release);
        log::line(dmtcp_plugin_api::core::Level::Error, "core", &format!("a forked child stays outside: {reason}"));
    }
}

/// In a child that was made past us, on its new checkpoint thread, while its own thread waits.
pub fn late() {
    forget_parent();
    threads::slot::forget_all();
    MEMBER.store(sys::pid(), Ordering::Release);
}

/// What was the parent's is not the child's. Whether hooks of C plugins had a thread there.
fn forget_parent() -> bool {
    HAS_FORKED.store(false, Ordering::Relaxed);
    crate::ARENAS.after_fork();
    crate::host::description::after_fork();
    crate::host::event_or_tell(Event::AtforkChild);
    if crate::host::forks::is_vfork() {
        crate::host::event_or_tell(Event::VforkChild);
    }
    MEMBER.store(0, Ordering::Release);
    super::exec::after_fork();
    super::errand::after_fork();
    interface::hold::after_fork();
    interface::news::after_fork();
    adoption::after_fork();
    interface::hooks::after_fork()
}

/// Whether the calling process has children at all. Allocates nothing: the caller may be a signal handler.
fn has_children() -> bool {
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    let args = [libc::P_ALL as usize, 0, 0, flags as usize, 0, 0];
    // SAFETY: no memory is passed.
    unsafe { sys::call(libc::SYS_waitid as i32, args) }.is_ok()
}

/// Before the calling process ends: waits for the children that are about to join.
pub fn see_off() {
    if !HAS_FORKED.load(Ordering::Relaxed) || !super::is_member() || !has_children() {
        return;
    }
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let is_on_its_way = |pid| is_underway(pid) && !adoption::is_forsaken(pid);
    let mut awakened = Awakened::default();
    while sys::clock(libc::CLOCK_MONOTONIC) - start < JOIN_LIMIT {
        let waiting: Vec<i32> = children().into_iter().filter(|pid| is_on_its_way(*pid)).collect();
        awakened.let_stop_again(|pid| !waiting.contains(&pid));
        if waiting.is_empty() {
            return;
        }
        waiting.into_iter().for_each(|pid| awakened.awaken(pid));
        sys::nap(LOOK_AGAIN);
    }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// Children that are left behind join first.
    fn _exit(status: c_int) {
        see_off();
        next(status)
    }
    /// As _exit.
    fn _Exit(status: c_int) {
        see_off();
        next(status)
    }
    /// Its first process ends inside of libc.
    fn daemon(keep_directory: c_int, keep_streams: c_int) -> c_int {
        LEAVING.set(true);
        let result = next(keep_directory, keep_streams);
        LEAVING.set(false);
        result
    }
}

/// Children of this process.
fn children() -> Vec<i32> {
    children_of("/proc/thread-self/..")
}

/// Children of a process with this directory of tasks, by the task that made them.
pub fn children_of(tasks: &str) -> Vec<i32> {
    let mut out = Vec::new();
    for tid in proc_files::numbers_in(tasks).unwrap_or_default() {
        let text = proc_files::read_file(&format!("{tasks}/{tid}/children")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        out.extend(text.split_ascii_whitespace().filter_map(|w| w.parse::<i32>().ok()));
    }
    out
}

/// Whether a process is about to become a member.
pub fn is_underway(pid: i32) -> bool {
    matches!(standing(pid), Standing::Underway)
}

/// How far a child is.
enum Standing {
    /// It has joined, or is no more.
    Settled,
    /// Our library is there, or will come.
    Underway,
    /// A program without our library is running, or one that is only just being executed.
    Unclear,
    /// A program is running that our library will never come to.
    Outside,
}

/// State letter of a process, as in proc(5); `None` if it is gone.
pub fn state_letter(pid: i32) -> Option<u8> {
    proc_files::state_in(&proc_files::read_file(&format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a task is about to be gone.
fn is_ending(pid: i32, tid: i32) -> bool {
    /// Among the fields from the state on.
    const FLAGS: usize = 6;
    const PF_EXITING: u64 = 4;
    let stat = proc_files::read_file(&format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    let flags = proc_files::stat_fields(&stat).nth(FLAGS);
    flags.and_then(|word| word.parse::<u64>().ok()).is_none_or(|flags| flags & PF_EXITING != 0)
}

/// A child that is no member, for good.
pub struct Outsider {
    /// The process.
    pub pid: i32,
    /// What the user should know; nothing of one that has nothing to do with us.
    pub sentence: Option<String>,
}

fn standing(pid: i32) -> Standing {
    let tasks = proc_files::numbers_in(&format!("/proc/{pid}/task")).unwrap_or_default();
    if tasks.is_empty() {
        return Standing::Settled;
    }
    match state_letter(pid) {
        Some(b'Z' | b'X') | None => return Standing::Settled,
        // One that stands still (SIGSTOP) is continued by the coordinator, if it is a member; else by who waits for it.
        Some(_) => {}
    }
    let name = MEMBER_NAME.split(|&b| b == 0).next().unwrap_or_default();
    for tid in tasks {
        let comm = proc_files::read_file(&format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default();
        // An exec ends it, and it can be seen for a while.
        if comm.trim_ascii_end() == name && !is_ending(pid, tid) {
            return Standing::Settled;
        }
    }
    let maps = proc_files::read_file(&format!("/proc/{pid}/maps")).unwrap_or_default();
    if maps.windows(LIBRARY.len()).any(|w| w == LIBRARY) { Standing::Underway } else { prospect(pid) }
}

/// What is to be expected of a process that our library is not in.
fn prospect(pid: i32) -> Standing {
    let read = |file: &str| proc_files::read_file(&format!("/proc/{pid}/{file}")).unwrap_or_default();
    let environment = read("environ");
    match environment.is_empty() {
        true if has_memory(pid) => Standing::Unclear,
        // It is ending, and can be waited for in a moment.
        true => Standing::Underway,
        false if !is_ours(&environment) => Standing::Outside,
        // The dynamic loader is there as soon as the program is.
        false if is_secure(&read("auxv")) => Standing::Outside,
        false if has_loader(&read("maps")) => Standing::Underway,
        false => Standing::Unclear,
    }
}

/// Whether the dynamic loader is among these mappings.
fn has_loader(maps: &[u8]) -> bool {
    LOADERS.iter().any(|loader| maps.windows(loader.len()).any(|w| w == *loader))
}

/// Whether this is the environment of a program that our library was to be loaded into.
fn is_ours(environment: &[u8]) -> bool {
    let preloads = |entry: &[u8]| {
        entry.strip_prefix(b"LD_PRELOAD=").is_some_and(|list| list.windows(LIBRARY.len()).any(|w| w == LIBRARY))
    };
    environment.split(|&b| b == 0).any(preloads)
}

/// Whether the kernel has told a program that it runs with other rights than whoever started it.
fn is_secure(vector: &[u8]) -> bool {
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    vector.chunks_exact(16).any(|entry| word(&entry[..8]) == libc::AT_SECURE && word(&entry[8..]) != 0)
}

/// Waits until every child, and every stray, has joined, has ended or is known to stay outside; says who does. Called when
/// all threads are stopped, so that no child can come meanwhile.
pub fn await_children(strays: &[i32]) -> Vec<Outsider> {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let own = children();
    let strangers = strays.iter().filter(|pid| !own.contains(pid));
    let mut waiting: Vec<i32> = own.iter().chain(strangers).copied().collect();
    let mut outside = Vec::new();
    let mut asked = Vec::new();
    let mut awakened = Awakened::default();
    loop {
        let passed = sys::clock(libc::CLOCK_MONOTONIC) - start;
        waiting.retain(|&pid| match standing(pid) {
            Standing::Settled => false,
            Standing::Underway if passed < JOIN_LIMIT => {
                if own.contains(&pid) && !asked.contains(&pid) && adoption::ask(pid) {
                    asked.push(pid);
                }
                awakened.awaken(pid);
                true
            }
            Standing::Unclear if passed < if own.contains(&pid) { LOAD_LIMIT } else { STRAY_LIMIT } => true,
            _ => {
                // Of a program with other rights its name is all that may be read.
                let name = || proc_files::read_file(&format!("/proc/{pid}/comm")).unwrap_or_default();
                let exe = proc_files::read_link(&format!("/proc/{pid}/exe")).unwrap_or_else(|_| name());
                let is_child = own.contains(&pid);
                let environment = proc_files::read_file(&format!("/proc/{pid}/environ")).unwrap_or_default();
                // A stray's id may be a stranger's by now.
                let sentence = (is_child || is_ours(&environment)).then(|| {
                    format!(
                        "{} {pid} ({}) runs outside of control (static, setuid, or by dmtcp_nocheckpoint): it will not be restarted",
                        if is_child { "child process" } else { "process" },
                        String::from_utf8_lossy(exe.trim_ascii_end())
                    )
                });
                outside.push(Outsider { pid, sentence });
                false
            }
        });
        awakened.let_stop_again(|pid| !waiting.contains(&pid));
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

/// Whether a process has memory, and so may run: one that ends has given it up long before it can be waited for.
fn has_memory(pid: i32) -> bool {
    proc_files::read_file(&format!("/proc/{pid}/statm")).is_ok_and(|sizes| !sizes.starts_with(b"0 "))
}

/// Children that may still run, [`await_children`] having returned.
pub fn running_children() -> Vec<i32> {
    children().into_iter().filter(|pid| has_memory(*pid)).collect()
}

/// Whether a child or a stray is missing from a generation, now that every process of it has stopped: it was in the middle of
/// an exec, was not stopped, and its new program runs while others are looked at; perhaps it has ended by now. `running`
/// are the children that could still do something before all had stopped. Others that are about to end are given the
/// time to.
pub fn misses_somebody(members: &[i32], outside: &[Outsider], running: &[i32], strays: &[i32]) -> bool {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let is_stranger = |pid: &i32| !members.contains(pid) && outside.iter().all(|o| o.pid != *pid);
    if running.iter().any(is_stranger) {
        return true;
    }
    let may_join = |pid: &i32| matches!(standing(*pid), Standing::Underway | Standing::Unclear);
    if strays.iter().filter(|pid| is_stranger(pid)).any(may_join) {
        return true;
    }
    children().into_iter().filter(is_stranger).any(|pid| {
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
