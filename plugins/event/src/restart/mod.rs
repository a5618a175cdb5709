//! The restart half: makes the objects, then, in each process, what refers to its descriptors or to itself.
//!
//! Runs after plugin `ipc` has put all numbers in their places.

mod place;

use crate::NAME;
use crate::state::{Events, Kind, Object};
use dmtcp_plugin_api::restart::{Host, RestartHalf};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The restart half.
#[derive(Debug, Default)]
pub struct Half;

/// Turns the result of a libc call into a `Result`.
fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The section of a process, or an empty one: the process may have been without application threads.
fn section(host: &Host<'_>, index: u32) -> Result<Events, String> {
    host.json(index, Events::SECTION).map(Option::unwrap_or_default).map_err(|e| format!("plugin {NAME}: {e}"))
}

fn describe(object: &Object) -> String {
    let what = match &object.kind {
        Kind::Counter { count, semaphore: false } => format!("eventfd, {count}"),
        Kind::Counter { count, semaphore: true } => format!("eventfd, semaphore, {count}"),
        Kind::Timer(timer) => format!("timerfd, {} ns left, every {} ns", timer.remaining, timer.interval),
        Kind::Signals(mask) => format!("signalfd, mask {mask:#x}"),
        Kind::Watch(watched) => format!("epoll, watches {}", watched.len()),
        Kind::Itself => "pidfd of the process".into(),
        Kind::Process(0) => "pidfd of a process that had ended".into(),
        Kind::Process(pid) => format!("pidfd of process {pid}"),
    };
    format!("fd {} -> {what}", object.number())
}

impl RestartHalf for Half {
    fn check(&self, host: &Host<'_>) -> Vec<String> {
        (0..host.process_count()).filter_map(|index| section(host, index).err()).collect()
    }

    fn create(&self, host: &Host<'_>) -> Result<(), String> {
        for index in 0..host.process_count() {
            for object in &section(host, index)?.objects {
                let made = make(object).map_err(|e| format!("{}: cannot be made: {e}", describe(object)))?;
                host.provide(object.object, made);
            }
        }
        Ok(())
    }

    fn place(&self, host: &Host<'_>, index: u32) -> Result<(), String> {
        // Sets come last: what they watch must be in its place.
        let objects = section(host, index)?.objects;
        let (sets, others): (Vec<_>, Vec<_>) = objects.iter().partition(|o| matches!(o.kind, Kind::Watch(_)));
        for object in others.into_iter().chain(sets) {
            place::place(host, object).map_err(|e| format!("{}: {e}", describe(object)))?;
        }
        Ok(())
    }

    fn explain(&self, host: &Host<'_>, index: u32) -> String {
        let events = section(host, index).unwrap_or_default();
        events.objects.iter().map(|o| format!("  {}\n", describe(o))).collect()
    }
}

/// Makes an object. What needs the process is done when it is placed.
fn make(object: &Object) -> io::Result<OwnedFd> {
    let nonblocking = object.flags & libc::O_NONBLOCK;
    // SAFETY: the mask lives over the call; results are new descriptors that nobody else owns.
    let made = unsafe {
        let fd = match &object.kind {
            Kind::Counter { count, semaphore } => {
                let flags = libc::EFD_CLOEXEC | nonblocking | if *semaphore { libc::EFD_SEMAPHORE } else { 0 };
                let made = OwnedFd::from_raw_fd(checked(libc::eventfd(0, flags))?);
                return add(&made, *count).map(|()| made);
            }
            Kind::Timer(timer) => libc::timerfd_create(timer.clock, libc::TFD_CLOEXEC | nonblocking),
            Kind::Signals(mask) => {
                // glibc's signalfd() takes its own, larger set; the kernel's is these 64 bits.
                let flags = libc::SFD_CLOEXEC | nonblocking;
                libc::syscall(libc::SYS_signalfd4, -1, std::ptr::from_ref(mask), size_of::<u64>(), flags) as i32
            }
            Kind::Watch(_) => libc::epoll_create1(libc::EPOLL_CLOEXEC),
            // Of a process that is to be: a stand-in until it is placed.
            Kind::Itself | Kind::Process(_) => libc::eventfd(0, libc::EFD_CLOEXEC),
        };
        OwnedFd::from_raw_fd(checked(fd)?)
    };
    Ok(made)
}

/// A pidfd of a process that has ended and has been waited for; in the pid namespace of the caller.
fn of_ended(flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the child has a copy of all memory and ends at once. Its end signals nothing, so nobody else waits for it.
    unsafe {
        let child = checked(libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) as i32)?;
        if child == 0 {
            libc::_exit(0);
        }
        let made = open_pidfd(child, flags & !libc::O_EXCL);
        while libc::waitpid(child, std::ptr::null_mut(), libc::__WALL) < 0 {
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                break;
            }
        }
        made
    }
}

/// A pidfd with the flags that another one has: not to wait, of a thread.
fn open_pidfd(pid: i32, flags: i32) -> io::Result<OwnedFd> {
    let flags = flags & (libc::O_NONBLOCK | libc::O_EXCL);
    // SAFETY: no memory is passed; nobody else owns the result.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(libc::syscall(libc::SYS_pidfd_open, pid, flags) as i32)?)) }
}

fn add(counter: &OwnedFd, count: u64) -> io::Result<()> {
    if count == 0 {
        return Ok(());
    }
    // SAFETY: eight readable bytes.
    let written = unsafe { libc::write(counter.as_raw_fd(), (&raw const count).cast(), size_of::<u64>()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(object: &OwnedFd) -> String {
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", object.as_raw_fd())).unwrap()
    }

    fn object(kind: Kind, flags: i32) -> Object {
        Object { object: 1, numbers: vec![3], flags, kind }
    }

    #[test]
    fn counters_of_any_size_come_back() {
        for count in [0, 1, u64::from(u32::MAX) + 1, u64::MAX - 1] {
            let made = make(&object(Kind::Counter { count, semaphore: true }, libc::O_NONBLOCK)).unwrap();
            let info = info(&made);
            assert!(info.contains(&format!("eventfd-count: {count:16x}")), "{info}");
            // SAFETY: no memory is passed.
            assert_eq!(unsafe { libc::fcntl(made.as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK, libc::O_NONBLOCK);
        }
    }

    #[test]
    fn a_pidfd_of_nobody_tells_that_it_has_ended() {
        let made = of_ended(libc::O_NONBLOCK).unwrap();
        assert!(info(&made).contains("Pid:\t-1"), "{}", info(&made));
        let mut poll = libc::pollfd { fd: made.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the structure lives over the call.
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 1);
    }

    #[test]
    fn a_signalfd_keeps_its_mask() {
        let made = make(&object(Kind::Signals(1 << 13 | 1 << 40), 0)).unwrap();
        assert!(info(&made).contains("sigmask:\t0000010000002000"), "{}", info(&made));
    }
}
