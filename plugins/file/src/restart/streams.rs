//! Terminals and standard streams that lead out of the computation: what dmtcp_restart has in their place.

use crate::restart::{describe, open};
use crate::state::{Open, What};
use dmtcp_plugin_api::restart::Host;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Numbers of the standard streams.
const STREAMS: std::ops::Range<i32> = 0..3;
/// Flags of a description that a program sees and that differ between what it had and what is inherited.
const STATUS: i32 = libc::O_NONBLOCK | libc::O_APPEND;

/// A terminal: one of dmtcp_restart's, best the stream of the same number; else, for a standard stream, what that has been
/// redirected to; else nothing that ever answers.
pub fn terminal(host: &Host<'_>, wanted: &Open) -> Result<OwnedFd, String> {
    let streams = || wanted.numbers.iter().copied().filter(|n| STREAMS.contains(n));
    let any = streams().chain(STREAMS).filter_map(|n| host.inherited(n)).find(BorrowedFd::is_terminal);
    if let Some(stream) = any {
        return duplicate(stream, wanted);
    }
    if let Ok(tty) = open::raw(Path::new("/dev/tty"), open::flags_for(wanted.flags), 0) {
        return Ok(tty);
    }
    if let Some(stream) = streams().filter_map(|n| host.inherited(n)).next_back() {
        return duplicate(stream, wanted);
    }
    host.warn(&format!("{}: dmtcp_restart has no terminal; /dev/null stands in", describe(wanted)));
    null(wanted)
}

/// Standard streams that were one description before and are not all the same now, because some of dmtcp_restart's have
/// been redirected: what each number is to be. Asked in the process, when the numbers stand.
pub fn redirected(host: &Host<'_>, wanted: &Open) -> Result<Vec<(i32, OwnedFd)>, String> {
    let mut out = Vec::new();
    for number in wanted.numbers.iter().copied().filter(|n| STREAMS.contains(n)) {
        let Some(stream) = host.inherited(number) else { continue };
        let other = match wanted.what {
            What::Terminal(_) => !stream.is_terminal(),
            What::Inherited(first) => number != first,
            _ => false,
        };
        if other {
            out.push((number, duplicate(stream, wanted)?));
        }
    }
    Ok(out)
}

/// A pipe or socket of the outside world.
pub fn inherited(host: &Host<'_>, wanted: &Open, number: i32) -> Result<OwnedFd, String> {
    match host.inherited(number) {
        Some(stream) => duplicate(stream, wanted),
        None => {
            host.warn(&format!("{}: dmtcp_restart's own is closed; /dev/null stands in", describe(wanted)));
            null(wanted)
        }
    }
}

/// A file that may not be opened: a log that another user has opened for the program, as service managers do, and for
/// dmtcp_restart, too.
pub fn to_file(host: &Host<'_>, wanted: &Open, path: &Path) -> Option<OwnedFd> {
    let file = path.metadata().ok()?;
    let leads_there = |stream: &BorrowedFd<'_>| {
        let now = stream.try_clone_to_owned().and_then(|own| File::from(own).metadata());
        // SAFETY: no memory is passed.
        let mode = unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_GETFL) } & libc::O_ACCMODE;
        let allows = mode == libc::O_RDWR || mode == wanted.flags & libc::O_ACCMODE;
        allows && now.is_ok_and(|now| (now.dev(), now.ino()) == (file.dev(), file.ino()))
    };
    let stream = STREAMS.filter_map(|number| host.inherited(number)).find(leads_there)?;
    duplicate(stream, wanted).ok()
}

/// A stream of dmtcp_restart's. It is shared with whoever started that; so if its flags are not what the program had, a
/// description of our own is better, if it can be had.
fn duplicate(stream: BorrowedFd<'_>, wanted: &Open) -> Result<OwnedFd, String> {
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_GETFL) };
    if flags >= 0 && (flags ^ wanted.flags) & STATUS != 0 && wanted.flags & libc::O_PATH == 0 {
        let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
        let flags = open::flags_for(wanted.flags) & !libc::O_DIRECT;
        if let Ok(own) = open::raw(Path::new(&path), flags, 0) {
            return Ok(own);
        }
    }
    stream.try_clone_to_owned().map_err(|e| format!("dmtcp_restart's stream cannot be duplicated: {e}"))
}

/// /dev/null, opened as the description was.
pub fn null(wanted: &Open) -> Result<OwnedFd, String> {
    let flags = wanted.flags & libc::O_ACCMODE | libc::O_CLOEXEC;
    open::raw(Path::new("/dev/null"), flags, 0).map_err(|e: io::Error| format!("/dev/null cannot be opened: {e}"))
}
