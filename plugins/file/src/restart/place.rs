//! What belongs to a process and cannot be opened by another one in its place: its own files in /proc.
//!
//! Runs after plugin `ipc` has put all numbers in their places.

use crate::restart::{checked, describe, open};
use crate::state::{Files, Open, What};
use dmtcp_plugin_api::restart::Host;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Works in the calling process.
pub fn place(host: &Host<'_>, files: &Files) {
    for open in &files.opens {
        if let What::OwnProc(rest) = &open.what {
            let path = Path::new("/proc/self").join(std::ffi::OsStr::from_bytes(rest.bytes()));
            if let Err(e) = own_proc(&path, open) {
                host.warn(&format!("{}: cannot be opened again ({e}); /dev/null stands in", describe(open)));
            }
        }
    }
}

/// Opens a file of /proc and puts it where its stand-in is.
fn own_proc(path: &Path, wanted: &Open) -> Result<(), String> {
    let opened = open::raw(path, open::flags_for(wanted.flags), 0).map_err(|e| e.to_string())?;
    open::set_position(&opened, wanted)?;
    let replace = |number: i32| -> io::Result<()> {
        // SAFETY: no memory is passed; the number holds a stand-in that is ours to replace.
        unsafe {
            let flags = checked(libc::fcntl(number, libc::F_GETFD))?;
            let cloexec = if flags & libc::FD_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 };
            checked(libc::dup3(opened.as_raw_fd(), number, cloexec)).map(drop)
        }
    };
    wanted.numbers.iter().try_for_each(|n| replace(*n)).map_err(|e| e.to_string())
}
