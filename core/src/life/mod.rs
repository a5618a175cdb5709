//! The life of a process in a computation: constructor, checkpoint thread, checkpoints, restarts.
//!
//! ```text
//!   constructor --> checkpoint thread: own descriptor table, connect, Join --> idle
//!   idle --Checkpoint--> [checkpoint] --> idle
//!   restart: [restore] --> Join as restarted --> RESTART hooks --> release --> idle
//!   fork: [birth] the child joins beside what it does; exec: [exec] the environment goes along
//! ```

pub mod adoption;
pub mod alone;
pub mod birth;
pub mod checkpoint;
pub mod clone;
mod context;
pub mod descriptors;
pub mod errand;
pub mod exec;
pub mod exec_list;
pub mod keeper;
pub mod link;
pub mod orphans;
mod pause;
pub mod raw_calls;
pub mod refusal;
pub mod restore;
mod room;
pub mod shells;
mod standstill;
pub mod worker;
mod writing;

use crate::host::late::pass_dlsym;
use crate::threads::spawn;
use crate::{capture, config, host, interface, log, signal, threads};
use dmtcp_plugin_api::abi::{Event, InitPayload};
use dmtcp_plugin_api::core::Level;
use dmtcp_plugin_api::sys;
use dmtcp_protocol::env as names;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, AtomicU32, Ordering};

/// Bytes of the checkpoint thread's stack, its thread control block included, but for the thread-local variables of the
/// libraries, for which libc takes room from it: under ThreadSanitizer that is more than the rest.
const STACK: usize = 512 << 10;
/// How long the constructor waits until the process is a member of the computation, in nanoseconds.
const JOIN_LIMIT: u64 = 15_000_000_000;
/// How long a program that is asked to stop waits for that before it executes another one, in nanoseconds.
const STOP_LIMIT: u64 = 15_000_000_000;
const LOOK_AGAIN: u64 = 500_000;
/// How old a process is, in nanoseconds, that cannot just have been forked in order to execute a program.
const YOUTH: u64 = 100_000_000;
/// All signals but those that libc uses to change ids and to cancel: a thread that blocks them hangs setuid(3).
pub const CHECKPOINT_THREAD_MASK: u64 = !(1 << 31 | 1 << 32);

/// Pid of the process that the constructor ran in: a fork's child is another one, and has no checkpoint thread.
static MEMBER: AtomicI32 = AtomicI32::new(0);
/// Pid of the process that the constructor ran in, whether it is a member or not.
static PROGRAM: AtomicI32 = AtomicI32::new(0);
/// Futex word: whether the checkpoint thread has joined.
static JOINED: AtomicU32 = AtomicU32::new(UNDERWAY);
const UNDERWAY: u32 = 0;
const AWAITED: u32 = 3;
const MEMBERSHIP: u32 = 1;
const FAILED: u32 = 2;
/// Futex word: whether the checkpoint thread runs code of ours, and changes no mask of signals any more.
static BEGUN: AtomicU32 = AtomicU32::new(0);
/// Descriptor of the conversation that the launch handed over, until the checkpoint thread takes it.
static HANDED_OVER: AtomicI32 = AtomicI32::new(NOTHING);
const NOTHING: i32 = -1;
static FAILURE: AtomicPtr<String> = AtomicPtr::new(std::ptr::null_mut());
static RSEQ_OFFSET: AtomicI64 = AtomicI64::new(i64::MIN);

/// Distance of the rseq area from the thread pointer; `None` if this libc registers none.
pub fn libc_rseq_offset() -> Option<i64> {
    Some(RSEQ_OFFSET.load(Ordering::Acquire)).filter(|o| *o != i64::MIN)
}

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

/// Whether this process is a member of a computation (and no fork's child of one).
pub fn is_member() -> bool {
    MEMBER.load(Ordering::Acquire) == sys::pid()
}

#[ctor::ctor(unsafe)]
fn constructor() {
    let Some(config) = config::config() else { return };
    host::wiring::dmtcp_core_wire();
    if let Some(reason) = obstacle() {
        fail(reason);
    }
    if let Err(reason) = begin(config) {
        fail(&reason);
    }
}

/// What this process is that cannot be checkpointed.
fn obstacle() -> Option<&'static str> {
    config::variable("LD_PRELOAD").is_some_and(|list| list.contains("/vgpreload_core")).then_some(
        "this program runs under valgrind, which simulates a processor and cannot be checkpointed: run it without one of the two",
    )
}

/// Runs after the application's destructors, since we were loaded before its libraries' dependencies were initialised.
#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = destructor;

extern "C" fn destructor() {
    if is_member() {
        host::event_or_tell(Event::Exit);
        birth::see_off();
    }
}

/// Ends the process for a failure of ours, before the program has begun.
#[allow(clippy::disallowed_methods, reason = "abort ends the process where the user asked for a core file")]
pub fn fail(reason: &str) -> ! {
    log::line(Level::Error, "core", reason);
    let _ = sys::write(2, format!("dmtcp: {reason}\n").as_bytes());
    let is_set = |name| config::variable(name).is_some_and(|value| !value.is_empty() && value != "0");
    if names::ABORT_ON_FAILURE.into_iter().any(is_set) {
        // SAFETY: no memory is passed. The signal ends the process, which leaves a core file.
        let _ = unsafe { sys::call(libc::SYS_kill as i32, [sys::pid() as usize, libc::SIGABRT as usize, 0, 0, 0, 0]) };
    }
    if is_set(names::SLEEP_ON_FAILURE) {
        let _ = sys::write(2, format!("dmtcp: waiting for a debugger: gdb -p {}\n", sys::pid()).as_bytes());
        loop {
            sys::nap(1_000_000_000);
        }
    }
    let code = config::variable(names::FAIL_RC).and_then(|c| c.parse().ok());
    exit(code.unwrap_or(names::FAILURE))
}

/// exit_group(2).
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        let _ = unsafe { sys::call(libc::SYS_exit_group as i32, [code as usize, 0, 0, 0, 0, 0]) };
    }
}

fn begin(config: &'static config::Config) -> Result<(), String> {
    // SAFETY: libc exports these with these types or not at all.
    unsafe {
        let offset = pass_dlsym(std::ptr::null_mut(), c"__rseq_offset".as_ptr()).cast::<isize>();
        let size = pass_dlsym(std::ptr::null_mut(), c"__rseq_size".as_ptr()).cast::<u32>();
        if !offset.is_null() && !size.is_null() && *size > 0 {
            RSEQ_OFFSET.store(*offset as i64, Ordering::Release);
        }
        pthread_atfork(Some(birth::before), Some(birth::in_parent), Some(birth::in_child));
    }
    capture::note_vdso();
    refusal::begin()?;
    threads::install_handler(config.signal).map_err(|e| {
        format!("signal {} cannot be used to stop threads (errno {e}): use --ckpt-signal", config.signal)
    })?;
    let length = STACK + spawn::room_for_variables();
    let stack = sys::map_anonymous(length).map_err(|e| format!("no memory for the checkpoint thread (errno {e})"))?;
    let mut payload = InitPayload { stack_low: stack as usize, stack_high: stack as usize + length };
    dmtcp_plugin_api::arena::set_checkpoint_stack(payload.stack_low, payload.stack_high);
    // Plugins may have something to add.
    exec::note();
    host::initialise(&mut payload)?;
    keeper::begin();
    MEMBER.store(sys::pid(), Ordering::Release);
    PROGRAM.store(sys::pid(), Ordering::Relaxed);
    // A checkpoint that is asked for as soon as the process has joined waits until the C plugins know of themselves.
    interface::hold::hold();
    // Whoever has started a program in the computation waits for it when there is a checkpoint; one that was launched is
    // told at once if it cannot join, and C plugins know from the start where they are.
    let launched = config::variable(names::LAUNCHED).is_some_and(|pid| pid == sys::pid().to_string());
    let handed_over = take_connection().filter(|_| launched);
    HANDED_OVER.store(handed_over.unwrap_or(NOTHING), Ordering::Relaxed);
    start_checkpoint_thread(launched || config.alone || interface::plugins::are_there())?;
    if let Some(number) = handed_over {
        sys::close(number);
    }
    let loaded = interface::plugins::load();
    host::happened::after_exec();
    interface::hold::release();
    // Who executes programs past libc is not met before that.
    if is_aged() {
        settle_program();
    }
    loaded
}

/// The launch's conversation with the coordinator, if this process inherited it. Nobody else is to find its number.
fn take_connection() -> Option<i32> {
    let number = config::variable(names::COORD_CONNECTION)?;
    config::forget(names::COORD_CONNECTION);
    number.parse().ok().filter(|number| *number >= 0)
}

/// As [`take_connection`], for the checkpoint thread; once.
fn handed_over() -> Option<i32> {
    Some(HANDED_OVER.swap(NOTHING, Ordering::Relaxed)).filter(|number| *number != NOTHING)
}

/// Starts the checkpoint thread on its stack, and waits until it has joined if that is wanted.
fn start_checkpoint_thread(waits: bool) -> Result<(), String> {
    let (stack, end) = dmtcp_plugin_api::arena::checkpoint_stack();
    JOINED.store(if waits { AWAITED } else { UNDERWAY }, Ordering::Release);
    BEGUN.store(0, Ordering::Release);
    let (stack_low, length) = (stack as u64, end - stack);
    spawn::spawn(spawn::Maker::Libc, checkpoint_thread, stack_low, length, CHECKPOINT_THREAD_MASK)
        .map_err(|e| format!("the checkpoint thread cannot be started (errno {e})"))?;
    // The application starts with our signal unblocked, whatever it inherited.
    signal::unblock();
    if waits { await_membership() } else { Ok(()) }
}

/// Waits until the checkpoint thread has joined.
fn await_membership() -> Result<(), String> {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    loop {
        match JOINED.load(Ordering::Acquire) {
            MEMBERSHIP => return Ok(()),
            FAILED => return Err(failure()),
            _ if sys::clock(libc::CLOCK_MONOTONIC) - start > JOIN_LIMIT => {
                return Err(format!("the coordinator did not answer within {} s", JOIN_LIMIT / 1_000_000_000));
            }
            word => {
                let _ = sys::futex_wait(JOINED.as_ptr(), word, Some(JOIN_LIMIT));
            }
        }
    }
}

/// Before the calling process executes another program: one that was executed itself joins first, and who is asked to stop
/// does. Else a chain of programs that execute each other at once would never be met by a checkpoint.
///
/// The checkpoint thread has begun by then, too: the kernel gives a new thread, and one that changes its mask, any signal
/// that is pending for the process, and a SIGSTOP that a thread takes while another one executes a program can get lost.
fn settle_program() {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    while BEGUN.load(Ordering::Acquire) == 0 && sys::clock(libc::CLOCK_MONOTONIC) - start < JOIN_LIMIT {
        let _ = sys::futex_wait(BEGUN.as_ptr(), 0, Some(JOIN_LIMIT));
    }
    if PROGRAM.load(Ordering::Relaxed) == sys::pid() {
        let _ = await_membership();
    }
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    while interface::news::is_pending() && sys::clock(libc::CLOCK_MONOTONIC) - start < STOP_LIMIT {
        sys::nap(LOOK_AGAIN);
    }
}

/// Whether the process was there some time before its program: it has executed one after another, perhaps past libc.
fn is_aged() -> bool {
    orphans::age("/proc/thread-self/../../stat").is_some_and(|age| age > YOUTH)
}

/// Why the checkpoint thread could not join.
fn failure() -> String {
    // SAFETY: leaked by the checkpoint thread before it said that it failed.
    unsafe { FAILURE.load(Ordering::Acquire).as_ref() }.cloned().unwrap_or_default()
}

extern "C" fn checkpoint_thread(stack: *mut c_void) -> *mut c_void {
    BEGUN.store(1, Ordering::Release);
    sys::futex_wake(BEGUN.as_ptr());
    adoption::note_thread();
    let tell = |word| {
        JOINED.store(word, Ordering::Release);
        sys::futex_wake(JOINED.as_ptr());
    };
    let (_, end) = dmtcp_plugin_api::arena::checkpoint_stack();
    let awaited = JOINED.load(Ordering::Acquire) == AWAITED;
    host::settle_after_fork();
    match worker::Worker::begin(stack as u64, end as u64 - stack as u64, awaited) {
        Ok(mut worker) => {
            tell(MEMBERSHIP);
            worker.serve()
        }
        Err(reason) if !awaited => fail(&reason),
        Err(reason) => {
            FAILURE.store(Box::leak(Box::new(reason)), Ordering::Release);
            tell(FAILED);
            std::ptr::null_mut()
        }
    }
}
