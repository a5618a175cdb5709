//! The restart half: only explains, for timers can be made by nobody but their own process.

use crate::NAME;
use crate::state::{Posix, Time, Timers};
use dmtcp_plugin_api::restart::{Host, RestartHalf};

/// The restart half.
#[derive(Debug, Default)]
pub struct Half;

/// The section of a process, or an empty one: most processes have no timers.
fn section(host: &Host<'_>, index: u32) -> Result<Timers, String> {
    host.json(index, Timers::SECTION).map(Option::unwrap_or_default).map_err(|e| format!("plugin {NAME}: {e}"))
}

impl RestartHalf for Half {
    fn check(&self, host: &Host<'_>) -> Vec<String> {
        (0..host.process_count()).filter_map(|index| section(host, index).err()).collect()
    }

    fn create(&self, _: &Host<'_>) -> Result<(), String> {
        Ok(())
    }

    fn place(&self, _: &Host<'_>, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn explain(&self, host: &Host<'_>, index: u32) -> String {
        explain(&section(host, index).unwrap_or_default())
    }
}

fn explain(timers: &Timers) -> String {
    let posix = timers.posix.iter().map(|timer| {
        format!("  POSIX timer {}: {}, {}, {}\n", timer.id, clock(timer.clock), notice(timer), time(timer.time))
    });
    let interval = timers.interval.iter().map(|timer| {
        let name = ["ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"].get(timer.which as usize).unwrap_or(&"?");
        format!("  {name}: {}\n", time(timer.time))
    });
    posix.chain(interval).collect()
}

fn clock(clock: i32) -> String {
    match clock {
        libc::CLOCK_REALTIME => "CLOCK_REALTIME".into(),
        libc::CLOCK_MONOTONIC => "CLOCK_MONOTONIC".into(),
        libc::CLOCK_BOOTTIME => "CLOCK_BOOTTIME".into(),
        libc::CLOCK_TAI => "CLOCK_TAI".into(),
        libc::CLOCK_REALTIME_ALARM => "CLOCK_REALTIME_ALARM".into(),
        libc::CLOCK_BOOTTIME_ALARM => "CLOCK_BOOTTIME_ALARM".into(),
        ..0 => "processor time".into(),
        other => format!("clock {other}"),
    }
}

fn notice(timer: &Posix) -> String {
    match (timer.notice.kind, timer.notice.thread) {
        (libc::SIGEV_NONE, _) => "no signal".into(),
        (_, Some(tid)) => format!("signal {} to thread {tid}", timer.notice.signal),
        (_, None) => format!("signal {}", timer.notice.signal),
    }
}

fn time(time: Time) -> String {
    let seconds = |n: u64| n as f64 / 1e9;
    match time {
        Time { remaining: 0, .. } => "does not run".into(),
        Time { remaining, interval: 0 } => format!("{} s left", seconds(remaining)),
        Time { remaining, interval } => format!("{} s left, every {} s", seconds(remaining), seconds(interval)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Interval, Notice};

    #[test]
    fn a_person_can_read_it() {
        let notice = Notice { kind: libc::SIGEV_SIGNAL, thread: Some(7), signal: 34, value: 0 };
        let time = Time { remaining: 1_500_000_000, interval: 2_000_000_000 };
        let timers = Timers {
            posix: vec![Posix { id: 5, clock: 1, notice, time }],
            interval: vec![Interval { which: 0, time: Time { interval: 0, ..time } }],
            expired: Vec::new(),
        };
        assert_eq!(
            explain(&timers),
            "  POSIX timer 5: CLOCK_MONOTONIC, signal 34 to thread 7, 1.5 s left, every 2 s\n  ITIMER_REAL: 1.5 s left\n"
        );
    }
}
