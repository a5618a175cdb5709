//! The point that the checkpoint thread comes back to after a restart.
//!
//! [`capture`] is a call that returns once in each memory: in the process that goes on, with what the function returned;
//! in the memory that a restart brings back, with [`RESTARTED`]. The caller's frame lies above all that the function
//! touches, so in both it is as it was when the call was made.

use std::ffi::c_void;

/// What [`capture`] returns in restored memory.
pub const RESTARTED: i64 = i64::MIN;

/// Callee-saved registers and stack pointer.
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    words: [u64; 7],
}

impl Context {
    /// One that nothing has been saved in.
    pub const fn new() -> Self {
        Self { words: [0; 7] }
    }
}

/// Saves the context, calls `function(argument)`, returns what it returned.
///
/// # Safety
/// `context` must stay where it is as long as [`resume`] may be called.
#[unsafe(naked)]
pub unsafe extern "C" fn capture(
    _context: *mut Context,
    _function: extern "C" fn(*mut c_void) -> i64,
    _argument: *mut c_void,
) -> i64 {
    core::arch::naked_asm!(
        "mov [rdi], rbx",
        "mov [rdi + 8], rbp",
        "mov [rdi + 16], r12",
        "mov [rdi + 24], r13",
        "mov [rdi + 32], r14",
        "mov [rdi + 40], r15",
        "mov [rdi + 48], rsp",
        "mov rax, rsi",
        "mov rdi, rdx",
        "sub rsp, 8",
        "call rax",
        "add rsp, 8",
        "ret",
    )
}

/// Returns from [`capture`] a second time, in restored memory.
///
/// # Safety
/// The stack that the context was saved on must be as it was, and belong to the calling task.
#[unsafe(naked)]
pub unsafe extern "C" fn resume(_context: *const Context, _value: i64) -> ! {
    core::arch::naked_asm!(
        "mov rbx, [rdi]",
        "mov rbp, [rdi + 8]",
        "mov r12, [rdi + 16]",
        "mov r13, [rdi + 24]",
        "mov r14, [rdi + 32]",
        "mov r15, [rdi + 40]",
        "mov rsp, [rdi + 48]",
        "mov rax, rsi",
        "cld",
        "ret",
    )
}
