//! Images of several hosts, restarted on one: what an id meant on one host says nothing about the other's processes.
//!
//! Parents, groups and sessions are looked for among the processes of the same host only. Two tasks that had the same id,
//! each on its host, cannot both have it here, nor can both be translated from it: that is refused, by name.

use crate::family::Ids;
use crate::forest::Member;
use dmtcp_image::read::Image;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Two hosts used the same id.
#[derive(Debug, thiserror::Error)]
#[error(
    "the images {} (of host {}) and {} (of host {}) both hold the process or thread id {id}: restart the images of one of the \
     two hosts on another machine, with --coord-host of one coordinator",
    .first.1.display(), .first.0, .second.1.display(), .second.0
)]
pub struct Collision {
    id: i32,
    first: (String, PathBuf),
    second: (String, PathBuf),
}

/// Takes out of the members what would connect processes of different hosts. `ids`: all that each process holds.
pub fn separate(images: &[Image], members: &mut [Member], ids: Option<&Ids>) -> Result<(), Collision> {
    let hosts: Vec<&str> = images.iter().map(|image| image.identity.host.as_str()).collect();
    if hosts.iter().all(|host| *host == hosts[0]) {
        return Ok(());
    }
    let mut owners: BTreeMap<i32, usize> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        let held = ids.and_then(|ids| ids.get(index)).into_iter().flatten().copied();
        let ended = member.ended.iter().map(|child| child.pid);
        for id in held.chain([member.pid]).chain(ended) {
            let owner = *owners.entry(id).or_insert(index);
            if hosts[owner] != hosts[index] {
                let named = |index: usize| (hosts[index].to_owned(), images[index].path.clone());
                return Err(Collision { id, first: named(owner), second: named(index) });
            }
        }
    }
    cut(&hosts, members);
    Ok(())
}

/// No id: nothing that a process of the computation is, leads or has left.
const NONE: i32 = 0;

/// Replaces ids that mean something on another host only.
fn cut(hosts: &[&str], members: &mut [Member]) {
    let mut known: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (host, member) in hosts.iter().zip(members.iter()) {
        let ended = member.ended.iter().map(|child| child.pid);
        known.entry(host).or_default().extend(ended.chain([member.pid]).chain(member.gone.iter().copied()));
    }
    for (host, member) in hosts.iter().zip(members) {
        let is_own = |id: &i32| known.get(host).is_some_and(|ids| ids.contains(id));
        let means_other = |id: &i32| !is_own(id) && known.values().any(|ids| ids.contains(id));
        let Member { ppid, pgid, sid, foreground, ended, .. } = member;
        let ended = ended.iter_mut().flat_map(|child| [&mut child.pgid, &mut child.sid]);
        for id in [ppid, pgid, sid, foreground].into_iter().chain(ended).filter(|id| means_other(id)) {
            *id = NONE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_host_connects_nobody() {
        let member = |pid, ppid, pgid, sid| Member { pid, ppid, pgid, sid, ..Member::default() };
        // The shell of the second host has the pid of the first host's process, and leads a session there.
        let mut members = [member(10, 5, 10, 5), member(11, 10, 10, 5), member(20, 10, 20, 10), member(21, 20, 20, 10)];
        cut(&["a", "a", "b", "b"], &mut members);
        assert_eq!(members.map(|m| [m.ppid, m.pgid, m.sid]), [[5, 10, 5], [10, 10, 5], [0, 20, 0], [20, 20, 0]]);
    }
}
