//! What the kernel tells of a task in `status` (proc(5)): its state, the signals that it blocks and those that are pending.
//!
//! Nothing here allocates: the caller may be in the handler of our signal, or a helper (`helper`).

use dmtcp_plugin_api::sys;

/// As much as is read: what is looked for is in the first lines.
const LENGTH: usize = 4096;
const OWN: &[u8] = b"/proc/thread-self/status";

/// What the file at a path begins with.
fn read<'a>(path: &[u8], into: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = sys::open(path, libc::O_RDONLY | libc::O_CLOEXEC, 0).ok()?;
    let filled = sys::read(file.number(), into).ok()?;
    into.get(..filled)
}

/// The same of the file of a task, which may be another process's.
fn read_of(tid: i32, into: &mut [u8]) -> Option<&[u8]> {
    const DIRECTORY: &[u8] = b"/proc/";
    const FILE: &[u8] = b"/status";
    let mut path = *b"/proc/0000000000/status";
    // From the end, and what comes before the number is moved up to it.
    let (mut at, mut left) = (path.len() - FILE.len(), tid.unsigned_abs());
    while left > 0 {
        at -= 1;
        path[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    let start = at - DIRECTORY.len();
    path.copy_within(..DIRECTORY.len(), start);
    read(&path[start..], into)
}

/// What follows a name in the text.
fn behind<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(name.len()).position(|w| w == name)? + name.len();
    text.get(at..)
}

/// A set of signals.
fn set_in(text: &[u8], name: &[u8]) -> Option<u64> {
    let digits = behind(text, name)?.get(..16)?;
    digits.iter().try_fold(0u64, |n, &d| Some(n << 4 | u64::from((d as char).to_digit(16)?)))
}

/// What is pending for the task and for its process, from the text of its file.
pub fn sets_in(text: &[u8]) -> Option<(u64, u64)> {
    Some((set_in(text, b"SigPnd:\t")?, set_in(text, b"ShdPnd:\t")?))
}

/// What is pending for the calling thread and for its process.
pub fn own_sets() -> Option<(u64, u64)> {
    sets_in(read(OWN, &mut [0; LENGTH])?)
}

/// Whether a signal has come for the process since its threads parked: what was pending before is in their slots.
pub fn has_come(signal: i32) -> bool {
    own_sets().is_some_and(|(_, shared)| shared & 1 << (signal - 1) != 0)
}

/// Whether a signal is pending that a task does not block.
pub fn is_due(tid: i32) -> bool {
    let due = |text: &[u8]| {
        let (own, shared) = sets_in(text)?;
        Some((own | shared) & !set_in(text, b"SigBlk:\t")? != 0)
    };
    read_of(tid, &mut [0; LENGTH]).and_then(due) == Some(true)
}

/// Whether a task stands still (SIGSTOP).
pub fn stands_still(tid: i32) -> bool {
    let mut text = [0; LENGTH];
    read_of(tid, &mut text)
        .and_then(|text| behind(text, b"\nState:\t"))
        .is_some_and(|state| state.first() == Some(&b'T'))
}
