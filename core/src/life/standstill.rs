//! Processes that were stopped by a signal (SIGSTOP, a terminal's) before they had joined: their thread that would join stands
//! still with them. Whoever waits for one continues it until it has joined, and stops it again. From then on it is the
//! coordinator's to continue for a checkpoint.
//!
//! What can go wrong: the program runs for that moment; its parent may be told of it; one that its parent continues in that
//! moment stands still until it is continued once more.

use super::birth;
use dmtcp_plugin_api::{proc_files, sys};

/// How long a process may take to stand still, in nanoseconds: somebody else may continue it at once.
const LIMIT: u64 = 1_000_000_000;
const LOOK_AGAIN: u64 = 100_000;

/// Those that were continued.
#[derive(Debug, Default)]
pub struct Awakened(Vec<i32>);

fn send(pid: i32, signal: i32) -> Result<usize, i32> {
    // SAFETY: no memory is passed.
    unsafe { sys::call(libc::SYS_kill as i32, [pid as usize, signal as usize, 0, 0, 0, 0]) }
}

/// Waits until all threads of a process stand still. One that went on would come to its image, which then knew nothing of it.
fn await_standstill(pid: i32) {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let runs = |tid: i32| {
        let stat = proc_files::read_file(&format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
        !matches!(proc_files::state_in(&stat), None | Some(b'T' | b'Z' | b'X'))
    };
    let tasks = || proc_files::numbers_in(&format!("/proc/{pid}/task")).unwrap_or_default();
    while tasks().into_iter().any(runs) && sys::clock(libc::CLOCK_MONOTONIC) - start < LIMIT {
        sys::nap(LOOK_AGAIN);
    }
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
            // It may have ended meanwhile, which is as good.
            if stops && send(pid, libc::SIGSTOP).is_ok() {
                await_standstill(pid);
            }
            !stops
        });
    }
}
