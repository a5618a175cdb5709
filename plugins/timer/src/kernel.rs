//! The system calls of timers, raw, for the calling process: errors are errno values, times are nanoseconds.

use crate::state::{Notice, Time};
use dmtcp_plugin_api::sys;

type Result<T> = std::result::Result<T, i32>;

const SECOND: u64 = 1_000_000_000;
/// Least time of an interval timer.
pub const MICROSECOND: u64 = 1000;
/// Since Linux 6.15: timer_create(2) takes the id that it is given.
const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
const SI_TIMER: i32 = -2;

/// `struct sigevent` as the kernel reads it.
#[repr(C)]
struct Event {
    value: u64,
    signal: i32,
    notify: i32,
    thread: i32,
    rest: [i32; 11],
}

/// A siginfo of a timer, as the kernel fills it.
#[repr(C)]
struct Info {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    timer: i32,
    overrun: i32,
    value: u64,
    rest: [u64; 12],
}

/// Seconds and a fraction of one, as in timespec and timeval: interval, value.
type Pair = [[i64; 2]; 2];

fn pair(time: Time, unit: u64) -> Pair {
    [time.interval, time.remaining].map(|n| [(n / SECOND) as i64, (n % SECOND / unit) as i64])
}

fn time(pair: Pair, unit: u64) -> Time {
    let [interval, remaining] = pair
        .map(|[whole, part]| (whole as u64).saturating_mul(SECOND).saturating_add((part as u64).saturating_mul(unit)));
    Time { remaining, interval }
}

fn call(number: libc::c_long, args: [usize; 4]) -> Result<usize> {
    // SAFETY: the callers below pass integers and pointers to local values that the call of that number reads or fills.
    unsafe { sys::call(number as i32, [args[0], args[1], args[2], args[3], 0, 0]) }
}

/// timer_gettime.
pub fn left(id: i32) -> Result<Time> {
    let mut out: Pair = Default::default();
    call(libc::SYS_timer_gettime, [id as usize, (&raw mut out) as usize, 0, 0])?;
    Ok(time(out, 1))
}

/// timer_settime, relative.
pub fn set(id: i32, new: Time) -> Result<()> {
    let new = pair(new, 1);
    call(libc::SYS_timer_settime, [id as usize, 0, (&raw const new) as usize, 0]).map(drop)
}

/// timer_delete.
pub fn delete(id: i32) -> Result<()> {
    call(libc::SYS_timer_delete, [id as usize, 0, 0, 0]).map(drop)
}

/// timer_create. `id`: what the kernel is asked for if it takes wishes; the result is what it gave.
pub fn create(clock: i32, notice: &Notice, id: i32) -> Result<i32> {
    let event = Event {
        value: notice.value,
        signal: notice.signal,
        notify: notice.kind | if notice.thread.is_some() { libc::SIGEV_THREAD_ID } else { 0 },
        thread: notice.thread.unwrap_or(0),
        rest: [0; 11],
    };
    let mut given = id;
    call(libc::SYS_timer_create, [clock as usize, (&raw const event) as usize, (&raw mut given) as usize, 0])?;
    Ok(given)
}

/// Whether timer_create is to take the id that it is given; `false` where the kernel does not know of that.
pub fn choose_ids(on: bool) -> bool {
    sys::prctl(PR_TIMER_CREATE_RESTORE_IDS, usize::from(on), 0, 0, 0).is_ok()
}

/// getitimer.
pub fn interval(which: i32) -> Result<Time> {
    let mut out: Pair = Default::default();
    call(libc::SYS_getitimer, [which as usize, (&raw mut out) as usize, 0, 0])?;
    Ok(time(out, MICROSECOND))
}

/// setitimer. What is left of a microsecond counts as one: less than one would stop the timer.
pub fn set_interval(which: i32, new: Time) -> Result<()> {
    let up = |n: u64| n.next_multiple_of(MICROSECOND);
    let new = pair(Time { remaining: up(new.remaining), interval: up(new.interval) }, MICROSECOND);
    call(libc::SYS_setitimer, [which as usize, (&raw const new) as usize, 0, 0]).map(drop)
}

/// Queues the signal of an expired POSIX timer once more, to its thread or to the process.
pub fn queue(id: i32, notice: &Notice) -> Result<()> {
    let (signal, value) = (notice.signal, notice.value);
    let info = Info { signal, errno: 0, code: SI_TIMER, padding: 0, timer: id, overrun: 0, value, rest: [0; 12] };
    let (pid, signal, info) = (sys::pid() as usize, signal as usize, (&raw const info) as usize);
    match notice.thread {
        Some(tid) => call(libc::SYS_rt_tgsigqueueinfo, [pid, tid as usize, signal, info]),
        None => call(libc::SYS_rt_sigqueueinfo, [pid, signal, info, 0]),
    }
    .map(drop)
}

/// The signal of an interval timer.
pub fn signal_of(which: i32) -> i32 {
    match which {
        libc::ITIMER_REAL => libc::SIGALRM,
        libc::ITIMER_VIRTUAL => libc::SIGVTALRM,
        _ => libc::SIGPROF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<Event>(), size_of::<Info>()), (64, 128));
        assert_eq!((std::mem::offset_of!(Info, timer), std::mem::offset_of!(Info, value)), (16, 24));
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        let one = Time { remaining: 3 * SECOND + 7, interval: 12 };
        assert_eq!(time(pair(one, 1), 1), one);
        assert_eq!(time([[0, 5], [1, 2]], MICROSECOND), Time { remaining: SECOND + 2000, interval: 5000 });
    }
}
