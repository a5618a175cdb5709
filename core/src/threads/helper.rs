//! Helpers: what only another process can do, a child does that shares our memory, is made for one errand and gone at once.
//!
//! ```text
//!   checkpoint thread --clone(VM, CHILD_CLEARTID)--> helper: the errand, exit
//!                     <-- the kernel clears a word, which is waited for
//! ```
//! The checkpoint thread does not wait as a vfork does: there it could not be stopped by a signal, and with it the process.
//! It has the checkpoint thread's thread pointer: no thread-local storage, no allocation. Its exit signal is 0, so the
//! application never finds it by a wait.

use dmtcp_plugin_api::{headroom, sys};
use std::sync::atomic::{AtomicU32, Ordering};

const STACK: usize = 64 << 10;

/// What a helper does.
type Errand<'a> = &'a mut dyn FnMut();

/// Has a helper run an errand, and waits for its end. False: there is none.
pub fn run(mut errand: Errand<'_>) -> bool {
    let Ok(stack) = headroom::map(STACK, 0) else { return false };
    let top = stack + STACK as u64 - 16;
    let runs = AtomicU32::new(1);
    // SAFETY: the new stack is ours; the helper shares our memory and has ended before this function goes on, which the
    // kernel says by the word.
    let child = unsafe {
        (top as *mut *mut Errand<'_>).write(&raw mut errand);
        make(top, runs.as_ptr())
    };
    if child > 0 {
        while runs.load(Ordering::Acquire) != 0 {
            let _ = sys::futex_wait(runs.as_ptr(), 1, None);
        }
        // SAFETY: no status is asked for.
        let _ = unsafe { sys::call(libc::SYS_wait4 as i32, [child as usize, 0, libc::__WCLONE as usize, 0, 0, 0]) };
    }
    let _ = sys::unmap(stack, STACK as u64);
    child > 0
}

/// Starts [`begin`] in a process of its own, on a stack whose first word is its argument; the other word is cleared at its end.
#[unsafe(naked)]
unsafe extern "C" fn make(_stack: u64, _runs: *mut u32) -> i64 {
    core::arch::naked_asm!(
        "mov r10, rsi",
        "mov rsi, rdi",
        "mov edi, {flags}",
        "xor edx, edx",
        "xor r8d, r8d",
        "mov eax, 56", // clone
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        "xor ebp, ebp",
        "mov rdi, [rsp]",
        "call {begin}",
        "xor edi, edi",
        "mov eax, 60", // exit
        "syscall",
        "ud2",
        flags = const libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID,
        begin = sym begin,
    )
}

extern "C" fn begin(errand: &mut Errand<'_>) {
    errand();
}
