//! The controlling terminal of dmtcp_restart, and whose its foreground is.
//!
//! The shell that started dmtcp_restart knows one job: our process group. The restored processes have groups of their own.
//! So whenever the shell gives our group the foreground, it is passed on to theirs, and when the job stops or ends, it is
//! taken back. While the foreground is somebody else's (the job runs in the background) it is left alone: the shell would
//! lose its terminal. Whose it is has to be looked for each time, since the shell tells nobody whom it gives the foreground.

use nix::unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The terminal.
#[derive(Debug)]
pub struct Terminal {
    descriptor: OwnedFd,
    /// The group of the computation that it was last taken back from.
    group: Option<Pid>,
}

impl Terminal {
    /// The controlling terminal of this program, if it has one.
    pub fn controlling() -> Option<Self> {
        let streams: [&dyn AsFd; 3] = [&io::stdin(), &io::stdout(), &io::stderr()];
        let is_controlling = |descriptor: &BorrowedFd<'_>| tcgetpgrp(descriptor).is_ok();
        let stream = streams.into_iter().map(|stream| stream.as_fd()).find(is_controlling);
        let opened = || File::options().read(true).write(true).open("/dev/tty").ok().map(OwnedFd::from);
        let descriptor = stream.map_or_else(opened, |stream| stream.try_clone_to_owned().ok())?;
        Some(Self { descriptor, group: None })
    }

    /// Whether our own group has the foreground.
    pub fn is_ours(&self) -> bool {
        tcgetpgrp(&self.descriptor) == Ok(getpgrp())
    }

    /// A copy of its descriptor, for a computation that is to have the foreground from the start.
    pub fn for_foreground(&self) -> Option<OwnedFd> {
        self.descriptor.try_clone().ok().filter(|_| self.is_ours())
    }

    /// The job stops or ends: who started it shall see our group in the foreground, if the job had that.
    pub fn take_back(&mut self) {
        if let Ok(group) = tcgetpgrp(&self.descriptor)
            && group != getpgrp()
            && !has_stranger(group)
        {
            self.group = Some(group);
            let _ = tcsetpgrp(&self.descriptor, getpgrp());
        }
    }

    /// The job goes on. If our group has been given the foreground, the group of the computation that had it before gets
    /// it, at first that of process `first`.
    pub fn pass_on(&self, first: Option<i32>) {
        let of_first = || getpgid(Some(Pid::from_raw(first?))).ok();
        if self.is_ours()
            && let Some(group) = self.group.or_else(of_first)
        {
            let _ = tcsetpgrp(&self.descriptor, group);
        }
    }
}

/// Whether a group has a process that does not descend from us.
fn has_stranger(group: Pid) -> bool {
    let mut parents = BTreeMap::new();
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state, parent, group.
        let Some((_, numbers)) = stat.rsplit_once(')') else { continue };
        let mut numbers = numbers.split_ascii_whitespace().skip(1).map_while(|word| word.parse::<i32>().ok());
        let (Some(parent), Some(of)) = (numbers.next(), numbers.next()) else { continue };
        parents.insert(pid, parent);
        if of == group.as_raw() {
            members.push(pid);
        }
    }
    let own = Pid::this().as_raw();
    let descends = |pid: i32| {
        let up = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
        // Processes come and go while they are listed: what looks like a ring is none.
        up.take(parents.len()).any(|pid| pid == own)
    };
    members.into_iter().any(|pid| !descends(pid))
}
