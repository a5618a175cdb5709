//! Functions of libc that read another thread's id from its control block, where it is the virtual one.
//!
//! What only looks is given a copy of the control block with the real id, or done here by the system call that libc would
//! make. A thread that is made while ids are translated has its real id there, put by the kernel; if that is somebody's
//! virtual one, the thread is given another before it runs anything of the program's.

use crate::tcb::{self, Copy};
use crate::translate::task;
use crate::{inline, table};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::ids::Table;
use dmtcp_plugin_api::{proc_files, sys};
use libc::{c_char, c_int, c_void, clockid_t, cpu_set_t, pthread_attr_t, pthread_t, sched_param, sigval};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// CPUCLOCK_SCHED, of a thread.
const THREAD_CLOCK: i32 = 6;
/// libc's own signals: to cancel, and to change users.
const OWN_SIGNALS: std::ops::RangeInclusive<c_int> = 32..=33;
const SIGCANCEL: usize = 32;
const SI_QUEUE: i32 = -1;
/// Longest name of a thread, with its zero.
const NAME: usize = 16;

type Start = extern "C" fn(*mut c_void) -> *mut c_void;

/// The id in a thread's control block and its real one; `None`: libc can be asked as ever, or the thread has ended.
fn look(thread: pthread_t) -> Option<(Table, i32, i32)> {
    let table = table::current()?;
    // SAFETY: the program passes a handle that is valid, as the wrapped functions demand.
    let id = unsafe { tcb::word(thread) }?.load(Ordering::Acquire);
    if id <= 0 {
        return None;
    }
    // While a thread works on a mutex in which the kernel has a say, its real id is there.
    match task(table, id) {
        Some(real) => Some((table, id, real)),
        None => Some((table, table.known(id)?, id)),
    }
}

/// Calls by a thread's real id, which is looked up again when the call has found nobody and a restart fell between the two;
/// by what libc knows, where that is what it ever was.
fn by_real(thread: pthread_t, real: impl Fn(i32) -> c_int, libcs: impl Fn() -> c_int) -> c_int {
    loop {
        let restarts = table::restarts();
        let result = look(thread).map_or_else(&libcs, |(_, _, id)| real(id));
        if !matches!(result, libc::ESRCH | libc::ENOENT) || table::restarts() == restarts {
            return result;
        }
    }
}

fn call(number: libc::c_long, args: [usize; 4]) -> c_int {
    // SAFETY: the callers pass what the program has given them for the function of the same meaning.
    match unsafe { sys::call(number as i32, [args[0], args[1], args[2], args[3], 0, 0]) } {
        Ok(_) => 0,
        Err(error) => error,
    }
}

/// Calls a function of libc that only reads the control block.
fn with_copy(thread: pthread_t, function: impl Fn(pthread_t) -> c_int) -> c_int {
    // SAFETY: as in `look`.
    let copied = |real| match unsafe { Copy::of(thread, real) } {
        Some(mut copy) => function(copy.handle() as pthread_t),
        None => function(thread),
    };
    by_real(thread, copied, || function(thread))
}

/// A thread that was cancelled last, and the id in its control block.
struct Cancelled {
    thread: AtomicU64,
    id: AtomicI32,
}

const CANCELLED_ROOM: usize = 64;
static CANCELLED: [Cancelled; CANCELLED_ROOM] =
    [const { Cancelled { thread: AtomicU64::new(0), id: AtomicI32::new(0) } }; CANCELLED_ROOM];
static NEXT_CANCELLED: AtomicUsize = AtomicUsize::new(0);

/// Notes a thread that is going to be cancelled; whether it lives.
fn note_cancelled(thread: pthread_t) -> bool {
    // SAFETY: as in `look`.
    let Some(word) = (unsafe { tcb::word(thread) }) else { return true };
    let id = word.load(Ordering::Acquire);
    let place = &CANCELLED[NEXT_CANCELLED.fetch_add(1, Ordering::AcqRel) % CANCELLED_ROOM];
    place.thread.store(0, Ordering::Release);
    place.id.store(id, Ordering::Release);
    place.thread.store(thread, Ordering::Release);
    id > 0
}

impl Cancelled {
    /// The id in the control block of the noted thread, if it has not ended since.
    fn living(&self) -> Option<i32> {
        let (thread, id) = (self.thread.load(Ordering::Acquire), self.id.load(Ordering::Acquire));
        let mut word = [0; 4];
        // The control block of one that has ended may be another's, or gone.
        let read = sys::copy_from(tcb::word_address(thread)?, &mut word);
        (read == Ok(4) && i32::from_ne_bytes(word) == id && id > 0).then_some(id)
    }
}

/// Before a thread is made: it may get the control block, and in a small namespace the id, of one that was cancelled and has
/// ended.
fn forget_ended() {
    if NEXT_CANCELLED.load(Ordering::Acquire) == 0 {
        return;
    }
    for note in &CANCELLED {
        let thread = note.thread.load(Ordering::Acquire);
        if thread != 0 && note.living().is_none() {
            let _ = note.thread.compare_exchange(thread, 0, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// The hook for RESTART. The handler by which libc cancels may just have been about to begin: it finds that its signal is from
/// the process's real id of before, and does nothing. Threads that were cancelled, and live, are sent another one.
pub fn cancel_again(core: Core) {
    let tasks = core.tasks();
    for note in &CANCELLED {
        let task = note.living().and_then(|id| tasks.iter().find(|[of, _]| *of == id));
        match task {
            Some([_, real]) => wake_cancelled(*real),
            None => note.thread.store(0, Ordering::Release),
        }
    }
}

/// Wakes a thread that libc has marked as cancelled: a call that it waits in ends then.
fn wake_cancelled(real: i32) {
    let _ = call(libc::SYS_tgkill, [sys::pid() as usize, real as usize, SIGCANCEL, 0]);
}

/// libc's function, which marks the thread, and sends a signal to the id in its control block. If that is another thread's
/// real one, it must not be found there.
fn cancel(thread: pthread_t, (table, id, real): (Table, i32, i32), libcs: &dyn Fn() -> c_int) -> c_int {
    // SAFETY: as in `look`.
    let word = unsafe { tcb::word(thread) }.filter(|_| table.known(id).is_some());
    if let Some(word) = word {
        let _ = word.compare_exchange(id, real, Ordering::AcqRel, Ordering::Acquire);
    }
    let result = libcs();
    if let Some(word) = word {
        let _ = word.compare_exchange(real, id, Ordering::AcqRel, Ordering::Acquire);
    }
    if result != 0 && result != libc::ESRCH {
        return result;
    }
    wake_cancelled(real);
    0
}

/// What a new thread is started with.
struct Birth {
    start: Start,
    argument: *mut c_void,
    settled: AtomicU32,
}

/// The first function of a thread that is made while ids are translated.
extern "C" fn begin(birth: *mut c_void) -> *mut c_void {
    let (start, argument) = {
        // SAFETY: the maker waits until `settled` says that its value is not needed any more.
        let birth = unsafe { &*birth.cast::<Birth>() };
        let parts = (birth.start, birth.argument);
        if let Some(table) = table::current() {
            let id = table.ensure(sys::tid());
            if id != sys::tid() {
                tcb::set_own(id);
            }
        }
        inline::enter();
        birth.settled.store(1, Ordering::Release);
        sys::futex_wake(birth.settled.as_ptr());
        parts
    };
    let result = start(argument);
    if let Some(table) = table::current() {
        table.forget(table.ensure(sys::tid()));
    }
    result
}

/// Makes a thread that has an id of its own before it runs.
fn make(start: Start, argument: *mut c_void, create: impl FnOnce(Start, *mut c_void) -> c_int) -> c_int {
    let birth = Birth { start, argument, settled: AtomicU32::new(0) };
    let result = create(begin, (&raw const birth).cast_mut().cast());
    if result == 0 {
        while birth.settled.load(Ordering::Acquire) == 0 {
            let _ = sys::futex_wait(birth.settled.as_ptr(), 0, None);
        }
    }
    result
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The thread gets an id that is nobody else's.
    fn pthread_create(
        thread: *mut pthread_t, attributes: *const pthread_attr_t, start: Start, argument: *mut c_void,
    ) -> c_int {
        forget_ended();
        if table::current().is_none() { return next(thread, attributes, start, argument); }
        make(start, argument, |start, argument| next(thread, attributes, start, argument))
    }
    /// As pthread_create. What the function returns is an int, which travels in the same register.
    fn thrd_create(thread: *mut pthread_t, start: Start, argument: *mut c_void) -> c_int {
        forget_ended();
        if table::current().is_none() { return next(thread, start, argument); }
        make(start, argument, |start, argument| next(thread, start, argument))
    }
    /// By the real id.
    fn pthread_kill(thread: pthread_t, signal: c_int) -> c_int {
        if OWN_SIGNALS.contains(&signal) { return next(thread, signal); }
        let send = |real| call(libc::SYS_tgkill, [sys::pid() as usize, real as usize, signal as usize, 0]);
        by_real(thread, send, || next(thread, signal))
    }
    /// By the real id.
    fn pthread_sigqueue(thread: pthread_t, signal: c_int, value: sigval) -> c_int {
        if OWN_SIGNALS.contains(&signal) { return next(thread, signal, value); }
        let send = |real| {
            let mut info = [0u64; 16];
            info[0] = signal as u32 as u64;
            info[1] = u64::from(SI_QUEUE as u32);
            // SAFETY: no arguments.
            let user = unsafe { sys::call(libc::SYS_getuid as i32, [0; 6]) }.unwrap_or(0) as u64;
            info[2] = sys::pid() as u64 | user << 32;
            info[3] = value.sival_ptr as u64;
            let info = info.as_ptr() as usize;
            call(libc::SYS_rt_tgsigqueueinfo, [sys::pid() as usize, real as usize, signal as usize, info])
        };
        by_real(thread, send, || next(thread, signal, value))
    }
    /// What has not been cancelled yet learns of it in the call that it is in, after a restart in the middle, too.
    fn pthread_cancel(thread: pthread_t) -> c_int {
        let mut restarts = table::restarts();
        let lives = note_cancelled(thread);
        let found = look(thread).filter(|(_, id, real)| id != real);
        let mut result = found.map_or_else(|| next(thread), |found| cancel(thread, found, &|| next(thread)));
        if result != 0 && result != libc::ESRCH {
            return result;
        }
        while table::restarts() != restarts {
            restarts = table::restarts();
            // Nobody was found under the id of before the restart, or who was noted has been cancelled at the restart, and
            // has ended: older releases of libc say ESRCH then.
            if lives { result = 0 }
            let Some((_, _, real)) = look(thread) else { break };
            wake_cancelled(real);
        }
        result
    }
    /// libc asks for the thread's processors besides.
    fn pthread_getattr_np(thread: pthread_t, attributes: *mut pthread_attr_t) -> c_int {
        with_copy(thread, |thread| next(thread, attributes))
    }
    /// By the real id.
    fn pthread_getschedparam(thread: pthread_t, policy: *mut c_int, parameters: *mut sched_param) -> c_int {
        with_copy(thread, |thread| next(thread, policy, parameters))
    }
    /// By the real id.
    fn pthread_setschedparam(thread: pthread_t, policy: c_int, parameters: *const sched_param) -> c_int {
        let set =
            |real| call(libc::SYS_sched_setscheduler, [real as usize, policy as usize, parameters as usize, 0]);
        by_real(thread, set, || next(thread, policy, parameters))
    }
    /// By the real id.
    fn pthread_setschedprio(thread: pthread_t, priority: c_int) -> c_int {
        let set = |real| {
            let parameters = sched_param { sched_priority: priority };
            call(libc::SYS_sched_setparam, [real as usize, (&raw const parameters) as usize, 0, 0])
        };
        by_real(thread, set, || next(thread, priority))
    }
    /// By the real id.
    fn pthread_setaffinity_np(thread: pthread_t, size: usize, set: *const cpu_set_t) -> c_int {
        let by_id = |real| call(libc::SYS_sched_setaffinity, [real as usize, size, set as usize, 0]);
        by_real(thread, by_id, || next(thread, size, set))
    }
    /// By the real id.
    fn pthread_getaffinity_np(thread: pthread_t, size: usize, set: *mut cpu_set_t) -> c_int {
        with_copy(thread, |thread| next(thread, size, set))
    }
    /// By the real id. libc asks the kernel for the caller's own, and needs no descriptor for it.
    fn pthread_getname_np(thread: pthread_t, name: *mut c_char, room: usize) -> c_int {
        if thread == tcb::own() || room < NAME { return next(thread, name, room); }
        let get = |real| match proc_files::read_file(&proc_files::task_path(real, "comm")) {
            Ok(text) => {
                let text = text.strip_suffix(b"\n").unwrap_or(&text);
                let length = text.len().min(NAME - 1);
                // SAFETY: the program has room for the longest name.
                unsafe {
                    std::ptr::copy_nonoverlapping(text.as_ptr(), name.cast(), length);
                    name.add(length).write(0);
                }
                0
            }
            Err(error) => error,
        };
        by_real(thread, get, || next(thread, name, room))
    }
    /// As pthread_getname_np.
    fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int {
        // SAFETY: the program passes a zero-terminated name.
        let text = unsafe { std::ffi::CStr::from_ptr(name) }.to_bytes();
        if thread == tcb::own() || text.len() >= NAME { return next(thread, name); }
        let set = |real| {
            let path = proc_files::task_path(real, "comm");
            let written = sys::open(path.as_bytes(), libc::O_WRONLY | libc::O_CLOEXEC, 0)
                .and_then(|file| sys::write(file.number(), text));
            written.err().unwrap_or(0)
        };
        by_real(thread, set, || next(thread, name))
    }
    /// A clock that names the virtual id: `clock_gettime` and its like translate it.
    fn pthread_getcpuclockid(thread: pthread_t, clock: *mut clockid_t) -> c_int {
        let Some((_, id, _)) = look(thread) else { return next(thread, clock) };
        // SAFETY: the program passes a place for the clock.
        unsafe { clock.write(!id << 3 | THREAD_CLOCK) };
        0
    }
}
