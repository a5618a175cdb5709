//! The restart half: opens what has a name, makes what has none, takes locks.
//!
//! ```text
//!   create:  memory with a name -> nameless files -> their descriptions -> named files -> locks of descriptions -> modes
//!   place:   files of /proc, which belong to the process; redirected standard streams, which go by number
//! ```

mod locks;
mod nameless;
mod open;
mod place;
mod streams;

use crate::NAME;
use crate::state::{Files, Mapped, Named, Open, Source, What};
use dmtcp_plugin_api::restart::{Host, RestartHalf};
use locks::Taken;
use nameless::Masters;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The restart half.
#[derive(Debug, Default)]
pub struct Half;

/// Turns the result of a libc call into a `Result`.
fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The section of a process, or an empty one: the process may have been without application threads.
fn section(host: &Host<'_>, index: u32) -> Result<Files, String> {
    host.json(index, Files::SECTION).map(Option::unwrap_or_default).map_err(|e| format!("plugin {NAME}: {e}"))
}

/// What a description is called in messages.
fn describe(open: &Open) -> String {
    match &open.what {
        What::Named(named) | What::RemovedDirectory(named) => format!("fd {} -> {}", open.number(), named.path),
        What::Nameless(_) => format!("fd {} -> (unlinked file)", open.number()),
        What::OwnProc(rest) => {
            let path = Path::new("/proc/self").join(OsStr::from_bytes(rest.bytes()));
            format!("fd {} -> {}", open.number(), path.display())
        }
        What::Terminal(path) => format!("fd {} -> {path}", open.number()),
        What::Inherited(number) => format!("fd {} -> (standard stream {number})", open.number()),
    }
}

impl RestartHalf for Half {
    fn check(&self, host: &Host<'_>) -> Vec<String> {
        let mut out = Vec::new();
        for index in 0..host.process_count() {
            match section(host, index) {
                Ok(files) => check(host, &files, &mut out),
                Err(e) => out.push(e),
            }
        }
        out
    }

    fn create(&self, host: &Host<'_>) -> Result<(), String> {
        let said: Vec<Files> = (0..host.process_count()).map(|index| section(host, index)).collect::<Result<_, _>>()?;
        let mut masters = Masters::default();
        for (index, files) in (0..).zip(&said) {
            for nameless in &files.nameless {
                let temporary = files.opens.iter().find(|o| nameless::is_temporary(o, nameless.content.object));
                masters.make(host, index, nameless, temporary)?;
            }
        }
        let mut taken = Taken::default();
        let mut by_pid: Vec<(u32, &Files)> = (0..).zip(&said).collect();
        by_pid.sort_by_key(|(index, _)| host.process(*index).map_or(0, |p| p.pid));
        for (index, files) in by_pid {
            create(host, index, files, &mut masters, &mut taken)?;
        }
        masters.finish(host)
    }

    fn place(&self, host: &Host<'_>, index: u32) -> Result<(), String> {
        place::place(host, &section(host, index)?)
    }

    fn explain(&self, host: &Host<'_>, index: u32) -> String {
        let files = section(host, index).unwrap_or_default();
        let mut out = String::new();
        for open in &files.opens {
            out += &format!("  {} at {}", describe(open), open.position);
            for lock in &open.locks {
                out += &format!(", {}", locks::describe(lock));
            }
            out += "\n";
        }
        for nameless in &files.nameless {
            out += &format!("  {} bytes of {}\n", nameless.content.size, nameless::describe(&nameless.origin));
        }
        for mapped in &files.mapped {
            if let Source::Named(named) | Source::Spare(named, _) | Source::Memory(named, _) = &mapped.source {
                out += &format!(
                    "  mapped {}: {}\n",
                    if mapped.writable { "for writing" } else { "for reading" },
                    named.path
                );
            }
        }
        out
    }
}

/// Says what is missing.
fn check(host: &Host<'_>, files: &Files, out: &mut Vec<String>) {
    let made = |named: &Named| files.mapped.iter().any(|m| m.source.makes(named));
    for open in &files.opens {
        let What::Named(named) = &open.what else { continue };
        if !made(named)
            && let Err(e) = open::find(host, files, named, open.only_writes())
        {
            out.push(format!("{}: {e}", describe(open)));
        }
    }
    for mapped in &files.mapped {
        if let Source::Named(named) = &mapped.source
            && !made(named)
            && let Err(e) = open::find(host, files, named, false)
        {
            out.push(format!("mapped file {}: {e}", named.path));
        }
    }
}

/// Makes the objects of one process but the nameless files.
fn create(host: &Host<'_>, index: u32, files: &Files, masters: &mut Masters, taken: &mut Taken) -> Result<(), String> {
    for mapped in &files.mapped {
        create_mapped(host, index, files, masters, mapped)?;
    }
    for open in &files.opens {
        let made = match &open.what {
            What::Named(named) => open::named(host, files, open, named),
            What::Nameless(object) => masters.open(*object, open),
            What::RemovedDirectory(named) => open::removed_directory(host, files, open, named),
            What::Terminal(_) => streams::terminal(host, open),
            What::Inherited(number) => streams::inherited(host, open, *number),
            What::OwnProc(_) => streams::null(open),
        };
        let failed = |e: String| format!("{}: {e}", describe(open));
        let made = made.map_err(failed)?;
        taken.take(made.as_fd(), &open.locks).map_err(failed)?;
        host.provide(open.object, made);
    }
    Ok(())
}

/// Makes the object behind a mapping.
fn create_mapped(host: &Host<'_>, index: u32, files: &Files, masters: &Masters, mapped: &Mapped) -> Result<(), String> {
    let object = match &mapped.source {
        Source::Nameless(object) => masters.reopen(*object, libc::O_RDONLY),
        Source::Named(named) => open::mapped(host, files, named, mapped.writable),
        Source::Spare(named, content) if open::find(host, files, named, false).is_ok() => {
            // The bytes in the image are not needed, but the mapping that they were read through is part of the memory.
            let there = open::mapped(host, files, named, mapped.writable);
            if let Some(copy) = there.as_ref().ok().and_then(|file| file.try_clone().ok()) {
                host.provide(content.object, copy);
            }
            there
        }
        Source::Spare(named, content) | Source::Memory(named, content) => {
            let failed = |e: String| format!("mapped memory {}: {e}", named.path);
            let file: File = open::memory(host, files, named).map_err(failed)?;
            content.fill(host, index, file.as_fd()).map_err(failed)?;
            host.provide(content.object, OwnedFd::from(file));
            open::mapped(host, files, named, mapped.writable)
        }
    };
    host.provide(mapped.object, object.map_err(|e| format!("mapped file: {e}"))?);
    Ok(())
}
