//! What the coordinator tells of its doings: lines on stderr, or in the log file of a daemon.

use dmtcp_launcher::say;
use std::fmt::Display;

/// Where lines go, and which.
#[derive(Clone, Copy, Debug)]
pub struct Journal {
    quiet: u8,
}

impl Journal {
    /// 0: everything; 1: warnings; 2: nothing.
    pub fn new(quiet: u8) -> Self {
        Self { quiet }
    }

    /// Something ordinary happened.
    pub fn note(&self, message: impl Display) {
        if self.quiet == 0 {
            say::err(format_args!("dmtcp_coordinator: {message}"));
        }
    }

    /// Something happened that somebody should look at.
    pub fn warn(&self, message: impl Display) {
        if self.quiet < 2 {
            say::err(format_args!("dmtcp_coordinator: warning: {message}"));
        }
    }
}
