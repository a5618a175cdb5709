//! No EINTR because of us: a system call that our signal interrupted is entered again.
//!
//! Calls that the kernel restarts by itself (SA_RESTART) are rewound before the handler runs. The others show -EINTR in
//! RAX. Such a call is entered again when its number is known, and it is not one whose second entry means something else:
//! * the call was sampled just before the signal was sent, and stack pointer, PC and all six argument registers are still
//!   those of the sample (glibc >= 2.41 has one `syscall` instruction for many calls, so the PC alone does not tell); or
//! * they are not, since the thread went into the call after it was sampled, or the sample says restart_syscall, as it does
//!   of many a wait that SIGCONT has continued; but its code tells ([`call_number`]).
//!
//! A signal of ours that comes after its stop was given up, or that was sent a second time, interrupts calls as well: its
//! handler does the same ([`enter_again`]). So does a tracer, without a handler (`tracer`).
//!
//! Decided anew when the thread goes on: if by then a signal is pending that the application handles, -EINTR stays, since
//! `pause` and its like would otherwise miss the wake-up that they wait for.

use super::call_number;
use super::slot::{Sample, Saved};
use crate::capture::sink::copy_words;
use crate::timed;
use dmtcp_plugin_api::sys;
use libc::{REG_R8, REG_R9, REG_R10, REG_RAX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP};

const SYSCALL_INSTRUCTION: [u8; 2] = [0x0f, 0x05];
const KERNEL_SET: usize = 8;

/// Calls that are never entered again: close (the descriptor is gone), connect (says EALREADY), restart_syscall (knows a
/// call only until the thread makes another one), io_uring_enter (may have submitted).
const NEVER: [i64; 4] = [libc::SYS_close, libc::SYS_connect, libc::SYS_restart_syscall, libc::SYS_io_uring_enter];

fn register(frame: &libc::ucontext_t, index: i32) -> u64 {
    frame.uc_mcontext.gregs[index as usize] as u64
}

/// The call to enter again, -1: none.
pub fn call_to_repeat(frame: &libc::ucontext_t, sample: &Sample) -> i64 {
    if register(frame, REG_RAX) as i64 != -i64::from(libc::EINTR) {
        return -1;
    }
    if !call_number::is_behind_a_call(frame) {
        return -1;
    }
    let now = [REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9].map(|r| register(frame, r));
    let place = [register(frame, REG_RSP), register(frame, REG_RIP)];
    let same = sample.number >= 0 && [sample.sp, sample.pc] == place && sample.arguments == now;
    let number = if same && sample.number != libc::SYS_restart_syscall {
        sample.number
    } else {
        call_number::of(frame).unwrap_or(-1)
    };
    if NEVER.contains(&number) { -1 } else { number }
}

/// The call that the thread will be in again when it goes on: ours to enter again, or one that the kernel has rewound.
pub fn call_under_way(frame: &libc::ucontext_t, saved: &Saved) -> Option<i64> {
    if saved.rewind >= 0 {
        return Some(saved.rewind);
    }
    let (pc, number) = (register(frame, REG_RIP), register(frame, REG_RAX) as i64);
    if saved.sample.number != number || saved.sample.pc != pc + 2 || saved.sample.sp != register(frame, REG_RSP) {
        return None;
    }
    // SAFETY: the thread is about to execute what stands there, so it is mapped; byte by byte, for nothing is aligned.
    let at = |n: u64| unsafe { ((pc + n) as *const u8).read_volatile() };
    ([at(0), at(1)] == SYSCALL_INSTRUCTION).then_some(number)
}

/// What the call blocks as long as it lasts, if it has a mask of its own; nothing if not.
fn blocked_meanwhile(frame: &libc::ucontext_t, number: i64) -> u64 {
    let word = |address: u64| {
        let mut word = [0];
        let read = address != 0 && copy_words(address, &mut word) == 1;
        if read { word[0] } else { 0 }
    };
    word(match number {
        libc::SYS_rt_sigsuspend => register(frame, REG_RDI),
        libc::SYS_ppoll => register(frame, REG_R10),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => register(frame, REG_R8),
        // The address stands in memory, beside the size of the mask.
        libc::SYS_pselect6 => word(register(frame, REG_R9)),
        _ => 0,
    })
}

/// Whether a signal is pending that will run a handler as soon as the thread goes on, and that ends the call. One that only
/// the call blocks has its handler run before the call is entered again.
fn handler_is_due(frame: &libc::ucontext_t, number: i64) -> bool {
    let mut pending = 0u64;
    // SAFETY: the kernel writes 8 bytes.
    let result =
        unsafe { sys::call(libc::SYS_rt_sigpending as i32, [(&raw mut pending) as usize, KERNEL_SET, 0, 0, 0, 0]) };
    if result.is_err() {
        return false;
    }
    // SAFETY: the first word of a sigset_t is the kernel's set.
    let blocked = unsafe { (&raw const frame.uc_sigmask).cast::<u64>().read() };
    // One of ours that came twice is nobody's wake-up.
    let ours = if crate::signal::is_handled_by_application() { 0 } else { crate::signal::bit() };
    let due = pending & !blocked & !blocked_meanwhile(frame, number) & !ours;
    (1..=64).filter(|n| due & (1 << (n - 1)) != 0).any(|n| crate::signal::disposition(n).is_some_and(|d| d.handler > 1))
}

/// Where the thread does not park: enters the call again that our signal has interrupted, if its code tells which that is.
pub fn enter_again(frame: &mut libc::ucontext_t) {
    let number = call_to_repeat(frame, &Sample { number: -1, ..Sample::default() });
    apply(frame, number);
}

/// Whether a call that shows this result to a tracer is one that would fail because of it: the kernel restarts others.
pub fn would_fail(number: i64, result: i64) -> bool {
    result == -i64::from(libc::EINTR) && number >= 0 && !NEVER.contains(&number)
}

/// Enters the call again unless a handler is due, or libc does that itself.
pub fn apply(frame: &mut libc::ucontext_t, number: i64) {
    let reckons = number == libc::SYS_futex
        && timed::is_reckoned_anew(register(frame, REG_RSI), register(frame, REG_R10), register(frame, REG_RSP));
    if number >= 0 && !reckons && !handler_is_due(frame, number) {
        if matches!(number, libc::SYS_epoll_wait | libc::SYS_epoll_pwait)
            && let Some(milliseconds) = timed::milliseconds_left()
        {
            frame.uc_mcontext.gregs[REG_R10 as usize] = milliseconds as i64;
        }
        match number {
            libc::SYS_rt_sigtimedwait => timed::count_down(register(frame, REG_RDX)),
            libc::SYS_semtimedop | libc::SYS_epoll_pwait2 => timed::count_down(register(frame, REG_R10)),
            _ => {}
        }
        frame.uc_mcontext.gregs[REG_RAX as usize] = number;
        frame.uc_mcontext.gregs[REG_RIP as usize] -= 2;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")]
mod tests {
    use super::*;
    use crate::threads::{handler, slot, stop, tracer};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    /// What a thread is told by a call that the kernel never restarts, when this is done to it in the middle of it.
    fn error_in_sigtimedwait(disturb: impl Fn(i32)) -> i32 {
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            tell.send(sys::tid()).unwrap();
            let limit = libc::timespec { tv_sec: 0, tv_nsec: 300_000_000 };
            // SAFETY: an empty set, and a valid time.
            let result = unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut set);
                libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const limit)
            };
            assert_eq!(result, -1);
            std::io::Error::last_os_error().raw_os_error().unwrap()
        });
        let tid = told.recv().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while stop::call_of(tid).is_none_or(|call| call.number != libc::SYS_rt_sigtimedwait) {
            assert!(Instant::now() < deadline && !thread.is_finished());
            thread::yield_now();
        }
        disturb(tid);
        thread.join().unwrap()
    }

    #[test]
    fn a_signal_that_comes_after_its_stop_fails_no_call() {
        let number = libc::SIGRTMIN() + 7;
        handler::install_handler(number).unwrap();
        let error = error_in_sigtimedwait(|tid| {
            let given_up = slot::of(tid).unwrap();
            stop::send_to(sys::pid(), tid, number, given_up.address()).unwrap();
        });
        assert_eq!(error, libc::EAGAIN);
    }

    #[test]
    fn a_tracer_fails_no_call() {
        let error = error_in_sigtimedwait(|tid| assert!(tracer::unblock(tid, 1 << libc::SIGRTMIN())));
        assert_eq!(error, libc::EAGAIN);
    }
}
