//! What the in-process half writes and the restart half reads.

use serde::{Deserialize, Serialize};

/// Section [`Events::SECTION`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The objects, by their lowest descriptor number.
    pub objects: Vec<Object>,
}

impl Events {
    /// Name of the section.
    pub const SECTION: &str = "events";
}

/// An open file description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its object number.
    pub object: u64,
    /// The descriptor numbers that refer to it.
    pub numbers: Vec<i32>,
    /// F_GETFL.
    pub flags: i32,
    /// What it is.
    pub kind: Kind,
}

impl Object {
    /// Lowest number.
    pub fn number(&self) -> i32 {
        self.numbers.first().copied().unwrap_or(-1)
    }
}

/// Kinds of event object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// eventfd(2).
    Counter {
        /// Its value.
        count: u64,
        /// EFD_SEMAPHORE.
        semaphore: bool,
    },
    /// timerfd_create(2).
    Timer(Timer),
    /// signalfd(2): its mask, bit n-1 for signal n.
    Signals(u64),
    /// epoll_create(2): what it watches.
    Watch(Vec<Watched>),
    /// pidfd_open(2) of the process itself.
    Itself,
    /// pidfd_open(2) of another one: its id as the program knows it; 0: it had ended and had been waited for.
    Process(i32),
}

/// A timer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Its clock.
    pub clock: i32,
    /// Flags of timerfd_settime(2): 1 absolute, 2 cancel when the clock is set.
    pub flags: i32,
    /// Expirations that nobody has read.
    pub ticks: u64,
    /// Nanoseconds until the next one; 0: it does not run.
    pub remaining: u64,
    /// Nanoseconds between expirations; 0: only one.
    pub interval: u64,
    /// For an absolute timer on a clock that tells the time of day: the time of the next expiration.
    pub deadline: Option<u64>,
}

/// An entry of an epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The number that it was added under.
    pub number: i32,
    /// A number that refers to the same description now.
    pub source: i32,
    /// EPOLL* bits.
    pub events: u32,
    /// What epoll_wait(2) returns for it.
    pub data: u64,
}
