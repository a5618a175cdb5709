//! Locks as /proc/PID/fdinfo shows them.
//!
//! ```text
//!   lock:   1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF
//!   lock:   2: POSIX  ADVISORY  READ 4711 08:01:1234 100 199
//!   lock:   3: OFDLCK ADVISORY  WRITE -1 08:01:1234 0 0
//!   lock:   4: LEASE  ACTIVE    READ 4711 08:01:1234 0 EOF
//! ```

use crate::state::{Lock, LockKind};

/// All locks that fdinfo tells of.
pub fn parse(info: &[u8]) -> Vec<Lock> {
    let text = String::from_utf8_lossy(info);
    text.lines().filter_map(|line| line.strip_prefix("lock:")).filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Lock> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let kind = match words.next()? {
        "FLOCK" => LockKind::Flock,
        "POSIX" => LockKind::Posix,
        "OFDLCK" => LockKind::Description,
        "LEASE" => LockKind::Lease,
        _ => return None,
    };
    let mut words = words.skip(1);
    let write = words.next()? == "WRITE";
    let mut range = words.skip(2);
    let start = range.next()?.parse().ok()?;
    let end = match range.next()? {
        "EOF" => None,
        number => Some(number.parse().ok()?),
    };
    Some(Lock { kind, write, start, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_understood() {
        let info = b"pos:\t0\nflags:\t0100002\n\
            lock:\t1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF\n\
            lock:\t2: POSIX  ADVISORY  READ 4711 08:01:1234 100 199\n\
            lock:\t3: OFDLCK ADVISORY  WRITE -1 08:01:1234 0 0\n\
            lock:\t4: LEASE  ACTIVE    READ 4711 08:01:1234 0 EOF\n\
            lock:\t5: DELEG  ACTIVE    READ 4711 08:01:1234 0 EOF\n\
            lock:\t6: POSIX\n";
        let lock = |kind, write, start, end| Lock { kind, write, start, end };
        assert_eq!(
            parse(info),
            [
                lock(LockKind::Flock, true, 0, None),
                lock(LockKind::Posix, false, 100, Some(199)),
                lock(LockKind::Description, true, 0, Some(0)),
                lock(LockKind::Lease, false, 0, None),
            ]
        );
    }

    #[test]
    fn the_kernel_writes_them_so() {
        use std::os::fd::AsRawFd;
        let file = tempfile::tempfile().unwrap();
        // SAFETY: no memory is passed.
        assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH) }, 0);
        let info = std::fs::read(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
        assert_eq!(parse(&info), [Lock { kind: LockKind::Flock, write: false, start: 0, end: None }]);
    }
}
