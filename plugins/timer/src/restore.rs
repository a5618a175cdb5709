//! Makes timers anew in restored memory, while the application's threads are still stopped.

use crate::state::{Posix, Time, Timers};
use crate::{clock, kernel};
use dmtcp_plugin_api::core::{Core, Level};

/// How many timers are made and deleted to come to an id, where the kernel takes no wishes.
const ATTEMPTS: i32 = 1 << 20;

/// Makes all of them and sets them going.
pub fn restore(core: Core, timers: &Timers) {
    for (timer, error) in create(&timers.posix) {
        let what = format!("POSIX timer {} (clock {}) cannot be made again: error {error}", timer.id, timer.clock);
        core.tell(&what);
    }
    for timer in &timers.posix {
        // One that was not made has been reported.
        let _ = start(timer);
    }
    for interval in &timers.interval {
        if let Err(error) = kernel::set_interval(interval.which, interval.time) {
            core.log(Level::Error, &format!("interval timer {} cannot be set: error {error}", interval.which));
        }
    }
    for timer in timers.posix.iter().filter(|timer| timers.expired.contains(&timer.id)) {
        if let Err(error) = kernel::queue(timer.id, &timer.notice) {
            core.log(Level::Error, &format!("the signal of POSIX timer {} is lost: error {error}", timer.id));
        }
    }
}

fn start(timer: &Posix) -> Result<(), i32> {
    if timer.time == Time::default() { Ok(()) } else { kernel::set(timer.id, timer.time) }
}

/// Makes timers, which are sorted by id. Those that cannot be made, with the error.
fn create(timers: &[Posix]) -> Vec<(&Posix, i32)> {
    if timers.is_empty() {
        return Vec::new();
    }
    let chosen = kernel::choose_ids(true);
    let make = if chosen { create_chosen } else { create_counted };
    let failed = timers.iter().filter_map(|timer| make(timer).err().map(|error| (timer, error))).collect();
    if chosen {
        kernel::choose_ids(false);
    }
    failed
}

fn create_chosen(timer: &Posix) -> Result<(), i32> {
    let make = |clock| kernel::create(clock, &timer.notice, timer.id);
    match make(timer.clock) {
        Err(libc::EPERM) => make(clock::without_wakeup(timer.clock)),
        made => made,
    }
    .map(drop)
}

/// Ids count up from 0 in each process: those in between are made and deleted.
fn create_counted(timer: &Posix) -> Result<(), i32> {
    let mut clock = timer.clock;
    for _ in 0..ATTEMPTS {
        let given = match kernel::create(clock, &timer.notice, 0) {
            Err(libc::EPERM) if clock != clock::without_wakeup(clock) => {
                clock = clock::without_wakeup(clock);
                continue;
            }
            given => given?,
        };
        if given == timer.id {
            return Ok(());
        }
        // It has just been made.
        let _ = kernel::delete(given);
        if given > timer.id {
            return Err(libc::EBUSY);
        }
    }
    Err(libc::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing;
    use crate::state::Notice;

    fn listed() -> Vec<listing::Entry> {
        listing::parse(&std::fs::read("/proc/self/timers").unwrap()).unwrap()
    }

    /// One test, since all tests share the process's timers.
    #[test]
    fn timers_come_back_under_their_ids() {
        let notice = Notice { kind: libc::SIGEV_SIGNAL, thread: None, signal: libc::SIGUSR1, value: 0x1_2345_6789 };
        let time = Time { remaining: 3_600_000_000_000, interval: 7_000_000_000 };
        let posix = |id, clock| Posix { id, clock, notice, time };
        let delete = |wanted: &[Posix]| wanted.iter().for_each(|timer| kernel::delete(timer.id).unwrap());
        // Counted first: ids that were chosen count too.
        let counted = [posix(3, libc::CLOCK_MONOTONIC), posix(17, libc::CLOCK_REALTIME)];
        let chosen = [posix(400, libc::CLOCK_BOOTTIME), posix(401, -6), posix(100_000, libc::CLOCK_TAI)];
        for wanted in [&counted[..], &chosen[..]] {
            let failed = if wanted.len() == counted.len() {
                wanted.iter().filter_map(|timer| create_counted(timer).err()).count()
            } else if kernel::choose_ids(false) {
                create(wanted).len()
            } else {
                continue;
            };
            assert_eq!(failed, 0);
            for (timer, entry) in wanted.iter().zip(listed()) {
                assert_eq!((timer.id, timer.clock, timer.notice), (entry.id, entry.clock, entry.notice));
                start(timer).unwrap();
                let left = kernel::left(timer.id).unwrap();
                assert!(left.interval == time.interval && left.remaining > time.remaining - 1_000_000_000);
            }
            delete(wanted);
        }
        assert_eq!(create_counted(&counted[0]), Err(libc::EBUSY));
        assert!(listed().is_empty());
    }
}
