//! What a process, a thread, or the children that were waited for have used: processor time, and the counters of
//! getrusage(2).
//!
//! The kernel counts anew for each process that it makes, so behind a restart a program must be told the sum of what the
//! kernel says and a [`Usage`] of its own, whose values may be negative: the restart has used something, too.

use crate::sys;
use serde::{Deserialize, Serialize};

/// Microseconds in a second.
const MICROSECONDS: i64 = 1_000_000;
/// How many values there are.
pub const VALUES: usize = 10;

/// Amounts, or differences of amounts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Nanoseconds on a processor; of children 0: the kernel keeps no such clock.
    pub clock: i64,
    /// Microseconds of it in the program's own code.
    pub user: i64,
    /// Microseconds of it in the kernel.
    pub system: i64,
    /// Page faults that needed no disk.
    pub minor_faults: i64,
    /// Page faults that did.
    pub major_faults: i64,
    /// Blocks read.
    pub blocks_in: i64,
    /// Blocks written.
    pub blocks_out: i64,
    /// How often it waited.
    pub waits: i64,
    /// How often the processor was taken away.
    pub preemptions: i64,
    /// The most memory that it had, in KiB. Of two amounts the greater one counts.
    pub most_memory: i64,
}

impl Usage {
    /// What the kernel says of `RUSAGE_SELF`, `RUSAGE_THREAD` or `RUSAGE_CHILDREN`.
    pub fn of(who: i32) -> Self {
        let clock = match who {
            libc::RUSAGE_SELF => sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID),
            libc::RUSAGE_THREAD => sys::clock(libc::CLOCK_THREAD_CPUTIME_ID),
            _ => 0,
        };
        Self { clock: clock as i64, ..Self::from(&sys::usage(who)) }
    }

    /// The values, in the order of the fields.
    pub fn values(&self) -> [i64; VALUES] {
        let Self {
            clock,
            user,
            system,
            minor_faults,
            major_faults,
            blocks_in,
            blocks_out,
            waits,
            preemptions,
            most_memory,
        } = *self;
        [clock, user, system, minor_faults, major_faults, blocks_in, blocks_out, waits, preemptions, most_memory]
    }

    /// What has these values.
    pub fn from_values(values: [i64; VALUES]) -> Self {
        let [clock, user, system, minor_faults, major_faults, blocks_in, blocks_out, waits, preemptions, most_memory] =
            values;
        Self { clock, user, system, minor_faults, major_faults, blocks_in, blocks_out, waits, preemptions, most_memory }
    }

    fn with(&self, other: &Self, join: impl Fn(i64, i64) -> i64) -> Self {
        let (left, right) = (self.values(), other.values());
        let joined = Self::from_values(std::array::from_fn(|index| join(left[index], right[index])));
        Self { most_memory: self.most_memory.max(other.most_memory), ..joined }
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, i64::wrapping_add)
    }

    /// What is to be added to `other` to have this.
    pub fn minus(&self, other: &Self) -> Self {
        self.with(other, i64::wrapping_sub)
    }

    /// Adds this to what the kernel has said.
    pub fn add_to(&self, said: &mut libc::rusage) {
        let sum = self.plus(&Self::from(&*said));
        said.ru_utime = time(sum.user);
        said.ru_stime = time(sum.system);
        said.ru_maxrss = sum.most_memory;
        said.ru_minflt = sum.minor_faults;
        said.ru_majflt = sum.major_faults;
        said.ru_inblock = sum.blocks_in;
        said.ru_oublock = sum.blocks_out;
        said.ru_nvcsw = sum.waits;
        said.ru_nivcsw = sum.preemptions;
    }
}

fn time(microseconds: i64) -> libc::timeval {
    libc::timeval { tv_sec: microseconds.div_euclid(MICROSECONDS), tv_usec: microseconds.rem_euclid(MICROSECONDS) }
}

impl From<&libc::rusage> for Usage {
    fn from(said: &libc::rusage) -> Self {
        let whole = |time: libc::timeval| time.tv_sec * MICROSECONDS + time.tv_usec;
        Self {
            clock: 0,
            user: whole(said.ru_utime),
            system: whole(said.ru_stime),
            minor_faults: said.ru_minflt,
            major_faults: said.ru_majflt,
            blocks_in: said.ru_inblock,
            blocks_out: said.ru_oublock,
            waits: said.ru_nvcsw,
            preemptions: said.ru_nivcsw,
            most_memory: said.ru_maxrss,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_makes_up_the_sum() {
        let before = Usage { clock: 5_000_000_000, user: 4_999_999, system: 1, most_memory: 900, ..Usage::default() };
        let now = Usage { clock: 70, user: 3, system: 2, waits: 6, most_memory: 1000, ..Usage::default() };
        let missing = before.minus(&now);
        assert_eq!((missing.system, missing.waits), (-1, -6));
        assert_eq!(missing.plus(&now), Usage { most_memory: 1000, ..before });
        assert_eq!(Usage::from_values(before.values()), before);
        // SAFETY: zeros are a valid rusage.
        let mut said: libc::rusage = unsafe { std::mem::zeroed() };
        (said.ru_utime, said.ru_stime) = (time(10), time(2));
        missing.add_to(&mut said);
        assert_eq!((said.ru_utime.tv_sec, said.ru_utime.tv_usec), (5, 6));
        assert_eq!((said.ru_stime.tv_sec, said.ru_stime.tv_usec, said.ru_maxrss), (0, 1, 1000));
    }

    #[test]
    fn the_kernel_is_asked() {
        let [process, thread] = [libc::RUSAGE_SELF, libc::RUSAGE_THREAD].map(Usage::of);
        assert!(process.clock > 0 && thread.clock > 0 && process.most_memory > 0);
    }
}
