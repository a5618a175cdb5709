//! Relative timed waits keep their deadline although a checkpoint enters their system call again.
//!
//! A call that is entered again with its original arguments waits its full time once more: with checkpoints more frequent
//! than the wait, for ever. The kernel does not tell when a call began, so these calls are wrapped:
//! * sleeps become absolute: clock_nanosleep(TIMER_ABSTIME), one clock read more;
//! * poll becomes ppoll, whose time the kernel counts down in libc's private copy;
//! * epoll_wait notes its deadline in thread-local storage, and the handler of the checkpoint signal, on the same thread,
//!   corrects the register that holds the milliseconds;
//! * sigtimedwait, semtimedop and epoll_pwait2 are given a copy of their time, and the handler corrects that;
//! * pthread_mutex_timedlock and its kin wait on a futex for a relative time in older releases of libc, and reckon it anew
//!   whenever that is interrupted: there the handler leaves them the EINTR.

use dmtcp_plugin_api::sys;
use libc::{c_int, c_uint, timespec};
use std::cell::Cell;
use std::ffi::c_void;

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

thread_local! {
    /// Deadline of the epoll_wait that the thread is in, nanoseconds of CLOCK_MONOTONIC; 0: none.
    static DEADLINE: Cell<u64> = const { Cell::new(0) };
    /// Address of the copy of its time that the wait was given, 0: it has none.
    static COPY: Cell<u64> = const { Cell::new(0) };
    /// Where the stack stood as the thread entered a function of libc's that reckons its time anew; 0: it has entered none.
    static RECKONS: Cell<u64> = const { Cell::new(0) };
}

/// How far below that its system call is, in bytes. A longjmp out of it leaves the mark behind; calls made from elsewhere on
/// the stack are not taken for its own.
const NEAR: u64 = 4096;

#[allow(clippy::disallowed_methods, reason = "only wrappers call it, on threads that run")]
fn now_on(clock: c_int) -> u64 {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec. libc's function is the vdso's: a tenth of a system call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

fn clock_now() -> u64 {
    now_on(libc::CLOCK_MONOTONIC)
}

fn split(nanoseconds: u64) -> timespec {
    timespec { tv_sec: (nanoseconds / SECOND) as i64, tv_nsec: (nanoseconds % SECOND) as i64 }
}

fn set_errno(error: c_int) {
    // SAFETY: the calling thread's errno.
    unsafe { *libc::__errno_location() = error };
}

/// Nanoseconds of a valid relative time; `None` for what the kernel must refuse itself, or cannot be added to the clock.
fn relative(time: *const timespec) -> Option<u64> {
    // SAFETY: callers pass null or a valid pointer, as nanosleep(2) demands; a wild one crashes here as it would there.
    let time = unsafe { time.as_ref() }?;
    let valid = time.tv_sec >= 0 && (0..SECOND as i64).contains(&time.tv_nsec);
    valid.then_some(())?;
    (time.tv_sec as u64).checked_mul(SECOND)?.checked_add(time.tv_nsec as u64).filter(|n| *n < u64::MAX / 4)
}

/// Sleeps until a deadline of a clock. 0, or an error number.
fn sleep_until(clock: c_int, deadline: u64) -> c_int {
    let until = split(deadline);
    clock_nanosleep::next(clock, libc::TIMER_ABSTIME, &raw const until, std::ptr::null_mut())
}

fn left(deadline: u64) -> u64 {
    deadline.saturating_sub(clock_now())
}

/// Milliseconds until the deadline of the epoll_wait that the calling thread is in; `None`: it is in none.
pub fn milliseconds_left() -> Option<u64> {
    match DEADLINE.get() {
        0 => None,
        deadline => Some(deadline.saturating_sub(sys::clock(libc::CLOCK_MONOTONIC)).div_ceil(MILLISECOND)),
    }
}

/// Runs an epoll wait of so many milliseconds. Always sets the deadline: one that a longjmp out of a handler left behind
/// is not this call's.
pub fn with_deadline(limit: c_int, wait: impl FnOnce() -> c_int) -> c_int {
    DEADLINE.set(if limit > 0 { clock_now() + limit as u64 * MILLISECOND } else { 0 });
    let result = wait();
    DEADLINE.set(0);
    result
}

/// Runs a wait with a copy of its time, which [`count_down`] corrects. As in [`with_deadline`], what a longjmp has left
/// behind is overwritten.
pub fn with_copy(time: *const timespec, wait: impl FnOnce(*const timespec) -> c_int) -> c_int {
    let Some(length) = relative(time) else {
        COPY.set(0);
        return wait(time);
    };
    let copy = Cell::new(split(length));
    DEADLINE.set(clock_now() + length);
    COPY.set(copy.as_ptr() as u64);
    let result = wait(copy.as_ptr());
    COPY.set(0);
    DEADLINE.set(0);
    result
}

/// The call is entered again with the time at this address: if it is the copy that the calling thread's wait was given, it
/// becomes what is left.
pub fn count_down(address: u64) {
    if address != 0 && address == COPY.get() {
        let left = split(DEADLINE.get().saturating_sub(sys::clock(libc::CLOCK_MONOTONIC)));
        // SAFETY: the wait that noted the address has not returned, so its copy is there.
        unsafe { (address as *mut timespec).write_volatile(left) };
    }
}

/// Runs a function of libc's that reckons anew how long it is to wait when its futex(2) is interrupted.
fn reckoning(wait: impl FnOnce() -> c_int) -> c_int {
    let here = 0u8;
    RECKONS.set((&raw const here) as u64);
    let result = wait();
    RECKONS.set(0);
    result
}

/// Whether an interrupted futex(2), with these arguments and stack pointer, is made by a function that reckons its time anew.
pub fn is_reckoned_anew(operation: u64, time: u64, sp: u64) -> bool {
    let waits = operation as c_int & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) == libc::FUTEX_WAIT;
    waits && time != 0 && RECKONS.get().checked_sub(sp).is_some_and(|distance| distance < NEAR)
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// Is left the EINTR of its wait.
    fn pthread_mutex_timedlock(mutex: *mut libc::pthread_mutex_t, until: *const timespec) -> c_int {
        reckoning(|| next(mutex, until))
    }
    /// As pthread_mutex_timedlock.
    fn pthread_mutex_clocklock(mutex: *mut libc::pthread_mutex_t, clock: c_int, until: *const timespec) -> c_int {
        reckoning(|| next(mutex, clock, until))
    }
    /// As pthread_mutex_timedlock.
    fn pthread_timedjoin_np(thread: libc::pthread_t, result: *mut *mut c_void, until: *const timespec) -> c_int {
        reckoning(|| next(thread, result, until))
    }
    /// As pthread_mutex_timedlock.
    fn pthread_clockjoin_np(
        thread: libc::pthread_t,
        result: *mut *mut c_void,
        clock: c_int,
        until: *const timespec,
    ) -> c_int {
        reckoning(|| next(thread, result, clock, until))
    }
    /// Waits with a copy of its time.
    fn semtimedop(id: c_int, operations: *mut libc::sembuf, count: libc::size_t, limit: *const timespec) -> c_int {
        with_copy(limit, |limit| next(id, operations, count, limit))
    }
    /// Becomes absolute.
    fn clock_nanosleep(clock: c_int, flags: c_int, time: *const timespec, rest: *mut timespec) -> c_int {
        // Who sets the time of day does not change how long a relative sleep on it is.
        let base = match clock {
            libc::CLOCK_MONOTONIC | libc::CLOCK_REALTIME | libc::CLOCK_TAI => Some(libc::CLOCK_MONOTONIC),
            libc::CLOCK_BOOTTIME => Some(clock),
            _ => None,
        };
        let (Some(base), Some(length), 0) = (base, relative(time), flags) else {
            return next(clock, flags, time, rest);
        };
        let deadline = now_on(base) + length;
        let error = sleep_until(base, deadline);
        if error == libc::EINTR && !rest.is_null() {
            // SAFETY: the caller passes null or a valid pointer.
            unsafe { rest.write(split(deadline.saturating_sub(now_on(base)))) };
        }
        error
    }
    /// Becomes absolute.
    fn nanosleep(time: *const timespec, rest: *mut timespec) -> c_int {
        if relative(time).is_none() {
            return next(time, rest);
        }
        match clock_nanosleep::wrapper(libc::CLOCK_MONOTONIC, 0, time, rest) {
            0 => 0,
            error => {
                set_errno(error);
                -1
            }
        }
    }
    /// Becomes absolute.
    fn usleep(microseconds: c_uint) -> c_int {
        let time = split(u64::from(microseconds) * 1000);
        nanosleep::wrapper(&raw const time, std::ptr::null_mut())
    }
    /// Becomes absolute.
    fn sleep(seconds: c_uint) -> c_uint {
        let deadline = clock_now() + u64::from(seconds) * SECOND;
        match sleep_until(libc::CLOCK_MONOTONIC, deadline) {
            0 => 0,
            _ => ((left(deadline) + SECOND / 2) / SECOND) as c_uint,
        }
    }
    /// Becomes ppoll.
    fn poll(fds: *mut libc::pollfd, count: libc::nfds_t, limit: c_int) -> c_int {
        if limit <= 0 {
            return next(fds, count, limit);
        }
        let time = split(limit as u64 * MILLISECOND);
        crate::signal::ppoll::next(fds, count, &raw const time, std::ptr::null())
    }
    /// Notes its deadline.
    fn epoll_wait(epoll: c_int, events: *mut libc::epoll_event, room: c_int, limit: c_int) -> c_int {
        with_deadline(limit, || next(epoll, events, room, limit))
    }
}
