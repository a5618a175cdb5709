//! What can only be put back when the memory stands: the seal that forbids mappings which existed before it, and POSIX
//! locks, which belong to a process's table of descriptors and are dropped by any close of the file in that table. When
//! the restarter has closed all that was its own, they are taken by a thread that still shares the table.

use crate::state::{Files, Lock, LockKind, Origin, What};
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::sys;

const F_ADD_SEALS: i32 = 1033;
/// F_SEAL_FUTURE_WRITE: no new writable mappings; those that were there stay.
pub const FUTURE_WRITE: i32 = 0x10;
/// F_SEAL_SEAL: no more seals.
pub const NO_MORE: i32 = 0x1;

/// Number of a descriptor and the seals to add through it.
static SEALS: Round<Vec<(i32, i32)>> = Round::new(Vec::new());

/// Number of a descriptor and the lock to take through it.
static LOCKS: Round<Vec<(i32, Lock)>> = Round::new(Vec::new());

/// The seals of a memfd that must wait until it is mapped: all from the first that would be in the way.
pub fn late_seals(seals: i32) -> i32 {
    if seals & FUTURE_WRITE == 0 { 0 } else { seals & (FUTURE_WRITE | NO_MORE) }
}

/// Notes what there is to do after a restart.
pub fn remember(files: &Files) {
    let wanted = files.nameless.iter().filter_map(|nameless| {
        let Origin::Memfd(_, seals) = nameless.origin else { return None };
        let open = files.opens.iter().find(|o| o.what == What::Nameless(nameless.content.object) && o.writes())?;
        (late_seals(seals) != 0).then(|| (open.number(), late_seals(seals)))
    });
    let wanted: Vec<_> = wanted.collect();
    SEALS.with(|seals| *seals = wanted);
    let wanted = files.opens.iter().flat_map(|open| {
        let own = open.locks.iter().filter(|l| l.kind == LockKind::Posix);
        own.map(|lock| (open.number(), *lock))
    });
    let wanted: Vec<_> = wanted.collect();
    LOCKS.with(|locks| *locks = wanted);
}

/// The hook for PLACED.
pub fn lock(core: Core) {
    for (number, lock) in LOCKS.take() {
        let mut range = libc::flock {
            l_type: if lock.write { libc::F_WRLCK } else { libc::F_RDLCK } as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: lock.start as i64,
            l_len: lock.length() as i64,
            l_pid: 0,
        };
        if let Err(error) = sys::fcntl_value(number, libc::F_SETLK, &mut range) {
            let text = format!(
                "fd {number}: the lock on its bytes from {} on cannot be taken again (error {error}): somebody else has it",
                lock.start
            );
            core.log(Level::Error, &text);
        }
    }
}

/// The hook for RESTART.
pub fn restore(core: Core) {
    for (number, seals) in SEALS.take() {
        let done = core.copy_descriptor(number).and_then(|c| sys::fcntl(c.number(), F_ADD_SEALS, seals as usize));
        if let Err(error) = done {
            core.log(Level::Warning, &format!("fd {number}: seals {seals:#x} cannot be set again: error {error}"));
        }
    }
}
