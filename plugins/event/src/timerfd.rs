//! timerfd_create(2): the kernel tells everything, once it has been asked for the time left.
//!
//! A timer is made disarmed and set going in restored memory, so that the time that a restart takes does not count.

use crate::state::{Kind, Object, Timer};
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{proc_files, sys};

const SECOND: u64 = 1_000_000_000;
const ABSOLUTE: i32 = 1;
const TFD_IOC_SET_TICKS: usize = 0x4008_5400;

/// Number of a descriptor of each timer that is to go on, and its state.
static TIMERS: Round<Vec<(i32, Timer)>> = Round::new(Vec::new());

/// Looks at one through a copy.
pub fn look(copy: i32) -> Result<Kind, i32> {
    // An expired periodic timer is only brought up to date when it is asked.
    sys::timer_left(copy)?;
    let info = proc_files::read_file(&format!("/proc/thread-self/fdinfo/{copy}"))?;
    let mut timer = parse(&info).ok_or(libc::EPROTO)?;
    if timer.flags & ABSOLUTE != 0 && tells_time_of_day(timer.clock) && timer.remaining != 0 {
        timer.deadline = Some(sys::clock(timer.clock) + timer.remaining);
    }
    Ok(Kind::Timer(timer))
}

fn tells_time_of_day(clock: i32) -> bool {
    clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_ALARM
}

fn parse(info: &[u8]) -> Option<Timer> {
    let text = std::str::from_utf8(info).ok()?;
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let time = |name| {
        let (seconds, nanoseconds) = field(name)?.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
        Some(seconds.parse::<u64>().ok()? * SECOND + nanoseconds.parse::<u64>().ok()?)
    };
    Some(Timer {
        clock: field("clockid")?.parse().ok()?,
        flags: i32::from_str_radix(field("settime flags")?, 8).ok()?,
        ticks: field("ticks")?.parse().ok()?,
        remaining: time("it_value")?,
        interval: time("it_interval")?,
        deadline: None,
    })
}

/// Notes what there is to do after a restart.
pub fn remember(objects: &[Object]) {
    let timers = objects.iter().filter_map(|o| match &o.kind {
        Kind::Timer(timer) => Some((o.number(), *timer)),
        _ => None,
    });
    let timers: Vec<_> = timers.collect();
    TIMERS.with(|kept| *kept = timers);
}

/// The hook for RESTART.
pub fn restore(core: Core) {
    for (number, timer) in TIMERS.take() {
        if let Err(error) = core.copy_descriptor(number).and_then(|copy| set(copy.number(), &timer)) {
            core.log(Level::Error, &format!("fd {number}: its timer cannot be set going again: error {error}"));
        }
    }
}

fn set(fd: i32, timer: &Timer) -> Result<(), i32> {
    // What was absolute on a clock that starts anew with the machine goes on with the time that was left.
    let (flags, value) = match timer.deadline {
        Some(deadline) => (timer.flags, deadline),
        None => (timer.flags & !ABSOLUTE, timer.remaining),
    };
    if timer.remaining != 0 {
        sys::set_timer(fd, flags, value, timer.interval)?;
    }
    if timer.ticks != 0 {
        let mut ticks = timer.ticks;
        sys::ioctl(fd, TFD_IOC_SET_TICKS, &mut ticks)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(clock: i32) -> sys::Fd {
        // SAFETY: no memory is passed; nobody else owns the result.
        sys::Fd::own(unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })
    }

    fn seen(fd: &sys::Fd) -> Timer {
        match look(fd.number()) {
            Ok(Kind::Timer(timer)) => timer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_timer_goes_on_with_what_was_left() {
        let (old, new) = (timer(libc::CLOCK_MONOTONIC), timer(libc::CLOCK_MONOTONIC));
        sys::set_timer(old.number(), 0, 50 * SECOND, 7).unwrap();
        let before = seen(&old);
        assert!(before.remaining > 49 * SECOND && before.remaining <= 50 * SECOND && before.interval == 7);
        set(new.number(), &before).unwrap();
        let after = seen(&new);
        assert!(after.remaining <= before.remaining && after.remaining > 49 * SECOND);
        assert_eq!((after.interval, after.ticks, after.flags, after.deadline), (7, 0, 0, None));
    }

    #[test]
    fn unread_expirations_stay_unread() {
        let (old, new) = (timer(libc::CLOCK_MONOTONIC), timer(libc::CLOCK_MONOTONIC));
        sys::set_timer(old.number(), 0, 1, SECOND * 100).unwrap();
        sys::nap(1_000_000);
        let before = seen(&old);
        assert_eq!(before.ticks, 1);
        set(new.number(), &before).unwrap();
        let mut ticks = [0; 8];
        assert_eq!(sys::read(new.number(), &mut ticks), Ok(8));
        assert_eq!(u64::from_ne_bytes(ticks), 1);
    }

    #[test]
    fn an_appointment_is_kept() {
        let old = timer(libc::CLOCK_REALTIME);
        let deadline = sys::clock(libc::CLOCK_REALTIME) + 50 * SECOND;
        sys::set_timer(old.number(), ABSOLUTE, deadline, 0).unwrap();
        let before = seen(&old);
        assert!(before.deadline.unwrap().abs_diff(deadline) < SECOND / 10, "{before:?} {deadline}");
        let new = timer(libc::CLOCK_REALTIME);
        set(new.number(), &before).unwrap();
        assert_eq!(seen(&new).flags, ABSOLUTE);
        assert_eq!(parse(b"clockid: x"), None);
    }
}
