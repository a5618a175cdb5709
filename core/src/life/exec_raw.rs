//! syscall(SYS_execve) and syscall(SYS_execveat): exec past libc's functions, though not past libc.
//!
//! All other calls go on at once: three instructions more. A program that enters the kernel by instructions of its own is
//! not seen; its new program joins if it gets the environment that the program has.

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

#[unsafe(naked)]
unsafe extern "C" fn choose() {
    core::arch::naked_asm!(
        "cmp rdi, {execve}",
        "je {exec}",
        "cmp rdi, {execveat}",
        "je {exec}",
        "jmp qword ptr [rip + {next}]",
        execve = const libc::SYS_execve,
        execveat = const libc::SYS_execveat,
        exec = sym exec,
        next = sym syscall::NEXT,
    )
}

extern "C" fn exec(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize) -> c_long {
    // SAFETY: the core wires NEXT before any slot, to libc's function, which takes as many words.
    let next: Function = unsafe { std::mem::transmute(syscall::NEXT.load(Ordering::Relaxed)) };
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
