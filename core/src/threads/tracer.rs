//! What only a tracer can do to a thread, and a tracer must be another process: a helper, made for one order.
//!
//! *Unblock.* Some threads block every signal, ours too: glibc's helper threads (SIGEV_THREAD, AIO), or a raw
//! rt_sigprocmask. Our bit is taken out of the mask; the signal that is already queued is then delivered. The bit stays
//! out: the application does not know of our signal.
//!
//! *Peek.* The signals that are pending for the process are copied, siginfo and all, without being taken: nobody could put
//! them back as they were if the first thread has ended.
//!
//! To stand still for a tracer interrupts a system call as a signal does. Most are restarted by the kernel; those that are
//! not (sigtimedwait, semop, epoll_wait ...) would fail with EINTR, and nobody of us would know: the tracer has the kernel
//! restart these too, unless a signal is due, whose handler decides, ours among them.
//!
//! ```text
//!   checkpoint thread --helper--> tracer: SEIZE, INTERRUPT, wait, the order, DETACH
//! ```

use super::pending::Info;
use super::{helper, rewind, status};
use dmtcp_plugin_api::{proc_files, sys};

const PTRACE_DETACH: usize = 17;
const PTRACE_SEIZE: usize = 0x4206;
const PTRACE_INTERRUPT: usize = 0x4207;
const PTRACE_PEEKSIGINFO: usize = 0x4209;
const PTRACE_GETSIGMASK: usize = 0x420a;
const PTRACE_SETSIGMASK: usize = 0x420b;
/// PTRACE_GETREGS.
pub const GET_REGISTERS: usize = 12;
const SET_REGISTERS: usize = 13;
/// Words of `struct user_regs_struct`.
pub const REGISTERS: usize = 27;
/// Which of them has a call's result,
const RAX: usize = 10;
/// and its number; -1: the thread is in no call.
const ORIG_RAX: usize = 15;
/// The result of a call that the kernel restarts whatever handler comes in between.
const ERESTARTNOINTR: i64 = 513;
const PR_SET_PTRACER: i32 = 0x5961_6d61;
/// For PTRACE_PEEKSIGINFO: the process's queue.
const SHARED: u32 = 1;
const KERNEL_SET: usize = 8;
/// Between two looks at whether the thread has stopped, in nanoseconds, and how often.
const LOOK_AGAIN: u64 = 1_000_000;
const LOOKS: usize = 1000;

/// ptrace(2) on one thread: request, address, data.
pub type Ptrace<'a> = &'a dyn Fn(usize, usize, usize) -> Result<usize, i32>;

/// What a tracer is to do.
enum Task<'a> {
    /// Take these bits out of the thread's mask.
    Unblock(u64),
    /// Copy what is pending for the process; how many there were.
    Peek(&'a mut [Info], &'a mut usize),
}

/// Whether a thread blocks the signals of a set.
pub fn blocks(tid: i32, set: u64) -> bool {
    let text = proc_files::read_file(&proc_files::task_path(tid, "status")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mask = text.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("SigBlk:")?.trim(), 16).ok());
    mask.is_some_and(|m| m & set != 0)
}

/// Takes a signal out of a thread's mask. False: it may not be traced (a sandbox, another tracer).
pub fn unblock(tid: i32, bit: u64) -> bool {
    order(tid, Task::Unblock(bit))
}

/// Copies the signals that are pending for the process, in the order of their queue, by means of one of its threads;
/// `None`: it may not be traced.
pub fn peek_shared(tid: i32) -> Option<Vec<Info>> {
    /// More than anybody queues; the limit is RLIMIT_SIGPENDING.
    const MOST: usize = 1 << 16;
    let mut room = 64;
    loop {
        let (mut found, mut count) = (vec![Info::default(); room], 0);
        if !order(tid, Task::Peek(&mut found, &mut count)) {
            return None;
        }
        if count < room || room >= MOST {
            found.truncate(count);
            return Some(found);
        }
        room *= 4;
    }
}

/// Has a tracer do something. False: it could not.
fn order(tid: i32, mut task: Task<'_>) -> bool {
    let mut done = false;
    // Where the Yama module only lets parents trace, the traced one has to agree.
    let _ = sys::prctl(PR_SET_PTRACER, usize::MAX, 0, 0, 0);
    helper::run(&mut || done = hold(tid, |ptrace| carry_out(&mut task, ptrace)));
    let _ = sys::prctl(PR_SET_PTRACER, 0, 0, 0, 0);
    done
}

/// Does something to a thread of another process while it stands still for the calling one. False: it may not be traced,
/// does not come to a stop, or that is the answer.
pub fn hold(tid: i32, act: impl FnOnce(Ptrace<'_>) -> bool) -> bool {
    let ptrace = |request: usize, address: usize, data: usize| {
        // SAFETY: what some requests read or write lives in the caller's frame.
        unsafe { sys::call(libc::SYS_ptrace as i32, [request, tid as usize, address, data, 0, 0]) }
    };
    if ptrace(PTRACE_SEIZE, 0, 0).is_err() {
        return false;
    }
    let _ = ptrace(PTRACE_INTERRUPT, 0, 0);
    let stopped = (0..LOOKS).any(|_| {
        has_stopped(tid) || {
            sys::nap(LOOK_AGAIN);
            false
        }
    });
    let done = stopped && act(&ptrace);
    if stopped && !status::is_due(tid) {
        spare_its_call(&ptrace);
    }
    let _ = ptrace(PTRACE_DETACH, 0, 0);
    done
}

/// Has the kernel restart the call that a thread which stands still was in, if it would fail because of that.
fn spare_its_call(ptrace: Ptrace<'_>) {
    let mut registers = [0u64; REGISTERS];
    if ptrace(GET_REGISTERS, 0, registers.as_mut_ptr() as usize).is_err() {
        return;
    }
    if rewind::would_fail(registers[ORIG_RAX] as i64, registers[RAX] as i64) {
        registers[RAX] = (-ERESTARTNOINTR) as u64;
        let _ = ptrace(SET_REGISTERS, 0, registers.as_ptr() as usize);
    }
}

/// Whether a thread stands still for the calling one. Its end is not taken notice of: if it is a child, that is somebody
/// else's to wait for.
fn has_stopped(tid: i32) -> bool {
    // Offset 16 of siginfo_t.
    const STOPPED: usize = 4;
    let mut info = [0i32; 32];
    let flags = libc::WSTOPPED | libc::__WALL | libc::WNOHANG;
    // SAFETY: the kernel writes one siginfo_t of 128 bytes.
    let waited = unsafe {
        let arguments = [libc::P_PID as usize, tid as usize, info.as_mut_ptr() as usize, flags as usize, 0, 0];
        sys::call(libc::SYS_waitid as i32, arguments)
    };
    waited.is_ok() && info[STOPPED] != 0
}

/// Takes bits out of the mask of a thread that stands still.
pub fn take_out(bits: u64, ptrace: Ptrace<'_>) -> bool {
    let mut mask = 0u64;
    let known = ptrace(PTRACE_GETSIGMASK, KERNEL_SET, (&raw mut mask) as usize).is_ok();
    mask &= !bits;
    known && ptrace(PTRACE_SETSIGMASK, KERNEL_SET, (&raw const mask) as usize).is_ok()
}

/// Does what is to be done to a thread that stands still for its tracer. Runs in the tracer.
fn carry_out(task: &mut Task<'_>, ptrace: Ptrace<'_>) -> bool {
    match task {
        Task::Unblock(bit) => take_out(*bit, ptrace),
        Task::Peek(into, count) => {
            while **count < into.len() {
                let wanted = Peek { offset: **count as u64, flags: SHARED, number: (into.len() - **count) as i32 };
                let to = into.as_mut_ptr().wrapping_add(**count);
                match ptrace(PTRACE_PEEKSIGINFO, sys::argument(&raw const wanted), to as usize) {
                    Ok(0) => return true,
                    Ok(more) => **count += more,
                    Err(_) => return false,
                }
            }
            true
        }
    }
}

/// `struct ptrace_peeksiginfo_args`.
#[repr(C)]
struct Peek {
    offset: u64,
    flags: u32,
    number: i32,
}
