//! Clocks that count the processor time of one thread.
//!
//! A timer on CLOCK_THREAD_CPUTIME_ID counts its creator's time, and the kernel does not tell whose that is. The same timer
//! made with the clock of that thread's id tells, so libc's timer_create(2) makes it that way.

use dmtcp_plugin_api::sys;
use libc::{c_int, clockid_t, sigevent, timer_t};

/// CPUCLOCK_SCHED, of a thread.
const THREAD_CLOCK: i32 = 6;
/// What the kernel says of a timer that was made with CLOCK_THREAD_CPUTIME_ID by a raw system call.
pub const SOME_THREAD: i32 = of_thread(0);

/// The clock that counts a thread's processor time.
pub const fn of_thread(tid: i32) -> i32 {
    !tid << 3 | THREAD_CLOCK
}

/// A clock of processor time with the id in it replaced; one that names the caller, or no one, stays as it is.
pub fn with_id(clock: i32, with: impl Fn(i32) -> i32) -> i32 {
    let id = !(clock >> 3);
    if clock >= 0 || id == 0 { clock } else { !with(id) << 3 | clock & 7 }
}

/// The clock that does the same without waking a machine that sleeps, which takes a privilege.
pub fn without_wakeup(clock: i32) -> i32 {
    match clock {
        libc::CLOCK_REALTIME_ALARM => libc::CLOCK_REALTIME,
        libc::CLOCK_BOOTTIME_ALARM => libc::CLOCK_BOOTTIME,
        other => other,
    }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// See the module.
    fn timer_create(clock: clockid_t, event: *mut sigevent, timer: *mut timer_t) -> c_int {
        let own = clock == libc::CLOCK_THREAD_CPUTIME_ID;
        next(if own { of_thread(sys::tid()) } else { clock }, event, timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_clock_is_what_libc_says() {
        let mut clock = 0;
        // SAFETY: the calling thread's own handle, a valid place for the result.
        assert_eq!(unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) }, 0);
        assert_eq!(clock, of_thread(sys::tid()));
        assert_eq!(SOME_THREAD, -2);
    }
}
