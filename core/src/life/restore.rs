//! Coming back to life: what runs in restored memory, from the stub's first call to the release of the threads.
//!
//! ```text
//!   stub -> enter_process: process-wide state; no thread pointer yet, no panic, no allocation
//!        -> enter_task on each task (threads::handler): threads park again; the checkpoint thread returns from `capture`
//!   rejoin: descriptors, Join as restarted, barrier Restarted, RESTART hooks, barrier Resumed, release
//! ```

use super::context::{self, RESTARTED};
use super::worker::{NotJoined, Worker, make_buffer};
use super::{checkpoint, descriptors, exec, exit, pause};
use crate::capture::{self, cpu, marks};
use crate::signal::{self, KernelAction};
use crate::{host, interface, log, threads};
use dmtcp_plugin_api::abi::Event;
use dmtcp_plugin_api::sys;
use dmtcp_protocol::auth::Key;
use dmtcp_protocol::env;
use dmtcp_protocol::handoff::{Handoff, MAGIC, RestartInfo, VERSION};
use dmtcp_protocol::message::{Barrier, ComputationId, FromClient};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// How long the other processes may take to come back, in milliseconds.
const BARRIER_LIMIT: i32 = 600_000;
/// How long the tasks may take to leave the stub, in nanoseconds.
const LEAVE_LIMIT: u64 = 10_000_000_000;
const SIGNALS: usize = 64;

/// Process-wide state that the image's memory carries, written just before it is taken.
struct ProcessState {
    actions: [KernelAction; SIGNALS],
    /// Thread pointer of the checkpoint thread.
    thread_pointer: u64,
}

struct Shared<T>(UnsafeCell<T>);
// SAFETY: written by the checkpoint thread while all others are parked; read in restored memory before any other task runs.
unsafe impl<T> Sync for Shared<T> {}

static STATE: Shared<ProcessState> = Shared(UnsafeCell::new(ProcessState {
    actions: [KernelAction { handler: 0, flags: 0, restorer: 0, mask: 0 }; SIGNALS],
    thread_pointer: 0,
}));
static HANDOFF: AtomicPtr<Handoff> = AtomicPtr::new(std::ptr::null_mut());
/// What the last restarter told; leaked, since hooks and wrappers may read it at any time.
static INFO: AtomicPtr<RestartInfo> = AtomicPtr::new(std::ptr::null_mut());

/// Notes the process-wide state; the checkpoint thread calls it.
pub fn note_process_state() {
    // SAFETY: all other threads are parked.
    let state = unsafe { &mut *STATE.0.get() };
    for (index, action) in state.actions.iter_mut().enumerate() {
        *action = signal::disposition(index as i32 + 1).unwrap_or_default();
    }
    state.thread_pointer = threads::thread_pointer();
}

/// Called by the stub on the first task when all memory stands.
extern "C" fn enter_process(handoff: *mut Handoff) {
    HANDOFF.store(handoff, Ordering::Release);
    // SAFETY: no other task runs yet.
    let state = unsafe { &*STATE.0.get() };
    // Even a memcpy may be a sanitizer's, with thread-local variables of its own. Each task gets its own pointer later.
    // SAFETY: the memory that it names is back, and the thread that it belongs to does not run yet.
    unsafe { threads::set_thread_pointer(state.thread_pointer) };
    for (index, action) in state.actions.iter().enumerate() {
        let number = index as i32 + 1;
        if number != libc::SIGKILL && number != libc::SIGSTOP {
            let _ = signal::set_disposition(number, action);
        }
    }
    threads::leaderless::put_back();
    cpu::regain_permission();
    cpu::look_again();
}

/// Address of the entry point for the process.
pub fn enter_process_address() -> u64 {
    enter_process as *const () as u64
}

/// The checkpoint thread's task: returns from [`context::capture`].
pub fn resume_checkpoint_thread() -> ! {
    // SAFETY: the context was saved on this thread's stack just before the image was written.
    unsafe { context::resume(checkpoint::context(), RESTARTED) }
}

/// A variable in the environment of dmtcp_restart.
pub fn environment(name: &[u8]) -> Option<&'static [u8]> {
    // SAFETY: leaked when it was set.
    let info = unsafe { INFO.load(Ordering::Acquire).as_ref() }?;
    info.environment.iter().find_map(|e| e.strip_prefix(name)?.strip_prefix(b"="))
}

/// Whether this process, or one that it was forked from, has come back from an image.
pub fn is_restarted() -> bool {
    !INFO.load(Ordering::Acquire).is_null()
}

/// Scratch directory that dmtcp_restart told; `None` before a restart.
pub fn scratch_directory() -> Option<&'static str> {
    // SAFETY: leaked when it was set.
    let info = unsafe { INFO.load(Ordering::Acquire).as_ref() }?;
    Some(info.tmpdir.as_str()).filter(|directory| !directory.is_empty())
}

/// Reads what the restarter left, and frees the stub once every task is out of it.
fn take_handoff() -> Result<&'static RestartInfo, String> {
    let pointer = HANDOFF.load(Ordering::Acquire);
    // SAFETY: the stub passed the address of its hand-over, which stays until it is unmapped below.
    let handoff = unsafe { &*pointer };
    if handoff.magic != MAGIC || handoff.version != VERSION {
        return Err(format!(
            "dmtcp_restart hands over version {}, this image understands {VERSION}: use the dmtcp_restart that belongs to it",
            handoff.version
        ));
    }
    // SAFETY: the bytes are inside the stub's mapping.
    let bytes = unsafe { std::slice::from_raw_parts(handoff.info as *const u8, handoff.info_length as usize) };
    let info: RestartInfo =
        postcard::from_bytes(bytes).map_err(|_| "what dmtcp_restart hands over does not decode".to_owned())?;
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let returned = || threads::RETURNED.load(Ordering::Acquire) >= handoff.tasks;
    // SAFETY: the counter is changed by other tasks, atomically, as long as the mapping is there.
    let left = unsafe { AtomicU32::from_ptr((&raw mut (*pointer).left).cast()) };
    while left.load(Ordering::Acquire) < handoff.tasks || !returned() {
        if sys::clock(libc::CLOCK_MONOTONIC) - start > LEAVE_LIMIT {
            return Err("not all threads have come back".into());
        }
        sys::yield_cpu();
    }
    let (start, length) = (handoff.stub_start, handoff.stub_length);
    HANDOFF.store(std::ptr::null_mut(), Ordering::Release);
    let _ = sys::unmap(start, length);
    let info: &'static RestartInfo = Box::leak(Box::new(info));
    INFO.store(std::ptr::from_ref(info).cast_mut(), Ordering::Release);
    Ok(info)
}

/// Makes the restored process a member again and lets its threads go.
pub fn rejoin(worker: &mut Worker) {
    if let Some(stale) = worker.link.take() {
        // The number belongs to no connection of ours any more.
        std::mem::forget(stale);
    }
    worker.deferred.clear();
    if let Err(reason) = try_rejoin(worker) {
        let recent: String = log::recent().iter().map(|line| format!("\n  {line}")).collect();
        log::tell(&format!("the process could not be restarted: {reason}\nthe last lines of its log:{recent}"));
        exit(dmtcp_protocol::env::FAILURE);
    }
}

fn try_rejoin(worker: &mut Worker) -> Result<(), String> {
    super::MEMBER.store(sys::pid(), Ordering::Release);
    signal::set_mask(super::CHECKPOINT_THREAD_MASK);
    host::description::begin();
    host::event(Event::Placed)?;
    descriptors::separate(None)?;
    let info = take_handoff()?;
    capture::note_vdso_again().map_err(|e| format!("the mappings cannot be read (errno {e})"))?;
    capture::heap::follow_the_kernel();
    pause::at(4);
    marks::put_back();
    interface::hooks::returned();
    worker.buffer = make_buffer()?;
    super::alone::set(false);
    worker.host = info.coord_host.clone();
    worker.port = info.coord_port;
    let socket = format!("{}=", env::COORD_SOCKET);
    let socket = info.environment.iter().find_map(|entry| entry.strip_prefix(socket.as_bytes()));
    worker.socket = String::from_utf8_lossy(socket.unwrap_or_default()).into_owned();
    let key: [u8; 32] = info.key[..].try_into().map_err(|_| "dmtcp_restart handed over no key".to_owned())?;
    worker.key = Key::new(key);
    if !info.checkpoint_dir.is_empty() {
        worker.checkpoint_dir = info.checkpoint_dir.clone();
    }
    let named = environment(env::INLINE_IDS.as_bytes()).unwrap_or(b"auto");
    let inline_ids = String::from_utf8_lossy(named).into_owned();
    exec::renew(&[
        (env::COORD_HOST, worker.host.clone()),
        (env::COORD_PORT, worker.port.to_string()),
        (env::COORD_SOCKET, worker.socket.clone()),
        (env::CHECKPOINT_DIR, worker.checkpoint_dir.clone()),
        (env::TMPDIR, info.tmpdir.clone()),
        (env::NO_COORDINATOR, "0".into()),
        (env::IDS, if info.ids.is_empty() { env::NO_IDS.into() } else { info.ids.clone() }),
        (env::INLINE_IDS, inline_ids),
    ]);
    let generation = info.generation;
    worker.generation = generation;
    let computation: ComputationId = worker.computation;
    worker.join(Some((computation, generation))).map_err(NotJoined::sentence)?;
    log::note(&format!("back from the image of generation {generation}"));
    worker.send(&FromClient::Reached { generation, barrier: Barrier::Restarted });
    worker.pass(generation, Barrier::Restarted, BARRIER_LIMIT)?;
    // What has come until now is by relatives who were brought back (pid-virt); what had come before is in the slots.
    threads::forget(libc::SIGCONT);
    super::refusal::begin()?;
    worker.underway = generation;
    pause::at(5);
    worker.event(Event::Restart)?;
    threads::renew_ids();
    let is_to_stand_still = worker.is_to_stand_still();
    threads::put_back_signals();
    host::description::finish();
    threads::credentials::conclude(worker.slot);
    pause::at(6);
    log::note("plugins have restored what is theirs");
    // Before the others go on, who may continue it.
    worker.send_standing_still(&FromClient::Reached { generation, barrier: Barrier::Resumed }, is_to_stand_still);
    worker.pass(generation, Barrier::Resumed, BARRIER_LIMIT)?;
    pause::at(7);
    interface::news::restarted();
    interface::hold::open();
    threads::release();
    worker.event_or_tell(Event::Running);
    worker.underway = 0;
    Ok(())
}
