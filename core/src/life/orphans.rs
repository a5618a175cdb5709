//! Children whose parent was killed before they had joined: no member is their parent, and the coordinator has not heard of
//! them. They are among the children of whoever takes orphans in: an ancestor of ours.
//!
//! It is only looked for them when somebody has left a moment ago. The orphans of other computations are there, too, and are
//! nothing to wait for: the copy of our library's memory that an orphan has says which computation it was forked in. The same
//! goes for the ids of those that have left, which may be others' by now.
//!
//! What can go wrong: an orphan that is taken in by nobody from whom the one who looks descends (a subreaper between another
//! member and its launch) is not seen. One that has just begun another program, or whose memory may not be read, is believed
//! to be ours: its environment may be older than a restart, and names another port then.

use super::{adoption, birth};
use dmtcp_plugin_api::{proc_files, sys};
use dmtcp_protocol::message::ComputationId;
use std::sync::atomic::{AtomicU64, Ordering};

/// The computation that this process has joined, behind [`JOINED`]; zeros: none yet. While the dynamic loader maps our library
/// there may be anything.
static COMPUTATION: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
const JOINED: u64 = u64::from_le_bytes(*b"DMTCPJND");

/// Notes the computation.
pub fn note_computation(computation: ComputationId) {
    let [joined, words @ ..] = &COMPUTATION;
    for (word, value) in words.iter().zip([computation.0 as u64, (computation.0 >> 64) as u64]) {
        word.store(value, Ordering::Release);
    }
    joined.store(JOINED, Ordering::Release);
}

/// Where our library begins in a process's memory, and which file it is: its device and inode.
fn library_in(maps: &str) -> Option<(u64, Vec<&str>)> {
    let line = maps.lines().find(|line| line.as_bytes().windows(birth::LIBRARY.len()).any(|w| w == birth::LIBRARY))?;
    let mut words = line.split_ascii_whitespace();
    let start = words.next()?.split_once('-')?.0;
    Some((u64::from_str_radix(start, 16).ok()?, words.skip(2).take(2).collect()))
}

/// What a process has in its memory, or inherited there, in the place of [`COMPUTATION`]; `None`: that cannot be told.
fn words_of(pid: i32) -> Option<[u64; 3]> {
    let text = |path: &str| proc_files::read_file(path).map(|text| String::from_utf8_lossy(&text).into_owned()).ok();
    let (ours, theirs) = (text("/proc/thread-self/maps")?, text(&format!("/proc/{pid}/maps"))?);
    let ((start, file), (their_start, their_file)) = (library_in(&ours)?, library_in(&theirs)?);
    if file != their_file {
        return None;
    }
    let mut bytes = [0; 24];
    let at = (&raw const COMPUTATION) as u64 - start + their_start;
    (sys::copy_from_process(pid, at, &mut bytes) == Ok(bytes.len())).then(|| {
        let word = |n: usize| bytes[n * 8..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        [word(0), word(1), word(2)]
    })
}

/// Whether a process is nothing to wait for: it was forked in another computation, or is a member of one.
pub fn is_of_another(pid: i32) -> bool {
    let ours = COMPUTATION.iter().map(|word| word.load(Ordering::Acquire));
    words_of(pid).is_some_and(|theirs| theirs[0] == JOINED && ours.ne(theirs))
}

/// How long ago a process may have been born that is still on its way, in nanoseconds.
const YOUNG: u64 = 10_000_000_000;
/// Places among the fields of proc(5)'s `stat` from the state on.
const PARENT: usize = 1;
/// Clock ticks after boot, of which a second has 100.
const BEGUN: usize = 19;
const TICK: u64 = 10_000_000;

fn word_of(stat: &str, place: usize) -> Option<u64> {
    proc_files::stat_fields(&proc_files::read_file(stat).ok()?).nth(place)?.parse().ok()
}

/// How long ago a process was born, in nanoseconds, as its file `stat` tells.
pub fn age(stat: &str) -> Option<u64> {
    let begun = word_of(stat, BEGUN)? * TICK;
    Some(sys::clock(libc::CLOCK_BOOTTIME).saturating_sub(begun))
}

/// Orphans that are about to join a computation: not yet told from those of others ([`is_of_another`]).
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
