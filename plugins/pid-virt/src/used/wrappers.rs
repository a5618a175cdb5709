//! The functions of libc that tell what was used. A restart in the middle of one has it ask again.

use super::{ELAPSED, base, offset};
use crate::translate::within_one_life;
use dmtcp_plugin_api::usage::Usage;
use dmtcp_plugin_api::{proc_files, sys};
use libc::{c_int, c_void, clock_t, itimerspec, rusage, timespec, tms};
use std::sync::atomic::Ordering;

/// Microseconds of a clock tick.
const TICK: i64 = 10_000;
const SECOND: i64 = 1_000_000_000;

/// Nanoseconds of a time.
pub fn nanoseconds(time: &timespec) -> i64 {
    time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_nsec)
}

/// Such a time; none is before 0.
pub fn time(nanoseconds: i64) -> timespec {
    let nanoseconds = nanoseconds.max(0);
    timespec { tv_sec: nanoseconds / SECOND, tv_nsec: nanoseconds % SECOND }
}

/// Adds to what a clock of processor time, by its real number, has said.
pub fn advance(clock: c_int, said: *mut timespec) {
    let more = offset(clock);
    if more != 0 {
        // SAFETY: the call has just written a time there.
        unsafe { said.write(time(nanoseconds(&*said) + more)) };
    }
}

/// What the kernel's clock, by its real number, says when the program's says this; never 0, which stops a timer.
pub fn until(clock: c_int, point: &timespec) -> timespec {
    match offset(clock) {
        more if more != 0 && (0..SECOND).contains(&point.tv_nsec) => time((nanoseconds(point) - more).max(1)),
        _ => *point,
    }
}

/// The kernel's number of a timer. Up to glibc 2.32 libc's functions know every timer by a structure that begins with its
/// kind and that number, later ones by the number, but for those that call a function, which are not told.
fn number_of(timer: *mut c_void) -> Option<i32> {
    match timer as isize {
        number if number < 0 => None,
        number => i32::try_from(number).ok().or_else(|| {
            let mut fields = [[0u8; 4]; 2];
            let read = sys::copy_from(timer as u64, fields.as_flattened_mut());
            (read == Ok(size_of_val(&fields))).then(|| i32::from_ne_bytes(fields[1]))
        }),
    }
}

/// The real clock of a timer.
fn clock_of(timer: *mut c_void) -> Option<c_int> {
    let id = number_of(timer)?;
    let text = proc_files::read_file("/proc/thread-self/../../timers").ok()?;
    let (text, first) = (String::from_utf8_lossy(&text), format!("ID: {id}"));
    let mut lines = text.lines().skip_while(|line| *line != first);
    lines.find_map(|line| line.strip_prefix("ClockID: "))?.trim().parse().ok()
}

/// User and system time in clock ticks.
fn ticks(who: c_int) -> [clock_t; 2] {
    let sum = Usage::from(&sys::usage(who)).plus(&base(who).unwrap_or_default());
    [sum.user / TICK, sum.system / TICK]
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// With what was used before.
    fn getrusage(who: c_int, usage: *mut rusage) -> c_int {
        within_one_life(|| {
            let result = next(who, usage);
            if let (0, Some(base)) = (result, base(who)) {
                // SAFETY: the call has just filled it.
                base.add_to(unsafe { &mut *usage });
            }
            result
        })
    }
    /// With what was used before. Its parts of a tick count, so the sum is made of finer values.
    fn times(buffer: *mut tms) -> clock_t {
        within_one_life(|| {
            let elapsed = next(buffer);
            if base(libc::RUSAGE_SELF).is_none() {
                return elapsed;
            }
            // SAFETY: the program passes null or a place for the times.
            if let Some(times) = unsafe { buffer.as_mut() } {
                [times.tms_utime, times.tms_stime] = ticks(libc::RUSAGE_SELF);
                [times.tms_cutime, times.tms_cstime] = ticks(libc::RUSAGE_CHILDREN);
            }
            elapsed + ELAPSED.load(Ordering::Acquire)
        })
    }
    /// Until a point of what the kernel counts.
    fn timer_settime(timer: *mut c_void, flags: c_int, new: *const itimerspec, old: *mut itimerspec) -> c_int {
        if flags & libc::TIMER_ABSTIME == 0 {
            return next(timer, flags, new, old);
        }
        // Set again if a restart, perhaps the first one, fell between the conversion and the kernel.
        within_one_life(|| {
            // SAFETY: the program passes null or a valid time.
            let given = unsafe { new.as_ref() }.filter(|new| nanoseconds(&new.it_value) != 0);
            let given = given.filter(|_| base(libc::RUSAGE_SELF).is_some());
            match given.and_then(|new| Some((new, clock_of(timer)?))) {
                Some((new, clock)) => {
                    let converted = itimerspec { it_value: until(clock, &new.it_value), ..*new };
                    next(timer, flags, &raw const converted, old)
                }
                None => next(timer, flags, new, old),
            }
        })
    }
    /// With what was used before.
    fn clock() -> clock_t {
        within_one_life(|| match base(libc::RUSAGE_SELF) {
            None => next(),
            Some(base) => (sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID) as i64 + base.clock) / 1000,
        })
    }
}
