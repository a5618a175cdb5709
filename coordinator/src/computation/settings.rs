//! What the command line decides.

use std::path::PathBuf;
use std::time::Duration;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All processes to stop.
    pub suspend: Duration,
    /// A process that has left before it stopped, while no other is there, to come back: it may be executing a program.
    pub exec: Duration,
    /// Another process to come to a barrier of a plugin's.
    pub meet: Duration,
    /// News while images are written.
    pub write: Duration,
    /// Images to reach the disk.
    pub sync: Duration,
    /// News while processes come back.
    pub restart: Duration,
    /// The same once the first one is back: the others are about to be.
    pub rejoin: Duration,
    /// The same when dmtcp_restart has left before any process came.
    pub orphaned_restart: Duration,
    /// Processes to end that were told to.
    pub kill: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            suspend: seconds(60),
            exec: seconds(1),
            meet: seconds(60),
            write: seconds(120),
            sync: seconds(900),
            restart: seconds(120),
            rejoin: seconds(20),
            orphaned_restart: seconds(15),
            kill: seconds(10),
        }
    }
}

/// What the command line said.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this host.
    pub host: String,
    /// Port that the coordinator listens on.
    pub port: u16,
    /// Where the restart script goes; absolute.
    pub checkpoint_dir: PathBuf,
    /// The program that the restart script calls; absolute.
    pub restart_program: PathBuf,
    /// Seconds between checkpoints; 0: none.
    pub interval: u32,
    /// How many complete generations are kept.
    pub keep: u32,
    /// What processes have shared is written to a file when the last of them leaves.
    pub write_values: bool,
    /// Every checkpoint ends the processes.
    pub kill_after_checkpoint: bool,
    /// End with the last process.
    pub exit_on_last: bool,
    /// How long to wait for what.
    pub limits: Limits,
}
