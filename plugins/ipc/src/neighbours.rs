//! What the other processes of the computation on this host hold: the other ends of pipes, and descriptors that are one
//! open file description with somebody else's.
//!
//! All of them are stopped while this looks. Only /proc and kcmp(2) are used, so nobody has to answer; a process that may
//! not be looked at (another user's, one that is not dumpable) counts as holding nothing.
//!
//! Which descriptors are shared is found out by one process for all, the one with the lowest pid: it compares those that
//! look alike, and writes the result into its own section. At restart that section speaks for everybody.

use crate::group::Entry;
use crate::state::{Holder, Shared};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::{ids, proc_files, sys};
use std::collections::BTreeMap;

/// The descriptors of a process as /proc shows them; those that vanish or may not be seen are left out.
fn entries_of(pid: i32) -> Vec<Entry> {
    let numbers = proc_files::numbers_in(&format!("/proc/{pid}/fd")).unwrap_or_default();
    let entry = |number: i32| {
        let link = proc_files::read_link(&format!("/proc/{pid}/fd/{number}")).ok()?;
        let info = proc_files::read_file(&format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        Some(Entry { number, link, info })
    };
    numbers.into_iter().filter_map(entry).collect()
}

/// Ends of these pipes, which are known by the texts of their links, that the other processes hold: link, and F_GETFL.
pub fn pipe_ends(core: Core, links: &[Vec<u8>]) -> Vec<(Vec<u8>, i32)> {
    let own = sys::pid();
    let mut out = Vec::new();
    for pid in core.neighbours().into_iter().filter(|pid| *pid != own) {
        for number in proc_files::numbers_in(&format!("/proc/{pid}/fd")).unwrap_or_default() {
            let link = proc_files::read_link(&format!("/proc/{pid}/fd/{number}")).unwrap_or_default();
            if links.contains(&link)
                && let Ok(info) = proc_files::read_file(&format!("/proc/{pid}/fdinfo/{number}"))
            {
                let flags = Entry { number, link: Vec::new(), info }.status();
                out.push((link, flags));
            }
        }
    }
    out
}

/// The hook for PRECHECKPOINT: what is shared, if it is on this process to find out.
pub fn describe(core: Core) {
    let neighbours = core.neighbours();
    if neighbours.len() > 1 && neighbours.first() == Some(&sys::pid()) {
        let mut groups = groups(&neighbours);
        // The image names processes as the application does.
        groups.iter_mut().flatten().for_each(|holder| holder.pid = ids::to_virtual(core, holder.pid));
        core.json(Shared::SECTION, &Shared { groups });
    }
}

/// Descriptors of different processes that are one open file description.
fn groups(pids: &[i32]) -> Vec<Vec<Holder>> {
    let tables: Vec<(i32, Vec<Entry>)> = pids.iter().map(|pid| (*pid, entries_of(*pid))).collect();
    let mut alike: BTreeMap<_, Vec<Holder>> = BTreeMap::new();
    for (pid, entries) in &tables {
        for entry in entries {
            alike.entry(entry.likeness()).or_default().push(Holder { pid: *pid, number: entry.number });
        }
    }
    let mut out = Vec::new();
    for holders in alike.into_values() {
        if holders.iter().all(|h| h.pid == holders[0].pid) {
            continue;
        }
        let mut found: Vec<Vec<Holder>> = Vec::new();
        for holder in holders {
            match found.iter_mut().find(|group| same(group[0], holder)) {
                Some(group) => group.push(holder),
                None => found.push(vec![holder]),
            }
        }
        out.extend(found.into_iter().filter(|group| group.iter().any(|h| h.pid != group[0].pid)));
    }
    out
}

fn same(a: Holder, b: Holder) -> bool {
    sys::same_description((a.pid, a.number), (b.pid, b.number)).unwrap_or(false)
}
