//! What the other processes of the computation on this host hold: the other ends of pipes, and descriptors that are one
//! open file description with somebody else's.
//!
//! All of them are stopped while this looks. Only /proc and kcmp(2) are used, so nobody has to answer; a process that may
//! not be looked at (another user's, one that is not dumpable) counts as holding nothing.
//!
//! Which descriptors are shared is found out by one process for all, the one with the lowest pid: it compares those that
//! look alike, and writes the result into its own section. At restart that section speaks for everybody.

use crate::group::{self, Entry};
use crate::state::{Holder, Shared};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::names::Names;
use dmtcp_plugin_api::{ids, proc_files, sys};
use std::collections::{BTreeMap, BTreeSet};

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

/// Where the processes of a computation tell each other of pipes.
const DATABASE: &str = "/plugin/ipc";
/// How many names of pipes fit into a value.
const MOST_TOLD: usize = 2000;
/// Among so few processes each looks for itself, which takes no longer than to wait.
const FEW: usize = 16;
/// How long is waited for who looks for all, in nanoseconds, and how long between two questions at first and at most.
const TOLD_LIMIT: u64 = 500_000_000;
const FIRST_NAP: u64 = 1_000_000;
const LONGEST_NAP: u64 = 16_000_000;

/// Ends of pipes: the text of the link, and for each mode in which somebody holds it one entry: of F_GETFL the access mode,
/// and O_DIRECT (packets) of writing ends.
pub type Ends = Vec<(Vec<u8>, i32)>;

/// What one process tells of them: in which generation, and all ends, unless they are too many to be told.
type Told = (u64, Option<Vec<(String, i32)>>);

/// Ends of these pipes, which are known by the texts of their links, that processes of this host hold.
///
/// Every process asks this, and whoever looks has to look at all: so the first one tells the others what it has seen, or
/// the cost of a checkpoint would grow with the square of their number. Another user's processes may be hidden from one that
/// can see its own: only what the same user has seen counts.
pub fn pipe_ends(core: Core, links: &[Vec<u8>]) -> Ends {
    let is_nameless = |link: &[u8]| link.starts_with(b"pipe:[");
    let told = core.names(DATABASE);
    let host = proc_files::read_file("/proc/sys/kernel/hostname").unwrap_or_default();
    let [_, user, ..] = sys::user_ids();
    let key = [b"pipes ", host.trim_ascii(), b" ", user.to_string().as_bytes()].concat();
    // What has a name of its own is told by its name only to those who know that it is a fifo.
    let can_be_told = links.iter().all(|link| is_nameless(link));
    if can_be_told && let Some(ends) = seen_by_another(core, &told, &key) {
        return ends;
    }
    let mut ends = BTreeSet::new();
    for pid in core.neighbours() {
        for number in proc_files::numbers_in(&format!("/proc/{pid}/fd")).unwrap_or_default() {
            let link = proc_files::read_link(&format!("/proc/{pid}/fd/{number}")).unwrap_or_default();
            if (is_nameless(&link) || links.contains(&link))
                && let Some(mode) = mode(pid, number)
            {
                ends.insert((link, mode));
            }
        }
    }
    if can_be_told {
        let text = |(link, mode): &(Vec<u8>, i32)| (String::from_utf8_lossy(link).into_owned(), *mode);
        let value: Told = (core.generation(), (ends.len() <= MOST_TOLD).then(|| ends.iter().map(text).collect()));
        // Whoever cannot be told looks for itself.
        let _ = told.set(&key, &serde_json::to_vec(&value).unwrap_or_default());
    }
    ends.into_iter().collect()
}

/// What somebody else tells of pipes in this generation. `None`: it is on the caller to look.
fn seen_by_another(core: Core, told: &Names<'_>, key: &[u8]) -> Option<Ends> {
    let seen = || {
        let value = told.get(key).ok()??;
        let (generation, ends) = serde_json::from_slice::<Told>(&value).ok()?;
        (generation == core.generation()).then_some(ends)
    };
    let as_ends = |ends: Vec<(String, i32)>| ends.into_iter().map(|(link, mode)| (link.into_bytes(), mode)).collect();
    if core.neighbours().len() <= FEW {
        return seen().flatten().map(as_ends);
    }
    let generation = i64::try_from(core.generation()).ok()?;
    let before = told.max(&[key, b", looked for"].concat(), generation).ok()?;
    if before.is_none_or(|before| before < generation) {
        return None;
    }
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let mut nap = FIRST_NAP;
    while sys::clock(libc::CLOCK_MONOTONIC) - start < TOLD_LIMIT {
        if let Some(ends) = seen() {
            return ends.map(as_ends);
        }
        sys::nap(nap);
        nap = (2 * nap).min(LONGEST_NAP);
    }
    None
}

/// How a descriptor is open. The link says it at less expense than fdinfo, but for packets.
fn mode(pid: i32, number: i32) -> Option<i32> {
    let link = sys::link_stat(format!("/proc/{pid}/fd/{number}").as_bytes()).ok()?;
    let access = access_mode(link.st_mode)?;
    if access == libc::O_RDONLY {
        return Some(access);
    }
    let info = proc_files::read_file(&format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    Some(access | group::flags(&info) & libc::O_DIRECT)
}

/// How a descriptor is open, which the permissions of its link in /proc say; `None`: it is only a name (O_PATH).
fn access_mode(link: u32) -> Option<i32> {
    match (link & libc::S_IRUSR != 0, link & libc::S_IWUSR != 0) {
        (true, true) => Some(libc::O_RDWR),
        (true, false) => Some(libc::O_RDONLY),
        (false, true) => Some(libc::O_WRONLY),
        (false, false) => None,
    }
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
