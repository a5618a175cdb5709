//! Threads that block every signal, ours too: glibc's helper threads (SIGEV_THREAD, AIO), or a raw rt_sigprocmask.
//!
//! A thread's mask can be changed from outside by a tracer only, and a tracer must be another process: a child that shares
//! our memory, made for this and gone at once. It seizes the thread, takes our bit out of its mask, and lets go; the signal
//! that is already queued is then delivered. The bit stays out: the application does not know of our signal.
//!
//! ```text
//!   checkpoint thread --clone(VM, VFORK)--> tracer: SEIZE, INTERRUPT, wait, SETSIGMASK, DETACH, exit
//! ```

use dmtcp_plugin_api::{proc_files, sys};

const PTRACE_DETACH: usize = 17;
const PTRACE_SEIZE: usize = 0x4206;
const PTRACE_INTERRUPT: usize = 0x4207;
const PTRACE_GETSIGMASK: usize = 0x420a;
const PTRACE_SETSIGMASK: usize = 0x420b;
const PR_SET_PTRACER: i32 = 0x5961_6d61;
const KERNEL_SET: usize = 8;
const STACK: usize = 64 << 10;
/// Between two looks at whether the thread has stopped, in nanoseconds, and how often.
const LOOK_AGAIN: u64 = 1_000_000;
const LOOKS: usize = 1000;

/// What the tracer is told, and what it tells.
#[repr(C)]
struct Order {
    tid: usize,
    bit: u64,
    done: bool,
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
    let Ok(stack) = sys::map_anonymous(STACK) else { return false };
    let mut order = Order { tid: tid as usize, bit, done: false };
    // Where the Yama module only lets parents trace, the traced one has to agree.
    let _ = sys::prctl(PR_SET_PTRACER, usize::MAX, 0, 0, 0);
    let top = stack + STACK as u64 - 16;
    // SAFETY: the new stack is ours; the tracer shares our memory and ends before the call returns, because of CLONE_VFORK.
    let child = unsafe {
        (top as *mut *mut Order).write(&raw mut order);
        make_tracer(top)
    };
    if child > 0 {
        // SAFETY: no status is asked for. Its exit signal is 0, so only __WCLONE finds it, and the application never does.
        let _ = unsafe { sys::call(libc::SYS_wait4 as i32, [child as usize, 0, libc::__WCLONE as usize, 0, 0, 0]) };
    }
    let _ = sys::prctl(PR_SET_PTRACER, 0, 0, 0, 0);
    let _ = sys::unmap(stack, STACK as u64);
    order.done
}

/// Starts [`trace`] in a process of its own, on a stack whose first word is its argument.
#[unsafe(naked)]
unsafe extern "C" fn make_tracer(_stack: u64) -> i64 {
    core::arch::naked_asm!(
        "mov rsi, rdi",
        "mov edi, {flags}",
        "xor edx, edx",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "mov eax, 56", // clone
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        "xor ebp, ebp",
        "mov rdi, [rsp]",
        "call {trace}",
        "xor edi, edi",
        "mov eax, 60", // exit
        "syscall",
        "ud2",
        flags = const libc::CLONE_VM | libc::CLONE_VFORK,
        trace = sym trace,
    )
}

/// In the tracer. It has the checkpoint thread's thread pointer: no thread-local storage, no allocation.
extern "C" fn trace(order: &mut Order) {
    let ptrace = |request: usize, address: usize, data: usize| {
        // SAFETY: the mask that some requests read or write lives in this frame.
        unsafe { sys::call(libc::SYS_ptrace as i32, [request, order.tid, address, data, 0, 0]) }
    };
    if ptrace(PTRACE_SEIZE, 0, 0).is_err() {
        return;
    }
    let _ = ptrace(PTRACE_INTERRUPT, 0, 0);
    for _ in 0..LOOKS {
        // SAFETY: no status is asked for.
        let stopped = unsafe {
            let flags = (libc::__WALL | libc::WNOHANG) as usize;
            sys::call(libc::SYS_wait4 as i32, [order.tid, 0, flags, 0, 0, 0])
        };
        match stopped {
            Ok(0) => sys::nap(LOOK_AGAIN),
            Ok(_) => {
                let mut mask = 0u64;
                let known = ptrace(PTRACE_GETSIGMASK, KERNEL_SET, (&raw mut mask) as usize).is_ok();
                mask &= !order.bit;
                order.done = known && ptrace(PTRACE_SETSIGMASK, KERNEL_SET, (&raw const mask) as usize).is_ok();
                break;
            }
            Err(_) => break,
        }
    }
    let _ = ptrace(PTRACE_DETACH, 0, 0);
}
