//! Everything that descends from this process: found through /proc, stopped, killed, reaped.
//!
//! [`adopt`] makes this process the reaper of all orphans below it, so that nothing started here can get away and
//! nothing is ever killed by name. Restarted processes may sit in a pid namespace of their own; /proc shows them by
//! the pids of this one, and those are the ones used here.

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// A set of pids, in order.
pub type Pids = BTreeSet<i32>;

/// State letter and parent of a process, or nothing when it is gone. A process whose main thread alone has ended is
/// no zombie: its state is that of another thread.
pub fn state_of(pid: i32) -> Option<(char, i32)> {
    let (state, parent) = read_stat(&format!("/proc/{pid}/stat"))?;
    if state != 'Z' {
        return Some((state, parent));
    }
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut others = tasks.filter_map(|x| read_stat(&x.path().join("stat").display().to_string()));
    Some((others.find(|x| !matches!(x.0, 'Z' | 'X')).map_or('Z', |x| x.0), parent))
}

fn read_stat(path: &str) -> Option<(char, i32)> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Keep descriptors that this process was started with from the programs under test: those see what they open, and
/// their standard streams.
pub fn keep_descriptors_private() -> Result<()> {
    for entry in fs::read_dir("/proc/self/fd")?.flatten() {
        let fd: i32 = entry.file_name().to_string_lossy().parse()?;
        if fd > 2 {
            // SAFETY: the number is open, or was a moment ago: the descriptor of this directory itself is among them.
            // It is used for one fcntl, which fails on a number that is closed, and is never closed here.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        }
    }
    Ok(())
}

/// The command line of a process, for people.
pub fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_string()
}

/// Make this process the one that adopts orphans among its descendants.
pub fn adopt() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")
}

/// All descendants of this process that are alive; zombies too when asked.
pub fn descendants(zombies: bool) -> Pids {
    let mut children: HashMap<i32, Vec<(i32, char)>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|x| x.parse::<i32>().ok())
            && let Some((state, parent)) = state_of(pid)
        {
            children.entry(parent).or_default().push((pid, state));
        }
    }
    let mut found = Pids::new();
    let mut todo = vec![std::process::id() as i32];
    while let Some(parent) = todo.pop() {
        for (pid, state) in children.remove(&parent).unwrap_or_default() {
            todo.push(pid);
            if zombies || !matches!(state, 'Z' | 'X') {
                found.insert(pid);
            }
        }
    }
    found
}

/// Stop all descendants but `spare`, so that none sees another one die. Gives up quietly: killing comes next anyway.
pub fn freeze(spare: &Pids) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let running: Vec<i32> = descendants(false)
            .difference(spare)
            .copied()
            .filter(|&p| state_of(p).is_some_and(|(state, _)| !matches!(state, 'T' | 't')))
            .collect();
        if running.is_empty() {
            return;
        }
        for pid in running {
            let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// SIGKILL every descendant but `spare`, and reap what became our child. `waited` are children that a `Child` object
/// will wait for.
pub fn kill_all(spare: &Pids, waited: &Pids) -> Result<()> {
    let deadline = Instant::now() + crate::wait::limit(10);
    let mut spared = groups(spare);
    // 0 stands for our own, too.
    spared.extend([0, getpgrp().as_raw()]);
    loop {
        let alive: Vec<i32> = descendants(false).difference(spare).copied().collect();
        reap(waited);
        if alive.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("processes survive SIGKILL: {alive:?}");
        }
        // A group gets the signal as a whole, so nobody gets away by having children faster than this can look at them.
        for group in groups(&alive).difference(&spared) {
            let _ = killpg(Pid::from_raw(*group), Signal::SIGKILL);
        }
        for pid in alive {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The process groups of these processes.
fn groups<'a>(pids: impl IntoIterator<Item = &'a i32>) -> Pids {
    pids.into_iter().filter_map(|pid| getpgid(Some(Pid::from_raw(*pid))).ok()).map(Pid::as_raw).collect()
}

/// Collect zombies that were adopted, not started, by this process.
fn reap(waited: &Pids) {
    let me = std::process::id() as i32;
    for pid in descendants(true).difference(waited) {
        if state_of(*pid) == Some(('Z', me)) {
            let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}
