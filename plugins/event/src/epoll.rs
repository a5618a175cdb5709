//! epoll_create(2): what a set watches.
//!
//! An entry is a description and the number that it was added under. The number may have been closed or given to another
//! file since, while the description lives on under another one; kcmp(2) tells which.

use crate::state::{Kind, Watched};
use dmtcp_plugin_api::sys;

/// Looks at one. `epoll`: its number; `numbers`: all of the process's; `same`: whether a number refers to the description
/// of an entry: number to ask about, number that the entry was added under, which of several such entries.
pub fn look(info: &[u8], numbers: &[i32], same: impl Fn(i32, i32, u32) -> Option<bool>) -> Result<Kind, String> {
    let text = String::from_utf8_lossy(info);
    let mut watched: Vec<Watched> = Vec::new();
    for (number, events, data) in text.lines().filter_map(entry) {
        let which = watched.iter().filter(|w| w.number == number).count() as u32;
        let is_it = |n: i32| same(n, number, which);
        let source = match is_it(number) {
            Some(true) | None => Some(number),
            Some(false) => numbers.iter().copied().find(|n| is_it(*n) == Some(true)),
        };
        let Some(source) = source else {
            return Err(format!("it watches fd {number}, which this process has not open"));
        };
        watched.push(Watched { number, source, events, data });
    }
    Ok(Kind::Watch(watched))
}

/// `tfd:        5 events:       19 data:                5  pos:0 ino:5d sdev:8`: number, events, data.
fn entry(line: &str) -> Option<(i32, u32, u64)> {
    let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut value = |name| {
        words.find(|w| *w == name)?;
        words.next()
    };
    let events = u32::from_str_radix(value("events:")?, 16).ok()?;
    let data = u64::from_str_radix(value("data:")?, 16).ok()?;
    Some((number, events, data))
}

/// Asks the kernel whether `number` is what `epoll` watches under the number `added`. Nothing: it cannot be asked.
pub fn same_target(task: i32, epoll: i32, number: i32, added: i32, which: u32) -> Option<bool> {
    match sys::watched_by_epoll(task, epoll, number, added, which) {
        Ok(same) => Some(same),
        Err(libc::EBADF) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1040\n\
        tfd:        5 events:       19 data:      7f00000005  pos:0 ino:5d sdev:8\n\
        tfd:       12 events: 40000000 data:                c  pos:0 ino:5d sdev:8\n";

    #[test]
    fn entries_are_read() {
        let watched = |number, source, events, data| Watched { number, source, events, data };
        let all = look(INFO, &[5, 12], |n, added, _| Some(n == added)).unwrap();
        assert_eq!(all, Kind::Watch(vec![watched(5, 5, 0x19, 0x7f_0000_0005), watched(12, 12, 0x4000_0000, 12)]));
        let moved =
            look(INFO, &[5, 12, 30], |n, added, _| Some(if added == 12 { n == 30 } else { n == added })).unwrap();
        let Kind::Watch(moved) = moved else { panic!() };
        assert_eq!(moved[1].source, 30);
        assert!(look(INFO, &[5, 12], |n, added, _| Some(n == added && n == 5)).unwrap_err().contains("fd 12"));
    }

    #[test]
    fn the_kernel_knows_what_a_closed_number_was() {
        let (a, b) = sys::pipe(libc::O_CLOEXEC).unwrap();
        // SAFETY: no memory is passed; nobody else owns the result.
        let epoll = sys::Fd::own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
        let mut event = libc::epoll_event { events: 1, u64: 77 };
        // SAFETY: the event lives over the call.
        assert_eq!(unsafe { libc::epoll_ctl(epoll.number(), libc::EPOLL_CTL_ADD, a.number(), &raw mut event) }, 0);
        let tid = sys::tid();
        assert_eq!(same_target(tid, epoll.number(), a.number(), a.number(), 0), Some(true));
        assert_eq!(same_target(tid, epoll.number(), b.number(), a.number(), 0), Some(false));
        assert_eq!(same_target(tid, epoll.number(), 9999, a.number(), 0), Some(false));
    }
}
