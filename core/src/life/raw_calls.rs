//! syscall(2) for fork, clone, clone3, execve and execveat: births and programs past libc's functions, though not past libc.
//!
//! All other calls go on with a handful of instructions more. libc's function writes an argument over the call's number, and
//! so may its caller: a thread that is stopped inside could not tell what to enter again. So the number is kept on the stack
//! here, where `threads::call_number` finds it. Only what shares the caller's memory (vfork, some clones), or has a stack of
//! its own, is jumped to: a child could not return through a frame of ours.
//!
//! A program that enters the kernel by instructions of its own is not seen: its new program joins if it gets the environment
//! that the program has, its child when it is asked to ([`super::adoption`]).

use super::clone::born;
use super::exec::{Argv, is_carrying, replacing};
use dmtcp_plugin_api::abi::Wrapper;
use libc::{c_int, c_long};
use std::sync::atomic::Ordering;

type Function = extern "C" fn(c_long, usize, usize, usize, usize, usize) -> c_long;

mod syscall {
    dmtcp_plugin_api::wrapped_symbol!(syscall, super::choose, std::ptr::null(), 0);
}

/// The wrappers of this module.
pub static WRAPPERS: &[&Wrapper] = &[&syscall::WRAPPER];

/// Up to the stack in `struct clone_args`.
const WITH_STACK: usize = 48;

#[unsafe(naked)]
unsafe extern "C" fn choose() {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "cmp rdi, {execve}",
        "je {exec}",
        "cmp rdi, {execveat}",
        "je {exec}",
        "cmp rdi, {fork}",
        "je {birth}",
        "cmp rdi, {clone}",
        "je 2f",
        "cmp rdi, {clone3}",
        "je 3f",
        "cmp rdi, {vfork}",
        "je 1f",
        // All others: with the number where it can be found again, and the seventh argument where it is expected.
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "push qword ptr [rsp + 24]",
        ".cfi_adjust_cfa_offset 8",
        "mov rdi, qword ptr [rsp + 8]",
        "call qword ptr [rip + {next}]",
        "add rsp, 24",
        ".cfi_adjust_cfa_offset -24",
        "ret",
        // A child that shares the stack must find no frame of ours on it.
        "1:",
        "jmp qword ptr [rip + {next}]",
        // clone: flags, stack.
        "2:",
        "test rsi, {shared}",
        "jnz 1b",
        "test rdx, rdx",
        "jnz 1b",
        "jmp {birth}",
        // clone3: a structure and its length.
        "3:",
        "test rsi, rsi",
        "jz 1b",
        "cmp rdx, {with_stack}",
        "jb 1b",
        "test qword ptr [rsi], {shared}",
        "jnz 1b",
        "cmp qword ptr [rsi + 40], 0",
        "jne 1b",
        "jmp {birth}",
        ".cfi_endproc",
        execve = const libc::SYS_execve,
        execveat = const libc::SYS_execveat,
        fork = const libc::SYS_fork,
        clone = const libc::SYS_clone,
        clone3 = const libc::SYS_clone3,
        vfork = const libc::SYS_vfork,
        shared = const libc::CLONE_VM,
        with_stack = const WITH_STACK,
        exec = sym exec,
        birth = sym birth,
        next = sym syscall::NEXT,
    )
}

fn next() -> Function {
    // SAFETY: the core wires NEXT before any slot, to libc's function, which takes as many words.
    unsafe { std::mem::transmute(syscall::NEXT.load(Ordering::Relaxed)) }
}

extern "C" fn exec(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize) -> c_long {
    let next = next();
    if !is_carrying() {
        return next(number, a, b, c, d, e);
    }
    let call = |envp: Argv| match number {
        libc::SYS_execve => next(number, a, b, envp as usize, d, e) as c_int,
        _ => next(number, a, b, c, envp as usize, e) as c_int,
    };
    let given = if number == libc::SYS_execve { c } else { d };
    c_long::from(replacing(given as Argv, call))
}

extern "C" fn birth(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize) -> c_long {
    born(|| next()(number, a, b, c, d, e))
}
