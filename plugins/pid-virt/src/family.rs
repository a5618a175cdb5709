//! What only the kernel knows of a process' family: children that have ended and that nobody has waited for yet, and
//! groups and sessions whose leader is gone.
//!
//! Children belong to the process, so any of its threads may ask for them, and asking with WNOWAIT takes nothing away. How
//! much processor time an ended child has used is for [`crate::used::kin`].

use crate::state::{Ended, exit_signal, family};
use dmtcp_plugin_api::{proc_files, sys};
use std::mem::MaybeUninit;

/// Whether a process has ended, though nobody may have waited for it yet.
fn has_ended(pid: i32) -> bool {
    let stat = proc_files::read_file(&format!("/proc/{pid}/stat")).unwrap_or_default();
    matches!(proc_files::state_in(&stat), Some(b'Z' | b'X'))
}

/// Which of these ids, a group's and a session's, belong to no process any more. One that only waits for being waited for
/// counts as gone: if it is a child of the computation, it comes back as such, and leads again.
pub fn leaderless(pgid: i32, sid: i32) -> Vec<i32> {
    let mut ids = vec![pgid, sid];
    ids.dedup();
    // 0 is how the kernel names what lies outside of the pid namespace.
    ids.retain(|id| {
        // SAFETY: signal 0 only asks.
        let gone = unsafe { sys::call(libc::SYS_kill as i32, [*id as usize, 0, 0, 0, 0, 0]) } == Err(libc::ESRCH);
        *id > 0 && (gone || has_ended(*id))
    });
    ids
}

/// A child that has ended, as waitid(2) tells it, and its wait status.
fn look(kind: libc::idtype_t, pid: i32) -> Option<(i32, i32)> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    let args = [kind as usize, pid as usize, info.as_mut_ptr() as usize, flags as usize, 0, 0];
    // SAFETY: the kernel writes one siginfo_t.
    unsafe { sys::call(libc::SYS_waitid as i32, args) }.ok()?;
    // SAFETY: zero is a valid value, and what the kernel wrote is.
    let info = unsafe { info.assume_init() };
    // SAFETY: these fields are what waitid fills in; without news they are zero.
    let (child, value) = unsafe { (info.si_pid(), info.si_status()) };
    let status = match info.si_code {
        libc::CLD_EXITED => (value & 0xff) << 8,
        libc::CLD_DUMPED => value & 0x7f | 0x80,
        _ => value & 0x7f,
    };
    (child > 0).then_some((child, status))
}

/// The children of a task of the calling process, oldest first.
pub fn children_of(task: i32) -> Vec<i32> {
    // A task may end meanwhile; its children are another's then.
    let text = proc_files::read_file(&format!("/proc/thread-self/../{task}/children")).unwrap_or_default();
    String::from_utf8_lossy(&text).split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The children of the calling process.
pub fn children() -> Result<Vec<i32>, i32> {
    Ok(proc_files::numbers_in("/proc/thread-self/..")?.into_iter().flat_map(children_of).collect())
}

/// The tasks of the calling process that have children, and the youngest child of each.
pub fn youngest() -> Vec<[i32; 2]> {
    let tasks = proc_files::numbers_in("/proc/thread-self/..").unwrap_or_default();
    tasks.into_iter().filter_map(|task| Some([task, *children_of(task).last()?])).collect()
}

/// The ended children of the calling process, oldest first.
pub fn ended() -> Result<Vec<Ended>, i32> {
    if look(libc::P_ALL, 0).is_none() {
        return Ok(Vec::new());
    }
    let mut ended = Vec::new();
    let helpers = children_of(sys::tid());
    for child in children()? {
        let Some((pid, status)) = look(libc::P_PID, child) else { continue };
        let stat = proc_files::read_file(&format!("/proc/{pid}/stat"))?;
        let [_, pgid, sid] = family(&stat).ok_or(libc::EPROTO)?;
        let exit_signal = exit_signal(&stat);
        // What the checkpoint thread has made for itself signals nothing.
        if exit_signal != 0 || !helpers.contains(&pid) {
            ended.push(Ended { pid, pgid, sid, status, exit_signal });
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_child_is_seen_and_stays() {
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 33"]).spawn().unwrap();
        let pid = child.id() as i32;
        let seen = loop {
            if let Some(seen) = ended().unwrap().into_iter().find(|e| e.pid == pid) {
                break seen;
            }
            std::thread::yield_now();
        };
        assert_eq!(seen.status, 33 << 8);
        assert_eq!(ended().unwrap().iter().filter(|e| e.pid == pid).count(), 1, "it was not taken away");
        assert_eq!(child.wait().unwrap().code(), Some(33));
        assert!(!ended().unwrap().iter().any(|e| e.pid == pid));
    }

    #[test]
    fn own_leaders_are_not_missed() {
        assert!(leaderless(std::process::id() as i32, 0).is_empty());
    }
}
