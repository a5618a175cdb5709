//! Processes that were stopped by a signal (SIGSTOP, a terminal's) before they had joined: their thread that would join stands
//! still with them. Whoever waits for one continues it until it has joined, and stops it again. From then on it is the
//! coordinator's to continue for a checkpoint.
//!
//! What can go wrong: the program runs for that moment; its parent may be told of it; one that its parent continues in that
//! moment stands still until it is continued once more.

use super::birth;
use dmtcp_plugin_api::sys;

/// Those that were continued.
#[derive(Debug, Default)]
pub struct Awakened(Vec<i32>);

fn send(pid: i32, signal: i32) -> Result<usize, i32> {
    // SAFETY: no memory is passed.
    unsafe { sys::call(libc::SYS_kill as i32, [pid as usize, signal as usize, 0, 0, 0, 0]) }
}

impl Awakened {
    /// Continues a process if it stands still. It may do so again and again: a member of a background group that reads from
    /// its terminal.
    pub fn awaken(&mut self, pid: i32) {
        if birth::state_letter(pid) == Some(b'T') && send(pid, libc::SIGCONT).is_ok() && !self.0.contains(&pid) {
            self.0.push(pid);
        }
    }

    /// Stops those again of which this is true: nobody waits for them any more.
    pub fn let_stop_again(&mut self, may_stop: impl Fn(i32) -> bool) {
        self.0.retain(|&pid| {
            let stops = may_stop(pid);
            if stops {
                // It may have ended meanwhile, which is as good.
                let _ = send(pid, libc::SIGSTOP);
            }
            !stops
        });
    }
}
