//! The restart half: makes pipes and shared memory, and puts every descriptor number of a process where it was.
//!
//! Placing: the program first moves everything of its own off the numbers that are needed, so that no dup2(2) can hit the
//! source of a later one; close-on-exec flags come last.

mod memory;
mod pipes;

use crate::NAME;
use crate::state::{Descriptors, Pipes, Shared, SharedMemory};
use dmtcp_plugin_api::restart::{Host, RestartHalf};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The restart half.
#[derive(Debug, Default)]
pub struct Half;

/// A section of a process, or an empty one: the process may have been without application threads.
fn section<T: Default + serde::de::DeserializeOwned>(host: &Host<'_>, index: u32, name: &str) -> Result<T, String> {
    host.json(index, name).map(Option::unwrap_or_default).map_err(|e| format!("plugin {NAME}: {e}"))
}

/// Turns the result of a libc call into a `Result`.
fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl RestartHalf for Half {
    fn check(&self, host: &Host<'_>) -> Vec<String> {
        let mut out = Vec::new();
        for index in 0..host.process_count() {
            if let Err(e) = section::<Descriptors>(host, index, Descriptors::SECTION) {
                out.push(e);
            }
            match section::<Pipes>(host, index, Pipes::SECTION) {
                Ok(pipes) => out.extend(pipes.pipes.iter().filter_map(pipes::missing)),
                Err(e) => out.push(e),
            }
            if let Err(e) = section::<SharedMemory>(host, index, SharedMemory::SECTION) {
                out.push(e);
            }
        }
        out
    }

    fn create(&self, host: &Host<'_>) -> Result<(), String> {
        let mut pipes = Vec::new();
        let mut memory = Vec::new();
        for index in 0..host.process_count() {
            let found = section::<Pipes>(host, index, Pipes::SECTION)?.pipes;
            pipes.extend(found.into_iter().map(|pipe| (index, pipe)));
            let found = section::<SharedMemory>(host, index, SharedMemory::SECTION)?.objects;
            memory.extend(found.into_iter().map(|object| (index, object)));
        }
        let mut pipes = pipes::put_together(pipes);
        // A user who has many pipes gets small ones from some number on: those that were small are the last.
        pipes.sort_by_key(|(_, pipe)| std::cmp::Reverse(pipe.capacity));
        for (index, pipe) in pipes {
            pipes::create(host, index, &pipe)?;
        }
        memory::create(host, memory)
    }

    fn place(&self, host: &Host<'_>, index: u32) -> Result<(), String> {
        let mut table: Descriptors = section(host, index, Descriptors::SECTION)?;
        unite(host, index, &mut table)?;
        place(host, &table)
    }

    fn explain(&self, host: &Host<'_>, index: u32) -> String {
        let descriptors = section::<Descriptors>(host, index, Descriptors::SECTION).unwrap_or_default();
        let pipes = section::<Pipes>(host, index, Pipes::SECTION).unwrap_or_default();
        let memory = section::<SharedMemory>(host, index, SharedMemory::SECTION).unwrap_or_default();
        let mut out = format!(
            "{} descriptor numbers, {} open file descriptions\n",
            descriptors.numbers.len(),
            descriptors.objects.len()
        );
        for object in &descriptors.objects {
            let numbers = descriptors.numbers.iter().filter(|n| n.object == object.object);
            let numbers: Vec<String> = numbers.map(|n| n.number.to_string()).collect();
            let owner = object.owner.as_deref().unwrap_or("saved by no plugin");
            out += &format!("  {} -> {} ({owner})\n", numbers.join(" "), object.link);
        }
        for pipe in &pipes.pipes {
            let bytes = pipe.blob.as_ref().and_then(|b| host.blob(index, b)).map_or(0, |b| b.length);
            out += &format!("  pipe: {} ends, {bytes} of {} bytes in flight\n", pipe.ends.len(), pipe.capacity);
        }
        for object in &memory.objects {
            out += &format!("  shared memory: {} bytes\n", object.content.size);
        }
        out
    }
}

/// Lets descriptors that were one open file description with another process's be that one: each group's first holder's.
fn unite(host: &Host<'_>, index: u32, table: &mut Descriptors) -> Result<(), String> {
    let count = host.process_count();
    let pid_of = |index: u32| host.process(index).map_or(0, |p| p.pid);
    let own = pid_of(index);
    let mut shared = Shared::default();
    for index in 0..count {
        shared.groups.extend(section::<Shared>(host, index, Shared::SECTION)?.groups);
    }
    for group in &shared.groups {
        let (Some(first), true) = (group.first(), group.iter().any(|h| h.pid == own)) else { continue };
        let Some(holder) = (0..count).find(|index| pid_of(*index) == first.pid) else { continue };
        let theirs: Descriptors = section(host, holder, Descriptors::SECTION)?;
        let Some(object) = theirs.numbers.iter().find(|n| n.number == first.number).map(|n| n.object) else { continue };
        for number in &mut table.numbers {
            if group.iter().any(|h| h.pid == own && h.number == number.number) {
                number.object = object;
            }
        }
    }
    Ok(())
}

/// Puts the numbers of a table where they were in the calling process.
fn place(host: &Host<'_>, table: &Descriptors) -> Result<(), String> {
    let numbers: Vec<RawFd> = table.numbers.iter().map(|n| n.number).collect();
    raise_limit(numbers.last().copied().unwrap_or(0))?;
    host.keep_clear(&numbers)?;
    tell_of_lost(host, table);
    let mut substitute: Option<OwnedFd> = None;
    for number in &table.numbers {
        let failed = |e: io::Error| format!("fd {} cannot be put in its place: {e}", number.number);
        let source = match host.object(number.object) {
            Some(object) => object.as_raw_fd(),
            None => substitute_for(&mut substitute, &numbers).map_err(failed)?,
        };
        if source != number.number {
            // SAFETY: no memory is passed; what was at the number has been moved away.
            checked(unsafe { libc::dup2(source, number.number) }).map_err(failed)?;
        }
    }
    drop(substitute);
    for number in &table.numbers {
        let flag = if number.close_on_exec { libc::FD_CLOEXEC } else { 0 };
        // SAFETY: no memory is passed.
        checked(unsafe { libc::fcntl(number.number, libc::F_SETFD, flag) })
            .map_err(|e| format!("fd {}: its close-on-exec flag cannot be set: {e}", number.number))?;
    }
    Ok(())
}

/// Says what nothing restored, once for each description: of one that is another process's as well, the first holder does.
fn tell_of_lost(host: &Host<'_>, table: &Descriptors) {
    for object in table.objects.iter().filter(|o| host.object(o.object).is_none()) {
        let numbers = table.numbers.iter().filter(|n| n.object == object.object);
        let numbers: Vec<String> = numbers.map(|n| n.number.to_string()).collect();
        if !numbers.is_empty() {
            let (numbers, link) = (numbers.join(", "), &object.link);
            host.warn(&format!("fd {numbers} -> {link}: nothing restored it, it is open on /dev/null now"));
        }
    }
}

/// /dev/null on a number that is not needed.
fn substitute_for(opened: &mut Option<OwnedFd>, needed: &[RawFd]) -> io::Result<RawFd> {
    if let Some(fd) = opened {
        return Ok(fd.as_raw_fd());
    }
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let above = needed.iter().max().copied().unwrap_or(0) + 1;
    // SAFETY: no memory is passed; the result is a new descriptor that nobody else owns.
    let fd = unsafe {
        let fd = checked(libc::fcntl(null.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above))?;
        <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
    };
    Ok(opened.insert(fd).as_raw_fd())
}

/// Lets the highest number exist, and one more. The application's own limits are set when its memory stands.
fn raise_limit(highest: RawFd) -> Result<(), String> {
    let wanted = highest as u64 + 2;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    let raised = unsafe {
        checked(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit)).and_then(|_| {
            if limit.rlim_cur >= wanted {
                return Ok(0);
            }
            limit.rlim_cur = wanted;
            limit.rlim_max = limit.rlim_max.max(wanted);
            checked(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))
        })
    };
    raised.map(drop).map_err(|e| {
        format!("fd {highest}: so high a number is not allowed here ({e}): raise the hard limit (ulimit -Hn)")
    })
}
