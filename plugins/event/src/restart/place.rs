//! What can only be done in the process: entries of epoll sets, which go by descriptor number, and pidfds, whose processes
//! must be there.

use crate::restart::{checked, of_ended, open_pidfd};
use crate::state::{Kind, Object, Watched};
use dmtcp_plugin_api::restart::Host;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Works in the calling process. The error completes a sentence.
pub fn place(host: &Host<'_>, object: &Object) -> Result<(), String> {
    match &object.kind {
        Kind::Watch(watched) => {
            for entry in watched {
                match watch(object.number(), entry) {
                    // Another process shares the set and what it watches, and was here first.
                    Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                    // What no plugin could restore is a file now, which cannot be watched.
                    Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                        host.warn(&format!("fd {}: fd {} cannot be watched any more", object.number(), entry.number));
                    }
                    watched => watched.map_err(|e| format!("cannot watch fd {} again: {e}", entry.number))?,
                }
            }
            Ok(())
        }
        // SAFETY: no memory is passed.
        Kind::Itself => pidfd(object, open_pidfd(unsafe { libc::getpid() }, object.flags)),
        Kind::Process(pid) => match host.real_id(*pid) {
            Some(real) => pidfd(object, open_pidfd(real, object.flags)),
            None => {
                if *pid != 0 {
                    host.warn(&format!(
                        "fd {}: process {pid}, which it is a pidfd of, is not part of the computation: it counts as ended",
                        object.number()
                    ));
                }
                pidfd(object, of_ended(object.flags))
            }
        },
        _ => Ok(()),
    }
}

/// Adds one entry, under the number that it had, even if that number is something else's by now.
fn watch(epoll: i32, entry: &Watched) -> std::io::Result<()> {
    if entry.source == entry.number {
        return add(epoll, entry);
    }
    // SAFETY: no memory is passed; duplicates are owned by nobody else; the number gets back what it had.
    unsafe {
        let flags = libc::fcntl(entry.number, libc::F_GETFD);
        let there = match flags {
            -1 => None,
            _ => Some(OwnedFd::from_raw_fd(checked(libc::fcntl(entry.number, libc::F_DUPFD_CLOEXEC, 0))?)),
        };
        checked(libc::dup2(entry.source, entry.number))?;
        let added = add(epoll, entry);
        match there {
            Some(there) => {
                let cloexec = if flags & libc::FD_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 };
                checked(libc::dup3(there.as_raw_fd(), entry.number, cloexec))?;
            }
            None => drop(OwnedFd::from_raw_fd(entry.number)),
        }
        added
    }
}

fn add(epoll: i32, entry: &Watched) -> std::io::Result<()> {
    let mut event = libc::epoll_event { events: entry.events, u64: entry.data };
    // SAFETY: the event lives over the call.
    checked(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, entry.number, &raw mut event) }).map(drop)
}

/// Puts a pidfd where its stand-in is. The error completes a sentence.
fn pidfd(object: &Object, made: std::io::Result<OwnedFd>) -> Result<(), String> {
    let made = made.map_err(|e| format!("cannot be had again: {e}"))?;
    let put = |number: i32| {
        // SAFETY: no memory is passed; the numbers hold stand-ins.
        unsafe {
            let flags = checked(libc::fcntl(number, libc::F_GETFD))?;
            let cloexec = if flags & libc::FD_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 };
            checked(libc::dup3(made.as_raw_fd(), number, cloexec))
        }
    };
    let placed = object.numbers.iter().try_for_each(|number| put(*number).map(drop));
    placed.map_err(|e| format!("cannot be had again: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_closed_number_comes_back() {
        let mut ends = [0; 2];
        // SAFETY: room for both ends; no other memory is passed.
        let epoll = unsafe {
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
            libc::epoll_create1(libc::EPOLL_CLOEXEC)
        };
        let entry = Watched { number: 777, source: ends[0], events: libc::EPOLLIN as u32, data: 99 };
        watch(epoll, &entry).unwrap();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")).unwrap();
        assert!(info.contains("tfd:      777 events:       19 data:               63"), "{info}");
        // SAFETY: no memory is passed.
        assert_eq!(unsafe { libc::fcntl(777, libc::F_GETFD) }, -1);
    }
}
