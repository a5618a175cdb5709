//! What the in-process half writes and the restart half reads.

use dmtcp_plugin_api::proc_files;
use dmtcp_plugin_api::usage::Usage;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Section [`Ids::SECTION`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The process.
    pub pid: i32,
    /// Its threads but the first, the checkpoint thread among them.
    pub tids: Vec<i32>,
    /// Its parent.
    pub ppid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
    /// Real and effective user, real and effective group.
    pub users: [u32; 4],
    /// Children that have ended and that nobody has waited for.
    #[serde(default)]
    pub ended: Vec<Ended>,
    /// Which of the group and the session have no leader any more.
    #[serde(default)]
    pub leaderless: Vec<i32>,
    /// The group in the foreground of the controlling terminal; 0: there is no terminal.
    #[serde(default)]
    pub foreground: i32,
    /// The signal that its parent gets at its end; 0: none.
    #[serde(default = "usual_signal")]
    pub exit_signal: i32,
    /// Object that is mapped where a table of ids is to be; 0: there is no room for one.
    #[serde(default)]
    pub table: u64,
}

fn usual_signal() -> i32 {
    libc::SIGCHLD
}

/// A child that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its pid.
    pub pid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
    /// Its wait status, as wait(2) gives it.
    pub status: i32,
    /// The signal that its parent got at its end; 0: none.
    #[serde(default = "usual_signal")]
    pub exit_signal: i32,
}

impl Ids {
    /// Name of the section.
    pub const SECTION: &str = "ids";

    /// Replaces every id by what this says of it.
    pub fn show(&mut self, shown: impl Fn(i32) -> i32) {
        let Self { pid, tids, ppid, pgid, sid, ended, leaderless, foreground, users: _, exit_signal: _, table: _ } =
            self;
        let of_ended = ended.iter_mut().flat_map(|child| [&mut child.pid, &mut child.pgid, &mut child.sid]);
        for id in [pid, ppid, pgid, sid, foreground].into_iter().chain(tids).chain(leaderless).chain(of_ended) {
            *id = if *id > 0 { shown(*id) } else { *id };
        }
    }
}

/// Number `index` of those that follow the state in /proc/PID/stat.
fn number<T: FromStr>(stat: &[u8], index: usize) -> Option<T> {
    proc_files::stat_fields(stat).nth(1 + index)?.parse().ok()
}

/// Parent, process group and session in /proc/PID/stat.
pub fn family(stat: &[u8]) -> Option<[i32; 3]> {
    Some([number(stat, 0)?, number(stat, 1)?, number(stat, 2)?])
}

/// The group in the foreground of the controlling terminal, in /proc/PID/stat; 0: there is no terminal.
pub fn foreground(stat: &[u8]) -> i32 {
    number(stat, 4).unwrap_or(0).max(0)
}

/// The signal that the parent gets at the end of the process, in /proc/PID/stat.
pub fn exit_signal(stat: &[u8]) -> i32 {
    const FIELD: usize = 34;
    number(stat, FIELD).unwrap_or_else(usual_signal)
}

/// When the task began, in clock ticks since the machine did, in /proc/PID/stat.
pub fn start(stat: &[u8]) -> Option<u64> {
    const FIELD: usize = 18;
    number(stat, FIELD)
}

/// Of the clock ticks in /proc there are 100 in a second.
const MICROSECONDS_OF_A_TICK: i64 = 10_000;

/// What the process has used, and its children that it has waited for, in /proc/PID/stat.
pub fn used(stat: &[u8]) -> Option<Usage> {
    const FAULTS: usize = 6;
    const TIMES: usize = 10;
    let value = |index| number::<i64>(stat, index);
    // The process's own, and then, one behind the faults and two behind the times, its children's.
    let faults = |first| Some(value(FAULTS + first)? + value(FAULTS + first + 1)?);
    let time = |first| Some((value(TIMES + first)? + value(TIMES + first + 2)?) * MICROSECONDS_OF_A_TICK);
    Some(Usage {
        minor_faults: faults(0)?,
        major_faults: faults(2)?,
        user: time(0)?,
        system: time(1)?,
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{family, foreground, used};
    use dmtcp_plugin_api::usage::Usage;

    #[test]
    fn a_name_can_hold_anything() {
        assert_eq!(family(b"5 (a) R 1 2 3) S 10 20 30 0 -1"), Some([10, 20, 30]));
        assert_eq!(family(b"5 (a) S 10"), None);
        assert_eq!(foreground(b"5 (a) R 1 2 3) S 10 20 30 34816 40 4194560 2"), 40);
        assert_eq!(foreground(b"5 (a) S 10 20 30 0 -1 4194560"), 0);
    }

    #[test]
    fn a_process_and_its_children_are_told_together() {
        let stat = b"5 (a) S 10 20 30 34816 40 4194560 1 20 300 4000 5 60 700 8000 20 0 1 0 77";
        let both =
            Usage { minor_faults: 21, major_faults: 4300, user: 7_050_000, system: 80_600_000, ..Usage::default() };
        assert_eq!(used(stat), Some(Usage { user: 7_050_000, ..both }));
        assert_eq!(super::start(b"5 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 77 0"), Some(77));
    }
}
