//! Children whose parent was killed before they had joined: no member is their parent, and the coordinator has not heard of
//! them. They are among the children of whoever takes orphans in: an ancestor of ours.
//!
//! It is only looked for them when somebody has left a moment ago. What can go wrong: an orphan that is taken in by nobody
//! from whom the one who looks descends (a subreaper between another member and its launch) is not seen.

use super::{adoption, birth};
use dmtcp_plugin_api::{proc_files, sys};

/// How long ago a process may have been born that is still on its way, in nanoseconds.
const YOUNG: u64 = 10_000_000_000;
/// Places of words behind the name, which may hold anything, in proc(5)'s `stat`: the state comes first.
const PARENT: usize = 1;
/// Clock ticks after boot, of which a second has 100.
const BEGUN: usize = 19;
const TICK: u64 = 10_000_000;

fn word_of(stat: &str, place: usize) -> Option<u64> {
    let text = String::from_utf8_lossy(&proc_files::read_file(stat).ok()?).into_owned();
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(place)?.parse().ok()
}

/// How long ago a process was born, in nanoseconds, as its file `stat` tells.
pub fn age(stat: &str) -> Option<u64> {
    let begun = word_of(stat, BEGUN)? * TICK;
    Some(sys::clock(libc::CLOCK_BOOTTIME).saturating_sub(begun))
}

/// Orphans that are about to join a computation, perhaps another one.
pub fn on_their_way() -> Vec<i32> {
    let mut found = Vec::new();
    let mut ancestor = sys::parent();
    while ancestor > 0 {
        let is_young = |pid: &i32| age(&format!("/proc/{pid}/stat")).is_some_and(|age| age < YOUNG);
        let children = birth::children_of(&format!("/proc/{ancestor}/task")).into_iter().filter(is_young);
        found.extend(children.filter(|pid| birth::is_underway(*pid) && !adoption::is_forsaken(*pid)));
        ancestor = word_of(&format!("/proc/{ancestor}/stat"), PARENT).and_then(|pid| pid.try_into().ok()).unwrap_or(0);
    }
    found
}
