//! Timers that call a function (SIGEV_THREAD): libc has one thread that their signals go to, and keeps that thread's id, the
//! real one, in a word of its own, past all wrappers.
//!
//! When the program makes its first timer of the kind, the kernel tells whom it signals (/proc/.../timers), and the word is
//! looked for among libc's variables; after a restart it gets the id of now. Where there is not exactly one word that has
//! got the id, nothing is done: newer libcs have a thread for each timer and no such word. What can go wrong: a checkpoint just between
//! the making of the first timer and the look; timer_create(2) then fails after a restart.

use crate::table::Moved;
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::proc_files;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Address of libc's word; 0: not looked for yet, [`NOWHERE`]: there is none.
static WORD: AtomicUsize = AtomicUsize::new(0);
const NOWHERE: usize = 1;
/// The signal that libc's timers of the kind use, as the kernel lists it.
const SIGNAL: &str = "signal: 32/";

/// Whom libc's timers signal, in the text of /proc/PID/timers.
fn helper_in(text: &str) -> Option<i32> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(SIGNAL)).skip(1);
    lines.next()?.strip_prefix("notify: signal/tid.")?.trim().parse().ok()
}

/// A line of /proc/PID/maps: where it begins and ends, whether it can be written, its inode, the path of the file.
fn parts(line: &str) -> Option<(usize, usize, bool, &str, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let writable = words.next()?.starts_with("rw");
    let inode = words.nth(2)?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?, writable, inode, words.next().unwrap_or_default()))
}

/// Whether this is the library that timers are in: that of libc's real-time functions, before glibc 2.34.
fn holds_timers(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["libc.so", "libc-2.", "librt.so", "librt-2."].iter().any(|known| name.starts_with(known))
}

/// Where its variables are: what can be written of its file, and the memory of zeros right behind it.
fn variables(maps: &str) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (start, end, writable, inode, path) in maps.lines().filter_map(parts) {
        let behind = inode == "0" && path.is_empty() && out.last().is_some_and(|(_, last)| *last == start);
        if writable && (holds_timers(path) || behind) {
            out.push((start, end));
        }
    }
    out
}

/// Words of variables at some time: where they begin, and what they were.
pub struct Words(Vec<(usize, Vec<i32>)>);

impl Words {
    /// As they are now.
    fn of(areas: &[(usize, usize)]) -> Self {
        let word = |address: usize| {
            // SAFETY: these are mapped variables of a library that is in use; others may change them, each word as a whole.
            unsafe { (*(address as *const AtomicI32)).load(Ordering::Relaxed) }
        };
        let area = |&(start, end): &(usize, usize)| (start, (start..end).step_by(SIZE).map(word).collect());
        Self(areas.iter().map(area).collect())
    }

    /// Addresses and values.
    fn all(&self) -> impl Iterator<Item = (usize, i32)> + '_ {
        self.0.iter().flat_map(|(start, words)| (*start..).step_by(SIZE).zip(words.iter().copied()))
    }

    fn at(&self, address: usize) -> Option<i32> {
        let area = self.0.iter().find(|(start, words)| (*start..*start + words.len() * SIZE).contains(&address))?;
        area.1.get((address - area.0) / SIZE).copied()
    }
}

const SIZE: usize = size_of::<i32>();

/// The one word that has this id now; of several, which small ids may have by chance, the one that had none before.
fn find(before: &Words, now: &Words, id: i32) -> Option<usize> {
    let found: Vec<usize> = now.all().filter(|(_, word)| *word == id).map(|(address, _)| address).collect();
    let new: Vec<usize> = found.iter().copied().filter(|address| before.at(*address) == Some(0)).collect();
    match (&found[..], &new[..]) {
        ([one], _) | (_, [one]) => Some(*one),
        _ => None,
    }
}

fn text(path: &str) -> String {
    proc_files::read_file(path).ok().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default()
}

/// Before a timer of the kind is made: libc's variables; `None`: its word has been looked for.
pub fn look() -> Option<Words> {
    (WORD.load(Ordering::Acquire) == 0).then(|| Words::of(&variables(&text("/proc/thread-self/maps"))))
}

/// Looks for libc's word, once: a timer of the kind has just been made.
pub fn note_helper(before: &Words) {
    let Some(helper) = helper_in(&text("/proc/thread-self/../../timers")) else { return };
    let now = Words::of(&variables(&text("/proc/thread-self/maps")));
    WORD.store(find(before, &now, helper).unwrap_or(NOWHERE), Ordering::Release);
}

/// The hook for RESTART: the thread has another id.
pub fn move_id(core: Core) {
    let address = WORD.load(Ordering::Acquire);
    if address > NOWHERE {
        // SAFETY: libc's variable, which stays for as long as libc does; threads that use it are stopped.
        let word = unsafe { &*(address as *const AtomicI32) };
        if let Some(real) = Moved::of(core).real(word.load(Ordering::Acquire)) {
            word.store(real, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_of_libc_is_told_from_others() {
        let timer = |id, signal, notify| format!("ID: {id}\nsignal: {signal}/00\nnotify: {notify}\nClockID: 1\n");
        let all = [timer(0, 40, "signal/tid.7"), timer(1, 32, "signal/tid.77"), timer(2, 14, "signal/pid.5")].concat();
        assert_eq!(helper_in(&all), Some(77));
        assert_eq!(helper_in(&timer(0, 40, "signal/tid.7")), None);
    }

    #[test]
    fn variables_are_those_of_the_library_and_the_zeros_behind() {
        let maps = "1000-2000 r-xp 00000000 fe:00 9 /lib/libc.so.6\n2000-3000 rw-p 00001000 fe:00 9 /lib/libc.so.6\n\
                    3000-5000 rw-p 00000000 00:00 0 \n7000-8000 rw-p 00000000 00:00 0 [heap]\n\
                    8000-9000 rw-p 00000000 fe:00 10 /lib/libcrypto.so.3\n9000-a000 rw-p 00000000 00:00 0 \n\
                    b000-c000 rw-p 00000000 fe:00 11 /lib/librt-2.31.so\n";
        assert_eq!(variables(maps), [(0x2000, 0x3000), (0x3000, 0x5000), (0xb000, 0xc000)]);
    }

    #[test]
    fn a_word_is_found_if_it_is_the_only_one_or_the_only_new_one() {
        let words = |values: &[i32]| Words(vec![(0x1000, vec![1, 2]), (0x2000, values.to_vec())]);
        let (before, now) = (words(&[3, 0, 5, 6, 6, 0, 9]), words(&[3, 77, 5, 6, 6, 5, 9]));
        assert_eq!(find(&before, &now, 77), Some(0x2004));
        assert_eq!(find(&before, &now, 5), Some(0x2014));
        assert_eq!(find(&before, &now, 3), Some(0x2000));
        assert_eq!((find(&before, &now, 6), find(&before, &now, 8)), (None, None));
        let own = [7, 8];
        let here = own.as_ptr() as usize;
        assert_eq!(Words::of(&[(here, here + 8)]).all().collect::<Vec<_>>(), [(here, 7), (here + 4, 8)]);
    }
}
