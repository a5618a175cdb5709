//! Takes locks again. Those of a description are taken once, before it is handed out; those of a process by the process.

use crate::restart::checked;
use crate::state::{Lock, LockKind};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const F_OFD_SETLK: i32 = 37;
const F_SETLEASE: i32 = 1024;

/// A lock, for a person.
pub fn describe(lock: &Lock) -> String {
    let kind = match lock.kind {
        LockKind::Flock => "flock",
        LockKind::Posix => "POSIX lock",
        LockKind::Description => "OFD lock",
        LockKind::Lease => "lease",
    };
    let mode = if lock.write { "exclusive" } else { "shared" };
    let end = lock.end.map_or_else(|| "end".into(), |e| e.to_string());
    format!("{mode} {kind} on {}-{end}", lock.start)
}

/// Takes the locks that belong to the description.
pub fn take_with_description(fd: BorrowedFd<'_>, locks: &[Lock]) -> Result<(), String> {
    take(fd, locks, |kind| kind != LockKind::Posix)
}

/// Takes the locks that belong to the calling process.
pub fn take_with_process(fd: BorrowedFd<'_>, locks: &[Lock]) -> Result<(), String> {
    take(fd, locks, |kind| kind == LockKind::Posix)
}

fn take(fd: BorrowedFd<'_>, locks: &[Lock], which: impl Fn(LockKind) -> bool) -> Result<(), String> {
    for lock in locks.iter().filter(|l| which(l.kind)) {
        take_one(fd.as_raw_fd(), lock)
            .map_err(|e| format!("its {} cannot be taken again ({e}): does somebody else have it?", describe(lock)))?;
    }
    Ok(())
}

fn take_one(fd: i32, lock: &Lock) -> io::Result<()> {
    let kind = if lock.write { libc::F_WRLCK } else { libc::F_RDLCK };
    let range = |command: i32| {
        let range = libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: lock.start as i64,
            l_len: lock.end.map_or(0, |end| (end - lock.start + 1) as i64),
            l_pid: 0,
        };
        // SAFETY: the commands take a pointer to a `struct flock`, which lives over the call.
        unsafe { libc::fcntl(fd, command, &raw const range) }
    };
    // SAFETY: no memory is passed.
    let result = match lock.kind {
        LockKind::Flock => unsafe {
            libc::flock(fd, libc::LOCK_NB | if lock.write { libc::LOCK_EX } else { libc::LOCK_SH })
        },
        LockKind::Posix => range(libc::F_SETLK),
        LockKind::Description => range(F_OFD_SETLK),
        // SAFETY: no memory is passed.
        LockKind::Lease => unsafe { libc::fcntl(fd, F_SETLEASE, kind) },
    };
    checked(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::parse;
    use std::os::fd::AsFd;

    #[test]
    fn locks_come_back_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("locked");
        let file = std::fs::OpenOptions::new().create_new(true).read(true).write(true).open(path).unwrap();
        let lock = |kind, write, start, end| Lock { kind, write, start, end };
        let wanted = [
            lock(LockKind::Flock, true, 0, None),
            lock(LockKind::Posix, false, 100, Some(199)),
            lock(LockKind::Description, true, 300, Some(300)),
            lock(LockKind::Posix, true, 1 << 40, None),
        ];
        take_with_description(file.as_fd(), &wanted).unwrap();
        take_with_process(file.as_fd(), &wanted).unwrap();
        let info = std::fs::read(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
        let mut seen = parse(&info);
        seen.sort_by_key(|l| l.start);
        assert_eq!(seen, wanted);
    }
}
