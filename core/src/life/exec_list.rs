//! execl, execlp, execle: exec with its arguments one by one.
//!
//! Rust cannot define a function with a variable number of arguments, so these are naked: they put the arguments that came
//! in registers below those that came on the stack, which makes one array of them all, and call execve and execvp by their
//! names: libc's own versions call the kernel past every wrapper, so that neither [`super::exec`] nor a plugin sees them.
//!
//! ```text
//!   on entry                          array
//!     rsi rdx rcx r8 r9                 [0] rsi  [1] rdx  [2] rcx  [3] r8  [4] r9
//!     stack: return address, 6th, ..    [5] 6th  [6] 7th  ..  null
//! ```
//! A call that fails gives the stack back as it was, so it may run in a vfork's child as well.

use super::exec::Argv;
use dmtcp_plugin_api::abi::Wrapper;
use libc::{c_char, c_int};

unsafe extern "C" {
    static environ: Argv;
    fn execve(path: *const c_char, argv: Argv, envp: Argv) -> c_int;
    fn execvp(file: *const c_char, argv: Argv) -> c_int;
}

extern "C" fn list(path: *const c_char, argv: Argv) -> c_int {
    // SAFETY: as the caller promises; a program that changes libc's variable meanwhile races with its own exec.
    unsafe { execve(path, argv, environ) }
}

extern "C" fn list_with_path(file: *const c_char, argv: Argv) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { execvp(file, argv) }
}

extern "C" fn list_with_environment(path: *const c_char, argv: Argv) -> c_int {
    let mut end = argv;
    // SAFETY: the caller ended its arguments with a null pointer, and put the environment behind that.
    let envp = unsafe {
        while !(*end).is_null() {
            end = end.add(1);
        }
        *end.add(1).cast::<Argv>()
    };
    // SAFETY: as the caller promises.
    unsafe { execve(path, argv, envp) }
}

macro_rules! spill {
    ($name:ident, $function:path) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "pop rax",
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp",
                "push rax",
                "call {function}",
                "pop rcx",
                "add rsp, 40",
                "push rcx",
                "ret",
                function = sym $function,
            )
        }
    };
}

spill!(spill_list, list);
spill!(spill_list_with_path, list_with_path);
spill!(spill_list_with_environment, list_with_environment);

mod execl {
    dmtcp_plugin_api::wrapped_symbol!(execl, super::spill_list, std::ptr::null(), 0);
}
mod execlp {
    dmtcp_plugin_api::wrapped_symbol!(execlp, super::spill_list_with_path, std::ptr::null(), 0);
}
mod execle {
    dmtcp_plugin_api::wrapped_symbol!(execle, super::spill_list_with_environment, std::ptr::null(), 0);
}

/// The wrappers of this module.
pub static WRAPPERS: &[&Wrapper] = &[&execl::WRAPPER, &execlp::WRAPPER, &execle::WRAPPER];
