//! Working directory, root directory and umask, which all threads share.
//!
//! A process that changes its root directory leaves the names of all files behind: neither its images nor its own files in
//! /proc would be found. So the root is compared with that of its start before anything is stopped; after a restart, which
//! may be on another machine, with that of the restart.

use crate::state::Place;
use dmtcp_plugin_api::{proc_files, sys};
use std::sync::atomic::{AtomicU64, Ordering};

/// Device and inode of the root directory that is the process's by right.
static ROOT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

fn root() -> [u64; 2] {
    sys::stat(b"/").map_or([0; 2], |s| [s.st_dev, s.st_ino])
}

/// Notes the root directory: at the start, and after a restart.
pub fn note_root() {
    for (kept, now) in ROOT.iter().zip(root()) {
        kept.store(now, Ordering::Release);
    }
}

/// Whether the process has changed its root directory. The error is a sentence.
pub fn check_root() -> Result<(), String> {
    if ROOT.each_ref().map(|kept| kept.load(Ordering::Acquire)) == root() {
        return Ok(());
    }
    Err("the process has changed its root directory (chroot(2)): it cannot be saved".into())
}

/// Looks at a task. The error is a sentence.
pub fn look(task: i32) -> Result<Place, String> {
    let link = proc_files::read_link(&proc_files::task_path(task, "cwd"))
        .map_err(|e| format!("the working directory cannot be looked at: error {e}"))?;
    let status = proc_files::read_file(&proc_files::task_path(task, "status"))
        .map_err(|e| format!("the umask cannot be looked at: error {e}"))?;
    // Through the link, not by the path: the path may lead somewhere else by now.
    let there = sys::stat(proc_files::task_path(task, "cwd").as_bytes());
    let removed = there.is_ok_and(|s| s.st_nlink == 0);
    let directory = if removed { link.strip_suffix(b" (deleted)").unwrap_or(&link) } else { &link };
    Ok(Place { directory: directory.into(), removed, umask: umask(&status).unwrap_or(0o022) })
}

/// The umask in /proc/PID/status.
fn umask(status: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(status);
    let value = text.lines().find_map(|l| l.strip_prefix("Umask:"))?;
    u32::from_str_radix(value.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_umask_is_octal() {
        assert_eq!(umask(b"Name:\tx\nUmask:\t0077\nState:\tR\n"), Some(0o77));
        assert_eq!(umask(b"Name:\tx\n"), None);
    }

    #[test]
    fn a_process_knows_where_it_is() {
        let place = look(sys::tid()).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(place.directory.to_string(), here.to_str().unwrap());
        assert!(!place.removed);
    }
}
