//! What is noted of timers: what RESTART works from, and what `dmtcp_inspect` shows.

use crate::clock;
use serde::{Deserialize, Serialize};

/// Section [`Timers::SECTION`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Timers of timer_create(2), by id.
    pub posix: Vec<Posix>,
    /// Those of setitimer(2) that run.
    pub interval: Vec<Interval>,
    /// Ids of POSIX timers that have expired and whose signal has not been delivered.
    pub expired: Vec<i32>,
}

impl Timers {
    /// Name of the section.
    pub const SECTION: &str = "timers";

    /// Whether there is nothing to bring back.
    pub fn is_empty(&self) -> bool {
        self.posix.is_empty() && self.interval.is_empty()
    }

    /// Replaces the ids of threads and processes, in what is signalled and in clocks, by what this says of them.
    pub fn translate(&mut self, with: impl Fn(i32) -> i32) {
        for timer in &mut self.posix {
            timer.notice.thread = timer.notice.thread.map(&with);
            timer.clock = clock::with_id(timer.clock, &with);
        }
    }
}

/// A POSIX timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posix {
    /// The kernel's id.
    pub id: i32,
    /// Its clock, as the kernel encodes it.
    pub clock: i32,
    /// What happens when it expires.
    pub notice: Notice,
    /// How long it still runs.
    pub time: Time,
}

/// `struct sigevent`, as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD (which the kernel takes for a signal too).
    pub kind: i32,
    /// For SIGEV_THREAD_ID: the thread.
    pub thread: Option<i32>,
    /// Signal.
    pub signal: i32,
    /// `sigev_value`.
    pub value: u64,
}

/// What is left of a timer, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// Until it expires; 0: it does not run.
    pub remaining: u64,
    /// Between expirations; 0: only one.
    pub interval: u64,
}

/// An interval timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
    pub which: i32,
    /// How long it still runs.
    pub time: Time,
}
