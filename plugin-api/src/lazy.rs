//! What a stub does before the core has wired it: constructors of the application's libraries run before ours.

use crate::abi::Wrapper;
use std::ffi::{c_char, c_void};
use std::sync::atomic::Ordering;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn dlvsym(handle: *mut c_void, symbol: *const c_char, version: *const c_char) -> *mut c_void;
}

const RTLD_DEFAULT: *mut c_void = std::ptr::null_mut();
const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

/// Finds where the call goes. Wires everything if the core is there; else (inside dmtcp_restart, or a call so early that
/// the core cannot work yet) gives the function that would have been called without us.
extern "C" fn resolve(wrapper: &'static Wrapper) -> usize {
    // SAFETY: a constant, zero-terminated name; the core exports it with this type or not at all.
    unsafe {
        let wire = dlsym(RTLD_DEFAULT, c"dmtcp_core_wire".as_ptr());
        if !wire.is_null() {
            let wire: extern "C" fn() = std::mem::transmute(wire);
            wire();
        }
    }
    let slot = wrapper.slot.load(Ordering::Acquire);
    if slot != 0 {
        return slot;
    }
    next_symbol(wrapper.symbol, wrapper.version) as usize
}

/// The definition of a symbol that comes after the object that holds this code, which is the plugin.
#[allow(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "only the core calls it, through the plugin's table, with static texts"
)]
pub extern "C" fn next_symbol(symbol: *const c_char, version: *const c_char) -> *const c_void {
    // SAFETY: names in descriptors are zero-terminated. RTLD_NEXT counts from the object of the return address: the
    // result is used, not tail-called, so that this stays the plugin.
    let found =
        unsafe { if version.is_null() { dlsym(RTLD_NEXT, symbol) } else { dlvsym(RTLD_NEXT, symbol, version) } };
    std::hint::black_box(found)
}

/// Assembly: calls a function with r11 and the address of the six saved integer arguments, last one first; keeps all argument
/// registers (vectors: 128 bits), then jumps to its result.
#[doc(hidden)]
#[macro_export]
macro_rules! resolve_and_jump {
    ($resolve:path) => {
        ::core::arch::naked_asm!(
            "push rbp",
            "mov rbp, rsp",
            "push rdi",
            "push rsi",
            "push rdx",
            "push rcx",
            "push r8",
            "push r9",
            "push rax",
            "push r10",
            "sub rsp, 128",
            "and rsp, -16",
            "movups [rsp], xmm0",
            "movups [rsp+16], xmm1",
            "movups [rsp+32], xmm2",
            "movups [rsp+48], xmm3",
            "movups [rsp+64], xmm4",
            "movups [rsp+80], xmm5",
            "movups [rsp+96], xmm6",
            "movups [rsp+112], xmm7",
            "mov rdi, r11",
            "lea rsi, [rbp-48]",
            "call {resolve}",
            "mov r11, rax",
            "movups xmm0, [rsp]",
            "movups xmm1, [rsp+16]",
            "movups xmm2, [rsp+32]",
            "movups xmm3, [rsp+48]",
            "movups xmm4, [rsp+64]",
            "movups xmm5, [rsp+80]",
            "movups xmm6, [rsp+96]",
            "movups xmm7, [rsp+112]",
            "lea rsp, [rbp-64]",
            "pop r10",
            "pop rax",
            "pop r9",
            "pop r8",
            "pop rcx",
            "pop rdx",
            "pop rsi",
            "pop rdi",
            "pop rbp",
            "jmp r11",
            resolve = sym $resolve,
        )
    };
}

/// Entered by a jump from a stub with the address of its [`Wrapper`] in r11: resolves, then jumps on with all argument
/// registers as they were.
///
/// # Safety
/// Not a function to call.
#[unsafe(naked)]
pub unsafe extern "C" fn lazy_stub() {
    crate::resolve_and_jump!(resolve)
}
