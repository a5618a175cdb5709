//! Monotonic time across a restart: it goes on from where it was, and never goes back.
//!
//! Deadlines are all over a process: in its memory, in system calls that are entered again, in libc's locks. They are
//! values of CLOCK_MONOTONIC, which after a reboot or on another host starts from nothing. The processes therefore get a
//! time namespace (time_namespaces(7)) whose offsets make up for the difference:
//!
//! ```text
//!   continue   monotonic time of the processes = what it was at the checkpoint, plus the time since the restart
//!   real       the same plus the wall-clock time in between; nothing is done where the kernel's clock says so anyway
//! ```
//! It takes privilege, or the user namespace that the processes get anyway (see [`crate::namespace`]). Where there is
//! none, the clock is the kernel's: on the same boot it counts the time away, after a reboot it goes back, which is told.

use crate::{kernel, report};
use dmtcp_image::record::Identity;
use dmtcp_launcher::flags::Clock;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use std::fs::{self, File};
use std::io;
use std::os::fd::RawFd;

const SECOND: i64 = 1_000_000_000;
/// What `real` tolerates: the image knows its wall-clock time in seconds.
const TOLERANCE: i64 = 2 * SECOND;
/// Not among nix's flags.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// What is added to the kernel's clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    monotonic: i64,
    boottime: i64,
}

/// Clocks in nanoseconds.
struct Now {
    monotonic: i64,
    boottime: i64,
    seconds: i64,
}

/// The shift for the processes of these images; `asked` overrides what they were launched with. Processes of several
/// boots have one clock afterwards: the latest, so that it goes back for nobody.
pub fn shift<'a>(images: impl Iterator<Item = &'a Identity>, asked: Option<Clock>) -> Shift {
    let read = |clock: ClockId| clock_gettime(clock).map_or(0, |time| time.num_nanoseconds());
    let now = Now {
        monotonic: read(ClockId::CLOCK_MONOTONIC),
        boottime: read(ClockId::CLOCK_BOOTTIME),
        seconds: read(ClockId::CLOCK_REALTIME) / SECOND,
    };
    images.map(|identity| shift_of(identity, asked, &now)).max_by_key(|shift| shift.monotonic).unwrap_or_default()
}

fn shift_of(identity: &Identity, asked: Option<Clock>, now: &Now) -> Shift {
    let launched = if identity.clock_is_real { Clock::Real } else { Clock::Continue };
    let then = |value: u64| i64::try_from(value).unwrap_or(0);
    let away = match asked.unwrap_or(launched) {
        Clock::Continue => 0,
        Clock::Real => (now.seconds - then(identity.taken)).max(0).saturating_mul(SECOND),
    };
    let monotonic = then(identity.monotonic).saturating_add(away) - now.monotonic;
    let boottime = then(identity.boottime).saturating_add(away) - now.boottime;
    if identity.monotonic == 0 || (away > 0 && monotonic.abs() < TOLERANCE) {
        return Shift::default();
    }
    Shift { monotonic, boottime: if identity.boottime == 0 { monotonic } else { boottime } }
}

impl Shift {
    /// Tells that time goes back for the processes, if without a namespace it does.
    pub fn warn(self, stderr: RawFd, error: &io::Error) {
        if self.monotonic > 0 {
            let line = format!(
                "dmtcp_restart: warning: monotonic time goes back by {} s for the processes, and what waits for a point of \
                 it waits longer: no time namespace can be made ({error}); restart with privilege, or where user namespaces \
                 are allowed\n",
                self.monotonic / SECOND
            );
            report::write(stderr, &line);
        }
    }

    /// From here on children of the calling process have a clock that is shifted, until [`leave`]. The calling process must
    /// be single-threaded, and cannot make threads meanwhile.
    pub fn enter(self) -> io::Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        if kernel::forbidden("time_namespace") {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        unshare(CLONE_NEWTIME)?;
        let line =
            |name: &str, value: i64| format!("{name} {} {}\n", value.div_euclid(SECOND), value.rem_euclid(SECOND));
        let offsets = line("monotonic", self.monotonic) + &line("boottime", self.boottime);
        fs::write("/proc/self/timens_offsets", offsets).inspect_err(|_| leave())
    }
}

/// Children have the caller's own clock again. Fails harmlessly for who may not: the init of a namespace, which makes no
/// more processes.
pub fn leave() {
    if let Ok(own) = File::open("/proc/self/ns/time") {
        let _ = setns(own, CLONE_NEWTIME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic: i64, seconds: i64) -> Now {
        Now { monotonic: monotonic * SECOND, boottime: monotonic * SECOND, seconds }
    }

    fn taken(monotonic: i64, seconds: u64) -> Identity {
        let monotonic = (monotonic * SECOND) as u64;
        Identity { monotonic, boottime: monotonic, taken: seconds, ..Identity::default() }
    }

    #[test]
    fn time_goes_on_where_it_was() {
        let shift = shift_of(&taken(100, 5000), None, &at(400, 5300));
        assert_eq!(shift, Shift { monotonic: -300 * SECOND, boottime: -300 * SECOND });
    }

    #[test]
    fn after_a_reboot_time_does_not_go_back() {
        let shift = shift_of(&taken(1000, 5000), Some(Clock::Continue), &at(10, 6000));
        assert_eq!(shift, Shift { monotonic: 990 * SECOND, boottime: 990 * SECOND });
    }

    #[test]
    fn real_time_counts_the_time_away() {
        let rebooted = shift_of(&taken(1000, 5000), Some(Clock::Real), &at(10, 6000));
        assert_eq!(rebooted.monotonic, 1990 * SECOND);
        let same_boot = shift_of(&taken(1000, 5000), Some(Clock::Real), &at(2001, 6000));
        assert_eq!(same_boot, Shift::default());
    }

    #[test]
    fn what_a_launch_asked_for_counts_until_a_restart_asks() {
        let launched = Identity { clock_is_real: true, ..taken(100, 5000) };
        assert_eq!(shift_of(&launched, None, &at(10, 5050)).monotonic, 140 * SECOND);
        assert_eq!(shift_of(&launched, Some(Clock::Continue), &at(10, 5050)).monotonic, 90 * SECOND);
    }

    #[test]
    fn the_latest_clock_counts_for_all() {
        let images = [taken(100, 0), taken(5_000_000_000, 0)];
        assert!(shift(images.iter(), None).monotonic > 0);
        assert_eq!(shift([].iter(), None), Shift::default());
    }
}
