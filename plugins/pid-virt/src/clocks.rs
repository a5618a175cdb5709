//! Clocks of processor time, whose numbers hold the id of the process or thread that they belong to, and timers on them.

use crate::translate::{fail, settled, task, within_one_life};
use crate::{table, timers, used};
use dmtcp_plugin_api::ids::Table;
use libc::{c_int, c_void, clockid_t, pid_t, sigevent, timespec};

/// Bits below the id: what is counted, and whether for a thread.
const KIND: i32 = 7;
const KIND_BITS: i32 = 3;
/// Kinds from here on are descriptors.
const DESCRIPTOR: i32 = 3;

/// The clock with the real id; `None`: it belongs to nobody.
#[inline(always)]
fn real(clock: clockid_t) -> Option<clockid_t> {
    if clock >= 0 { Some(clock) } else { real_of_task(clock) }
}

fn real_of_task(clock: clockid_t) -> Option<clockid_t> {
    let Some(table) = table::current() else { return Some(clock) };
    let id = !(clock >> KIND_BITS);
    // Nobody's id: the calling one. And kinds that hold no id.
    if id == 0 || clock & DESCRIPTOR == DESCRIPTOR {
        return Some(clock);
    }
    Some(!task(table, id)? << KIND_BITS | clock & KIND)
}

#[inline(always)]
pub fn with(clock: clockid_t, call: impl FnOnce(clockid_t) -> c_int) -> c_int {
    match real(clock) {
        Some(clock) => call(clock),
        None => fail(libc::EINVAL),
    }
}

/// As [`with`], and again when a restart falls between the look at the id and the call.
#[inline(always)]
fn with_settled(clock: clockid_t, call: impl Fn(clockid_t) -> c_int) -> c_int {
    if clock >= 0 { call(clock) } else { settled(libc::EINVAL, || with(clock, &call)) }
}

/// Whether this is no clock of processor time: it says what the kernel says, and is asked for more often than all others.
#[inline(always)]
pub fn is_of_a_wall(clock: clockid_t) -> bool {
    clock >= 0 && clock & !1 != libc::CLOCK_PROCESS_CPUTIME_ID
}

/// Reads a clock of processor time by a function that takes the real one.
#[inline(never)]
pub fn processor_time(
    clock: clockid_t,
    time: *mut timespec,
    read: impl Fn(clockid_t, *mut timespec) -> c_int,
) -> c_int {
    within_one_life(|| {
        with_settled(clock, |clock| {
            let result = read(clock, time);
            if result == 0 {
                used::wrappers::advance(clock, time);
            }
            result
        })
    })
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The real clock.
    fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
        if is_of_a_wall(clock) { next(clock, time) } else { processor_time(clock, time, next) }
    }
    /// The real clock.
    fn clock_getres(clock: clockid_t, time: *mut timespec) -> c_int { with_settled(clock, |clock| next(clock, time)) }
    /// The real clock.
    fn clock_nanosleep(clock: clockid_t, flags: c_int, time: *const timespec, rest: *mut timespec) -> c_int {
        if is_of_a_wall(clock) {
            return next(clock, flags, time, rest);
        }
        match real(clock) {
            // SAFETY: the program passes null or a valid time.
            Some(clock) => match unsafe { time.as_ref() } {
                Some(until) if flags & libc::TIMER_ABSTIME != 0 => {
                    let until = used::wrappers::until(clock, until);
                    next(clock, flags, &raw const until, rest)
                }
                _ => next(clock, flags, time, rest),
            },
            None => libc::EINVAL,
        }
    }
    /// A clock that names the virtual id.
    fn clock_getcpuclockid(pid: pid_t, clock: *mut clockid_t) -> c_int {
        let Some(table) = table::current().filter(|_| pid != 0) else { return next(pid, clock) };
        let Some(real) = task(table, pid) else { return libc::ESRCH };
        let result = next(real, clock);
        if result == 0 {
            // SAFETY: the call has just written a clock there.
            unsafe { clock.write(!pid << KIND_BITS | *clock & KIND) };
        }
        result
    }
    /// The real clock, and the real id of the thread that is to be signalled. Before plugin `timer`, which puts a real one.
    #[priority(-1)]
    fn timer_create(clock: clockid_t, event: *mut sigevent, timer: *mut c_void) -> c_int {
        // SAFETY: the program passes null or a valid event.
        let given = unsafe { event.as_ref() };
        let kind = given.map_or(libc::SIGEV_SIGNAL, |given| given.sigev_notify);
        let before = if kind == libc::SIGEV_THREAD { timers::look() } else { None };
        let make = || match table::current() {
            None => next(clock, event, timer),
            Some(table) => create(table, clock, event, |clock, event| next(clock, event.cast_mut(), timer)),
        };
        let result = settled(libc::EINVAL, make);
        if let (0, Some(before)) = (result, before) {
            timers::note_helper(&before);
        }
        result
    }
}

/// Calls with the real clock, and the real id of the thread that is to be signalled.
pub fn create(
    table: Table,
    clock: clockid_t,
    event: *const sigevent,
    call: impl FnOnce(clockid_t, *const sigevent) -> c_int,
) -> c_int {
    // SAFETY: the program passes null or a valid event.
    let kind = unsafe { event.as_ref() }.map_or(libc::SIGEV_SIGNAL, |given| given.sigev_notify);
    if kind & libc::SIGEV_THREAD_ID == 0 {
        return with(clock, |clock| call(clock, event));
    }
    by_thread(table, event, |event| with(clock, |clock| call(clock, event)))
}

/// Calls with an event that names the real id of the thread.
fn by_thread(table: Table, event: *const sigevent, call: impl FnOnce(*mut sigevent) -> c_int) -> c_int {
    // SAFETY: the event is valid, and plain words.
    let mut copy = unsafe { event.read() };
    match task(table, copy.sigev_notify_thread_id) {
        Some(real) => {
            copy.sigev_notify_thread_id = real;
            call(&raw mut copy)
        }
        None => fail(libc::EINVAL),
    }
}
