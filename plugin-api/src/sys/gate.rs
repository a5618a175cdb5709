//! The way into the kernel: a `syscall` instruction of our own, or one that somebody has chosen.
//!
//! While a process has the system calls trapped that are made past libc, those of our libraries must not be: they are made
//! where signals are blocked, and where a handler runs already. Then a library's calls go through a `syscall; ret` in
//! libc's code, which is left alone. Each library has a copy of this module, and chooses for itself.
//!
//! The number is on the stack right above the return address: a thread that is stopped inside can be told what to enter again.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Address of the instruction; 0: our own.
pub static GATE: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a `syscall` instruction.
pub const INSTRUCTION: usize = 2;
/// What a gate consists of: `syscall; ret`.
pub const CODE: [u8; 3] = [0x0f, 0x05, 0xc3];

/// Chooses where calls of this library enter the kernel.
///
/// # Safety
/// [`CODE`] must stand there for as long as the process lives; 0 means our own instruction.
pub unsafe fn set(address: usize) {
    GATE.store(address, Ordering::Release);
}

/// Where they enter it; 0: by an instruction of our own.
pub fn get() -> usize {
    GATE.load(Ordering::Acquire)
}

/// Arguments of a call: as many words as there are, and zeros.
#[inline(always)]
pub fn words<const N: usize>(given: [usize; N]) -> [usize; 6] {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&given);
    all
}

/// Makes a system call: the kernel's answer, which is a negative errno if it failed.
///
/// # Safety
/// As the call itself. One whose child goes on on another stack, or on this one beside its parent, must not be made here.
#[inline(always)]
pub unsafe fn enter(number: usize, args: [usize; 6]) -> usize {
    // SAFETY: the caller's promise.
    unsafe { pass(args[0], args[1], args[2], args[3], args[4], args[5], number) }
}

/// A function of its own, which leaves the stack as it is: debuggers find their way back from it. Its last argument lies
/// right above the return address (x86_64 ABI).
#[unsafe(naked)]
unsafe extern "C" fn pass(
    _first: usize,
    _second: usize,
    _third: usize,
    _fourth: usize,
    _fifth: usize,
    _sixth: usize,
    _number: usize,
) -> usize {
    core::arch::naked_asm!(
        "mov r10, rcx",
        "mov rcx, [rip + {gate}]",
        "mov rax, [rsp + 8]",
        "test rcx, rcx",
        "jnz 2f",
        "mov rax, [rsp + 8]",
        "syscall",
        "ret",
        "2:",
        "jmp rcx",
        gate = sym GATE,
    )
}

/// A system call by its number and as many arguments as it has; the answer as [`enter`] gives it.
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        $crate::sys::gate::enter($number as usize, $crate::sys::gate::words([$($argument as usize),*]))
    };
}
pub(super) use syscall;

#[cfg(test)]
mod tests {
    use super::*;

    #[unsafe(naked)]
    unsafe extern "C" fn own_gate() {
        core::arch::naked_asm!("syscall", "ret")
    }

    #[test]
    fn calls_go_through_the_gate_and_give_the_same() {
        // SAFETY: getpid(2) takes nothing; the gate is code of this test.
        unsafe {
            let plain = enter(libc::SYS_getpid as usize, [0; 6]);
            set(own_gate as *const () as usize);
            let gated = enter(libc::SYS_getpid as usize, [0; 6]);
            set(0);
            assert_eq!((plain, gated), (std::process::id() as usize, std::process::id() as usize));
            assert_eq!(enter(libc::SYS_close as usize, words([usize::MAX])) as isize, -(libc::EBADF as isize));
        }
    }
}
