//! What the in-process half writes and the restart half reads.

use dmtcp_plugin_api::byte_text::ByteText;
use serde::{Deserialize, Serialize};

/// Section [`State::SECTION`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it is.
    pub place: Place,
    /// What it may use.
    pub limits: Vec<Limit>,
    /// How its threads are scheduled, in the order in which the core lists them.
    pub threads: Vec<Thread>,
    /// Settings.
    pub settings: Settings,
    /// Filters of seccomp(2) that it had made, which nobody can make again.
    #[serde(default)]
    pub filters: u32,
}

impl State {
    /// Name of the section.
    pub const SECTION: &str = "process";
}

/// Working directory and umask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The working directory.
    pub directory: ByteText,
    /// It had been removed.
    pub removed: bool,
    /// The umask.
    pub umask: u32,
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// RLIMIT_*.
    pub resource: u32,
    /// Soft and hard limit.
    pub limit: [u64; 2],
}

/// How a thread is scheduled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Priority of a real-time policy.
    pub priority: u32,
    /// Runtime, deadline and period of SCHED_DEADLINE.
    pub deadline: [u64; 3],
    /// Processors that it may run on, one bit each; nothing: on all that there are.
    pub processors: Option<Vec<u64>>,
    /// As ioprio_get(2) gives it.
    pub io_priority: u32,
}

/// Process-wide settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// prctl(2) command to set it, its value.
    pub controls: Vec<(i32, u64)>,
    /// Commands of membarrier(2) that the process has registered.
    pub barriers: u32,
    /// Whether the kernel could tell.
    pub barriers_known: bool,
    /// Names of files in /proc/PID and their text.
    pub files: Vec<(String, String)>,
}
