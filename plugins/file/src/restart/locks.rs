//! Takes the locks of a description again, once, before it is handed out. Those of a process are taken by the process.
//!
//! A description that several processes share is in the section of each. Plugin `ipc` places that of the process with the
//! lowest pid in all of them, so that one gets the locks: whoever else tells of the same exclusive lock shares it.

use crate::restart::checked;
use crate::state::{Lock, LockKind};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

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

/// The exclusive locks that have been taken: device and inode of the file, and the lock.
#[derive(Debug, Default)]
pub struct Taken(Vec<(u64, u64, Lock)>);

impl Taken {
    /// Takes the locks that belong to the description, but for exclusive ones that have been taken already: those are held
    /// by this same description, as another process told of it.
    pub fn take(&mut self, fd: BorrowedFd<'_>, locks: &[Lock]) -> Result<(), String> {
        for lock in locks.iter().filter(|l| l.kind != LockKind::Posix) {
            let failed = |e| format!("its {} cannot be taken again ({e}): does somebody else have it?", describe(lock));
            let status = std::fs::File::from(fd.try_clone_to_owned().map_err(failed)?).metadata().map_err(failed)?;
            let entry = (status.dev(), status.ino(), *lock);
            if !self.0.contains(&entry) {
                take_one(fd.as_raw_fd(), lock).map_err(failed)?;
                self.0.extend(lock.write.then_some(entry));
            }
        }
        Ok(())
    }
}

fn take_one(fd: i32, lock: &Lock) -> io::Result<()> {
    let kind = if lock.write { libc::F_WRLCK } else { libc::F_RDLCK };
    let range = libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: lock.start as i64,
        l_len: lock.length() as i64,
        l_pid: 0,
    };
    // SAFETY: the only memory that is passed is the range, which lives over the call.
    let result = unsafe {
        match lock.kind {
            LockKind::Flock => libc::flock(fd, libc::LOCK_NB | if lock.write { libc::LOCK_EX } else { libc::LOCK_SH }),
            LockKind::Description => libc::fcntl(fd, F_OFD_SETLK, &raw const range),
            LockKind::Lease => libc::fcntl(fd, F_SETLEASE, kind),
            LockKind::Posix => 0,
        }
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
        let file = std::fs::OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
        let lock = |kind, write, start, end| Lock { kind, write, start, end };
        let wanted = [
            lock(LockKind::Flock, true, 0, None),
            lock(LockKind::Description, false, 100, Some(199)),
            lock(LockKind::Description, true, 1 << 40, None),
        ];
        let mut taken = Taken::default();
        taken.take(file.as_fd(), &wanted).unwrap();
        let info = std::fs::read(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
        let mut seen = parse(&info);
        seen.sort_by_key(|l| l.start);
        assert_eq!(seen, wanted);
        // The same description, as another process that shares it tells of it.
        let other = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        taken.take(other.as_fd(), &wanted).unwrap();
        assert!(Taken::default().take(other.as_fd(), &wanted).is_err());
    }
}
