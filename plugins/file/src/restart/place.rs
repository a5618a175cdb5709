//! What can only be had in the process, when its numbers stand: its own files in /proc, and standard streams that dmtcp_restart
//! was started with and that go by number.
//!
//! Runs after plugin `ipc` has put all numbers in their places.

use crate::regular::process_and_rest;
use crate::restart::{checked, describe, open, streams};
use crate::state::{Files, Open, What};
use dmtcp_plugin_api::restart::Host;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Works in the calling process.
pub fn place(host: &Host<'_>, files: &Files) -> Result<(), String> {
    for open in &files.opens {
        let failed = |e: io::Error| format!("{}: cannot be put in its place: {e}", describe(open));
        if let What::OwnProc(rest) = &open.what {
            let path = path_now(host, rest.bytes());
            match own_proc(&path, open) {
                Ok(opened) => open.numbers.iter().try_for_each(|n| replace(*n, &opened)).map_err(failed)?,
                Err(e) => host.warn(&format!("{}: cannot be opened again ({e}); /dev/null stands in", describe(open))),
            }
        }
        for (number, stream) in streams::redirected(host, open)? {
            replace(number, &stream).map_err(failed)?;
        }
    }
    Ok(())
}

/// Where that file of /proc is now: processes of the computation may have other ids than they know.
fn path_now(host: &Host<'_>, recorded: &[u8]) -> PathBuf {
    match process_and_rest(recorded) {
        Some((pid, rest)) => {
            let real = host.real_id(pid).unwrap_or(pid);
            OsStr::from_bytes(&[format!("/proc/{real}").as_bytes(), rest].concat()).into()
        }
        None => Path::new("/proc/self").join(OsStr::from_bytes(recorded)),
    }
}

/// Opens a file of /proc.
fn own_proc(path: &Path, wanted: &Open) -> Result<OwnedFd, String> {
    let opened = open::raw(path, open::flags_for(wanted.flags), 0).map_err(|e| e.to_string())?;
    open::set_position(&opened, wanted)?;
    Ok(opened)
}

/// Gives a number that is in its place another description; its close-on-exec flag stays.
fn replace(number: i32, description: &OwnedFd) -> io::Result<()> {
    // SAFETY: no memory is passed; the number holds a stand-in that is ours to replace.
    unsafe {
        let flags = checked(libc::fcntl(number, libc::F_GETFD))?;
        let cloexec = if flags & libc::FD_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 };
        checked(libc::dup3(description.as_raw_fd(), number, cloexec)).map(drop)
    }
}
