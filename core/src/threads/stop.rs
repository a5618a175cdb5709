//! The stop: a bounded transaction. Either every thread of the application is parked, or none is and the error names who.
//!
//! In passes over all tasks: sample the system call, send the signal with the slot's address; wait for announcements;
//! look for new tasks. A thread that blocks our signal has it unblocked by a tracer. A thread that was in the vdso, or whose
//! signal got lost, is signalled again. When all have parked, those that are in a handler that has interrupted the vdso go on
//! for a moment, and are signalled again. When the time is up everybody is released.

use super::returning::Looker;
use super::slot::{self, Order, Role, Sample, Slot, State};
use super::{EPOCH, PARKED, handler, parked, release, release_alone, tracer};
use crate::config;
use crate::life::exec;
use dmtcp_plugin_api::headroom::Raised;
use dmtcp_plugin_api::{proc_files, sys};
use std::sync::atomic::Ordering;

/// How long a thread may take to park, in nanoseconds, before the stop fails.
const LIMIT: u64 = 10_000_000_000;
/// How long to wait before looking again whether a thread has left its slot's stack, in nanoseconds.
const LEAVE: u64 = 20_000;
/// How long to wait for an announcement before looking again.
const PATIENCE: u64 = 20_000_000;
/// After this long without an answer it is looked whether the thread blocks our signal.
const SUSPICIOUS: u64 = 30_000_000;
/// After this long without an answer the signal is sent anew: the first may have been consumed by a sigwait.
const RESEND: u64 = 500_000_000;
/// So long a stop waits for handlers that have interrupted the vdso to end.
const HANDLERS: u64 = 500_000_000;
/// How long such a handler runs between two looks at it.
const MOMENT: u64 = 200_000;

/// All tasks of the process, ended ones that are not reaped included.
pub fn tasks() -> Vec<i32> {
    proc_files::numbers_in("/proc/thread-self/..").unwrap_or_default()
}

/// State letter of a task in /proc, `X` if it is gone.
pub fn task_state(tid: i32) -> u8 {
    let Ok(text) = proc_files::read_file(&proc_files::task_path(tid, "stat")) else { return b'X' };
    proc_files::state_in(&text).unwrap_or(b'X')
}

/// Whether a task still runs code.
pub fn is_alive(tid: i32) -> bool {
    !matches!(task_state(tid), b'Z' | b'X')
}

/// Parses /proc/PID/task/TID/syscall: `running`, `-1 sp pc`, or `number a0 .. a5 sp pc`.
pub fn parse_sample(text: &[u8]) -> Option<Sample> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse::<i64>().ok()?;
    let mut hex = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let mut sample = Sample { number, ..Sample::default() };
    if number >= 0 {
        for argument in &mut sample.arguments {
            *argument = hex()?;
        }
    }
    sample.sp = hex()?;
    sample.pc = hex()?;
    Some(sample)
}

/// What the kernel says of the call that a thread is in; `None`: it runs, or the kernel does not tell (proc(5), /proc/PID/syscall).
pub fn call_of(tid: i32) -> Option<Sample> {
    let text =
        config::allowed("proc_syscall").then(|| proc_files::read_file(&proc_files::task_path(tid, "syscall")).ok());
    parse_sample(&text??)
}

fn sample(tid: i32) -> Sample {
    call_of(tid).unwrap_or(Sample { number: -1, ..Sample::default() })
}

/// The code that our signal carries. The kernel forgets signals of timers when a program is executed, and those that it takes
/// for such: one that has not been handled by then would outlive its handler and end the new program.
pub const CODE: i32 = libc::SI_TIMER;

/// A `siginfo_t` for rt_tgsigqueueinfo(2).
#[repr(C)]
struct Info {
    number: i32,
    error: i32,
    code: i32,
    padding: i32,
    pid: i32,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

/// Who has sent a signal of ours, and what it carries; `None`: it is not one of ours.
pub fn content(info: *const libc::siginfo_t) -> Option<(i32, u64)> {
    // SAFETY: the kernel passes a valid siginfo of this layout to a handler.
    let info = unsafe { &*info.cast::<Info>() };
    (info.code == CODE).then_some((info.pid, info.value))
}

/// Queues our signal for a thread.
pub fn send_to(process: i32, tid: i32, signal: i32, value: u64) -> Result<(), i32> {
    let info = Info { number: signal, error: 0, code: CODE, padding: 0, pid: sys::pid(), uid: 0, value, rest: [0; 12] };
    let queue = || {
        let arguments = [process as usize, tid as usize, signal as usize, sys::argument(&raw const info), 0, 0];
        // SAFETY: `info` is a full siginfo of 128 bytes.
        unsafe { sys::call(libc::SYS_rt_tgsigqueueinfo as i32, arguments) }.map(drop)
    };
    match queue() {
        // As many signals are queued as the application allows itself.
        Err(libc::EAGAIN) => {
            let _raised = Raised::new(libc::RLIMIT_SIGPENDING);
            queue()
        }
        result => result,
    }
}

/// A thread that would not park.
fn describe(tid: i32) -> String {
    let read = |file| {
        proc_files::read_file(&proc_files::task_path(tid, file))
            .map(|t| String::from_utf8_lossy(t.trim_ascii()).into_owned())
            .unwrap_or_default()
    };
    format!(
        "thread {tid} ({}) cannot be stopped: state {}, waiting in '{}'; it may block every signal or sit in the kernel",
        read("comm"),
        task_state(tid) as char,
        read("wchan")
    )
}

/// Stops all threads of the application but those in `spare`.
pub fn stop(signal: i32, spare: &[i32]) -> Result<(), String> {
    let me = sys::tid();
    let epoch = EPOCH.load(Ordering::Acquire);
    await_leavers(epoch);
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let mut sent: Vec<(i32, u64)> = Vec::new();
    let mut unblocked: Vec<i32> = Vec::new();
    let mut looker = Looker::new();
    loop {
        let seen = PARKED.load(Ordering::Acquire);
        let now = sys::clock(libc::CLOCK_MONOTONIC);
        let tasks: Vec<i32> = tasks().into_iter().filter(|t| *t != me && !spare.contains(t)).collect();
        forget_the_dead(&tasks);
        let mut missing = None;
        for &tid in &tasks {
            let slot = slot::of(tid).map_err(|e| give_up(format!("no memory for a stack to park on (errno {e})")))?;
            match slot.state() {
                State::Parked => continue,
                State::Entered => {
                    missing = Some(tid);
                    continue;
                }
                State::Signalled => {
                    missing = Some(tid);
                    let at = sent.iter().find(|s| s.0 == tid).map_or(0, |s| s.1);
                    let ours = 1 << (signal - 1);
                    let suspicious = now - at > SUSPICIOUS && !exec::is_underway() && !unblocked.contains(&tid);
                    if suspicious && tracer::blocks(tid, ours) {
                        unblocked.push(tid);
                        tracer::unblock(tid, ours);
                    }
                    // It may come in at this moment; else the signal that is under way is void.
                    if now - at < RESEND || !slot.advance(State::Signalled, State::Free) {
                        continue;
                    }
                }
                State::Free | State::Again | State::Leaving => {}
            }
            if !is_alive(tid) {
                slot.set_state(State::Free);
                continue;
            }
            missing = Some(tid);
            let sample = sample(tid);
            if matches!(sample.number, libc::SYS_execve | libc::SYS_execveat) {
                // It is about to be another program, or to fail.
                continue;
            }
            // SAFETY: the thread is not parked and has not been signalled with this slot, or its signal is void: nobody
            // reads the slot until the state says so.
            unsafe {
                let saved = slot.saved();
                saved.sample = sample;
                saved.epoch = epoch;
            }
            slot.give_order(Order::Stay);
            slot.set_state(State::Signalled);
            match send_to(sys::pid(), slot.tid(), signal, slot.address()) {
                Ok(()) => {
                    sent.retain(|s| s.0 != tid);
                    sent.push((tid, now));
                }
                Err(libc::ESRCH) => slot.set_state(State::Free),
                Err(libc::EAGAIN) => {}
                Err(e) => return Err(give_up(format!("thread {tid} cannot be signalled (errno {e})"))),
            }
        }
        let Some(tid) = missing else {
            if now - start < HANDLERS && let_handlers_end(&mut looker) {
                continue;
            }
            return Ok(());
        };
        if now - start > LIMIT {
            return Err(give_up(describe(tid)));
        }
        if PARKED.load(Ordering::Acquire) == seen {
            handler::wait_for_announcements(&PARKED, seen, PATIENCE);
        }
    }
}

/// Lets those of the parked threads go on for a moment that will return into the vdso; the value is whether there are any.
fn let_handlers_end(looker: &mut Looker) -> bool {
    let inside: Vec<i32> =
        parked().into_iter().filter(|slot| looker.returns_into_vdso(slot)).map(|slot| slot.tid()).collect();
    if inside.is_empty() {
        return false;
    }
    inside.into_iter().for_each(release_alone);
    sys::nap(MOMENT);
    true
}

/// Waits for threads that the last release has let go and that have not run since: their slots still say `Parked`.
fn await_leavers(epoch: u32) {
    let leaves = |slot: &&Slot| {
        // SAFETY: nobody writes the epoch of a slot between the signal and the next one, which is ours.
        slot.state() == State::Parked && slot.role() == Role::Application && unsafe { slot.saved() }.epoch != epoch
    };
    for slot in slot::all().filter(leaves) {
        while slot.state() == State::Parked && is_alive(slot.tid()) {
            sys::nap(LEAVE);
        }
    }
}

/// Slots of threads that are no more are free again.
fn forget_the_dead(tasks: &[i32]) {
    for slot in slot::all() {
        if slot.role() == Role::Application && slot.state() != State::Free && !tasks.contains(&slot.tid()) {
            slot.set_state(State::Free);
        }
    }
}

fn give_up(reason: String) -> String {
    release();
    for slot in slot::all() {
        slot.advance(State::Signalled, State::Free);
    }
    reason
}
