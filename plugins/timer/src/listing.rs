//! /proc/PID/timers: id, clock and notification of each POSIX timer, four lines each, newest first.
//!
//! ```text
//!   ID: 3
//!   signal: 34/00007ffd4c1a2b30
//!   notify: signal/tid.4711
//!   ClockID: 1
//! ```

use crate::state::Notice;

/// An entry of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The kernel's id.
    pub id: i32,
    /// Its clock.
    pub clock: i32,
    /// What happens when it expires.
    pub notice: Notice,
}

/// All entries, by id; `None`: this is not what the kernel writes.
pub fn parse(text: &[u8]) -> Option<Vec<Entry>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines();
    let mut out = Vec::new();
    while let Some(first) = lines.next() {
        let id = first.strip_prefix("ID: ")?.parse().ok()?;
        let (signal, value) = lines.next()?.strip_prefix("signal: ")?.split_once('/')?;
        let (kind, target) = lines.next()?.strip_prefix("notify: ")?.split_once('/')?;
        let clock = lines.next()?.strip_prefix("ClockID: ")?.parse().ok()?;
        let kind = match kind {
            "signal" => libc::SIGEV_SIGNAL,
            "none" => libc::SIGEV_NONE,
            "thread" => libc::SIGEV_THREAD,
            _ => return None,
        };
        let thread = match target.split_once('.')? {
            ("tid", number) => Some(number.parse().ok()?),
            ("pid", _) => None,
            _ => return None,
        };
        let value = value.trim_start_matches("0x");
        let value = if value == "(null)" { 0 } else { u64::from_str_radix(value, 16).ok()? };
        let notice = Notice { kind, thread, signal: signal.parse().ok()?, value };
        out.push(Entry { id, clock, notice });
    }
    out.sort_unstable_by_key(|entry| entry.id);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read() {
        let text = b"ID: 12\nsignal: 32/00007f0000001234\nnotify: signal/tid.4711\nClockID: 1\n\
            ID: 3\nsignal: 14/0000000000000003\nnotify: none/pid.4700\nClockID: -6\n\
            ID: 0\nsignal: 10/0000000000000000\nnotify: signal/pid.4700\nClockID: 0\n";
        let notice = |kind, thread, signal, value| Notice { kind, thread, signal, value };
        assert_eq!(
            parse(text).unwrap(),
            [
                Entry { id: 0, clock: 0, notice: notice(libc::SIGEV_SIGNAL, None, 10, 0) },
                Entry { id: 3, clock: -6, notice: notice(libc::SIGEV_NONE, None, 14, 3) },
                Entry { id: 12, clock: 1, notice: notice(libc::SIGEV_SIGNAL, Some(4711), 32, 0x7f00_0000_1234) },
            ]
        );
        assert_eq!(parse(b""), Some(Vec::new()));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = "ID: 1\nsignal: 10/0\nnotify: signal/pid.1\nClockID: 0\n";
        assert!(parse(good.as_bytes()).is_some());
        for (from, to) in
            [("ID: ", "id: "), ("10/0", "10"), ("signal/pid", "smoke/pid"), ("pid.1", "gid.1"), ("ClockID: 0\n", "")]
        {
            assert_eq!(parse(good.replace(from, to).as_bytes()), None, "{from}");
        }
    }
}
