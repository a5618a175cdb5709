//! Which descriptor numbers are one open file description.
//!
//! What /proc says (link, position, flags, mount, inode) separates most; among those that look alike the kernel is asked
//! pair by pair, through copies in the calling thread's own table: F_DUPFD_QUERY (Linux 6.10), else kcmp(2), else, where a
//! sandbox forbids that, a mark: a signal number set on one description is seen through all its duplicates.

use crate::state::Number;
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::sys::{self, Fd};
use std::collections::BTreeMap;

/// fcntl command: 1 if both descriptors are one open file description.
const F_DUPFD_QUERY: i32 = 1027;
/// fcntl commands that the libc crate does not name on all targets.
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;

/// What /proc says about a descriptor number.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The number.
    pub number: i32,
    /// Text of its link.
    pub link: Vec<u8>,
    /// Text of its fdinfo.
    pub info: Vec<u8>,
}

/// An open file description and its numbers, ascending.
#[derive(Debug, Clone)]
pub struct Group {
    /// What /proc says about the lowest number.
    pub entry: Entry,
    /// All its numbers.
    pub numbers: Vec<i32>,
}

/// A field of fdinfo.
fn field<'a>(info: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = info.split(|b| *b == b'\n').filter_map(|l| std::str::from_utf8(l).ok());
    lines.filter_map(|l| l.split_once(':')).find(|(n, _)| *n == name).map(|(_, v)| v.trim())
}

/// The flags in fdinfo, which are octal.
pub fn flags(info: &[u8]) -> i32 {
    field(info, "flags").and_then(|f| i32::from_str_radix(f, 8).ok()).unwrap_or(0)
}

impl Entry {
    /// FD_CLOEXEC.
    pub fn close_on_exec(&self) -> bool {
        flags(&self.info) & libc::O_CLOEXEC != 0
    }

    /// What must be equal for two numbers to be one description. Nothing in it may change between two looks: so not the
    /// whole of fdinfo, where timers count down.
    pub fn likeness(&self) -> (&[u8], i32, [Option<&str>; 4]) {
        let fields = ["pos", "mnt_id", "ino", "eventfd-id"].map(|n| field(&self.info, n));
        (&self.link, flags(&self.info) & !libc::O_CLOEXEC, fields)
    }
}

impl Group {
    /// The table entries of this group's numbers.
    pub fn numbers(&self, object: u64, entries: &BTreeMap<i32, bool>) -> impl Iterator<Item = Number> {
        self.numbers.iter().map(move |number| Number {
            number: *number,
            object,
            close_on_exec: entries.get(number).copied().unwrap_or(false),
        })
    }
}

/// Groups the entries, which are sorted by number; groups come out sorted by their lowest number. The error is a sentence.
pub fn group(core: Core, entries: &[Entry]) -> Result<Vec<Group>, String> {
    let mut alike: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        alike.entry(entry.likeness()).or_default().push(entry);
    }
    let mut groups = Vec::new();
    for members in alike.into_values() {
        if let [entry] = members.as_slice() {
            groups.push(Group { entry: (*entry).clone(), numbers: vec![entry.number] });
        } else {
            groups.extend(separate(core, &members)?);
        }
    }
    groups.sort_by_key(|g| g.entry.number);
    Ok(groups)
}

/// Separates entries that look alike.
fn separate(core: Core, members: &[&Entry]) -> Result<Vec<Group>, String> {
    let mut found: Vec<(Fd, Group)> = Vec::new();
    for entry in members {
        let copy = core.copy_descriptor(entry.number).map_err(|e| cannot_copy(entry, e))?;
        let known = found.iter_mut().find(|(other, _)| same(other.number(), copy.number()));
        match known {
            Some((_, group)) => group.numbers.push(entry.number),
            None => found.push((copy, Group { entry: (*entry).clone(), numbers: vec![entry.number] })),
        }
    }
    Ok(found.into_iter().map(|(_, group)| group).collect())
}

/// The sentence for a descriptor that cannot be copied.
pub fn cannot_copy(entry: &Entry, error: i32) -> String {
    format!(
        "fd {} -> {}: cannot be looked at (error {error} copying it): the process may be out of descriptors or not dumpable",
        entry.number,
        String::from_utf8_lossy(&entry.link)
    )
}

/// Whether two descriptors of the calling thread are one open file description.
fn same(a: i32, b: i32) -> bool {
    if let Ok(answer) = sys::fcntl(a, F_DUPFD_QUERY, b as usize) {
        return answer == 1;
    }
    let tid = sys::tid();
    sys::same_description((tid, a), (tid, b)).unwrap_or_else(|_| same_by_mark(a, b))
}

fn same_by_mark(a: i32, b: i32) -> bool {
    let (Ok(of_a), Ok(of_b)) = (sys::fcntl(a, F_GETSIG, 0), sys::fcntl(b, F_GETSIG, 0)) else { return false };
    if of_a != of_b {
        return false;
    }
    let mark = if of_a == libc::SIGURG as usize { libc::SIGIO } else { libc::SIGURG } as usize;
    let _ = sys::fcntl(a, F_SETSIG, mark);
    let seen = sys::fcntl(b, F_GETSIG, 0) == Ok(mark);
    let _ = sys::fcntl(a, F_SETSIG, of_a);
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(info: &str) -> Entry {
        Entry { number: 3, link: b"/tmp/x".to_vec(), info: info.as_bytes().to_vec() }
    }

    #[test]
    fn close_on_exec_belongs_to_the_number() {
        let a = entry("pos:\t5\nflags:\t02100002\nmnt_id:\t9\nino:\t7\n");
        let b = entry("pos:\t5\nflags:\t0100002\nmnt_id:\t9\nino:\t7\n");
        assert!(a.close_on_exec() && !b.close_on_exec());
        assert_eq!(a.likeness(), b.likeness());
    }

    #[test]
    fn positions_and_modes_separate() {
        let a = entry("pos:\t5\nflags:\t0100002\nmnt_id:\t9\nino:\t7\n");
        assert_ne!(a.likeness(), entry("pos:\t6\nflags:\t0100002\nmnt_id:\t9\nino:\t7\n").likeness());
        assert_ne!(a.likeness(), entry("pos:\t5\nflags:\t0100000\nmnt_id:\t9\nino:\t7\n").likeness());
    }

    #[test]
    fn what_counts_down_does_not_separate() {
        let timer = |left| entry(&format!("pos:\t0\nflags:\t02\nmnt_id:\t9\nino:\t7\nit_value: (0, {left})\n"));
        assert_eq!(timer(1).likeness(), timer(2).likeness());
    }

    #[test]
    fn every_way_of_comparing_agrees() {
        let (a, b) = sys::pipe(libc::O_CLOEXEC).unwrap();
        let a2 = sys::fcntl(a.number(), libc::F_DUPFD_CLOEXEC, 0).map(|n| Fd::own(n as i32)).unwrap();
        let tid = sys::tid();
        for (x, y, answer) in [(&a, &a2, true), (&a, &b, false)] {
            assert_eq!(same(x.number(), y.number()), answer);
            assert_eq!(same_by_mark(x.number(), y.number()), answer);
            if let Ok(kcmp) = sys::same_description((tid, x.number()), (tid, y.number())) {
                assert_eq!(kcmp, answer);
            }
        }
        assert_eq!(sys::fcntl(a.number(), F_GETSIG, 0), Ok(0));
    }
}
