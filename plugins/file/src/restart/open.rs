//! Opens things that have a name.
//!
//! A path is tried as it was; then, if it lay below the working directory, at the same place below the one that
//! dmtcp_restart has now: a job whose directory was moved or copied goes on there.

use crate::restart::{checked, describe, streams};
use crate::state::{Files, Named, Open};
use dmtcp_plugin_api::restart::Host;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What open(2) is given of the saved flags. Left out: what acts only once (O_CREAT, O_TRUNC, ...), O_ASYNC, which comes
/// with its receiver, and O_TMPFILE, which would make a file.
const KEPT: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_DIRECT
    | libc::O_NOATIME
    | libc::O_PATH
    | libc::O_NOFOLLOW
    | libc::O_DIRECTORY;

/// Set by users who want files to stay as they are, longer than at the checkpoint.
const SKIP_TRUNCATE: &str = "DMTCP_SKIP_TRUNCATE_FILE_AT_RESTART";

/// The flags for opening again.
pub fn flags_for(flags: i32) -> i32 {
    let kept = flags & KEPT & if flags & libc::O_TMPFILE == libc::O_TMPFILE { !libc::O_DIRECTORY } else { !0 };
    kept | libc::O_CLOEXEC | libc::O_NOCTTY
}

/// open(2).
pub fn raw(path: &Path, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is zero-terminated; the result is a new descriptor that nobody else owns.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(libc::open(path.as_ptr(), flags, mode))?)) }
}

/// Where a path leads here; if nothing is there, where it may be made.
fn candidates(host: &Host<'_>, files: &Files, path: &[u8]) -> Vec<PathBuf> {
    let mapped = host.path(path);
    let absolute = PathBuf::from(OsStr::from_bytes(&mapped));
    let directory = Path::new(OsStr::from_bytes(files.directory.bytes()));
    let moved = absolute.strip_prefix(directory).ok().and_then(|rest| Some(std::env::current_dir().ok()?.join(rest)));
    let moved = moved.filter(|m| *m != absolute);
    [Some(absolute), moved].into_iter().flatten().collect()
}

/// Where a named thing is to be opened. The error completes a sentence.
pub fn find(host: &Host<'_>, files: &Files, named: &Named, may_be_made: bool) -> Result<PathBuf, String> {
    let candidates = candidates(host, files, named.path.bytes());
    if let Some(found) = candidates.iter().find(|p| p.symlink_metadata().is_ok()) {
        // A directory opens as well, for reading, and opening a fifo may never return.
        if named.is_regular() && found.metadata().is_ok_and(|now| !now.is_file()) {
            return Err("it is no regular file any more: put the file back, or map the path to where it is now".into());
        }
        return Ok(found.clone());
    }
    let in_a_directory = |p: &&PathBuf| p.parent().is_some_and(Path::is_dir);
    match candidates.iter().find(in_a_directory) {
        Some(path) if may_be_made && named.is_regular() => Ok(path.clone()),
        _ => Err(
            "it is missing: put it back, or map the path to where it is now; --ckpt-open-files of dmtcp_launch saves \
                  such files"
                .into(),
        ),
    }
}

/// Opens what the process had open under a name.
pub fn named(host: &Host<'_>, files: &Files, open: &Open, named: &Named) -> Result<OwnedFd, String> {
    let path = find(host, files, named, open.only_writes())?;
    let flags = flags_for(open.flags);
    let made = named.is_regular() && open.only_writes() && path.symlink_metadata().is_err();
    let opened = if made {
        host.warn(&format!("{}: it was missing and is made anew, empty", describe(open)));
        raw(&path, flags | libc::O_CREAT, named.mode & 0o7777)
    } else {
        open_somehow(host, open, &path, flags)
    };
    let opened = opened.map_err(|e| format!("cannot be opened again: {e}"))?;
    if named.is_regular() && flags & libc::O_PATH == 0 {
        fit_size(host, open, named, &opened, made)?;
    }
    seek(&opened, open.position)?;
    Ok(opened)
}

/// Opens, giving up what this place does not allow but the program can do without.
fn open_somehow(host: &Host<'_>, open: &Open, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    match raw(path, flags, 0) {
        // Only the owner may leave the access time alone.
        Err(e) if e.raw_os_error() == Some(libc::EPERM) && flags & libc::O_NOATIME != 0 => {
            raw(path, flags & !libc::O_NOATIME, 0)
        }
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) && flags & libc::O_DIRECT != 0 => {
            host.warn(&format!("{}: this file system knows no O_DIRECT, opened without", describe(open)));
            raw(path, flags & !libc::O_DIRECT, 0)
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let own = with_own_mode(path, |p| raw(p, flags, 0));
            own.or_else(|| Some(Ok(streams::to_file(host, open, path)?))).unwrap_or(Err(e))
        }
        other => other,
    }
}

/// The mode of a file may forbid by now what it allowed when the file was opened; its owner can lift that for a moment.
fn with_own_mode<T>(path: &Path, f: impl FnOnce(&Path) -> io::Result<T>) -> Option<io::Result<T>> {
    let metadata = fs::metadata(path).ok()?;
    // SAFETY: no arguments.
    if metadata.uid() != unsafe { libc::geteuid() } || !(metadata.is_file() || metadata.is_dir()) {
        return None;
    }
    let mode = metadata.mode() & 0o7777;
    fs::set_permissions(path, Permissions::from_mode(mode | 0o700)).ok()?;
    let result = f(path);
    Some(fs::set_permissions(path, Permissions::from_mode(mode)).and(result))
}

/// A file that the process wrote to is cut back to what it was: what was written after the checkpoint will be written
/// again. A file that lacks something is reported.
fn fit_size(host: &Host<'_>, open: &Open, named: &Named, opened: &OwnedFd, made: bool) -> Result<(), String> {
    let file = File::from(opened.try_clone().map_err(|e| e.to_string())?);
    let size = file.metadata().map_err(|e| format!("its size is not to be had: {e}"))?.len();
    if size < named.size && !made {
        host.warn(&format!("{}: it has {size} bytes, at the checkpoint it had {}", describe(open), named.size));
    }
    let keep = std::env::var_os(SKIP_TRUNCATE).is_some_and(|v| !v.is_empty() && v != "0");
    if size > named.size && open.writes() && !keep {
        file.set_len(named.size).map_err(|e| format!("cannot be cut back to {} bytes: {e}", named.size))?;
    }
    Ok(())
}

/// Sets the offset. What cannot seek had none.
fn seek(opened: &OwnedFd, position: u64) -> Result<(), String> {
    if position == 0 {
        return Ok(());
    }
    // SAFETY: no memory is passed.
    let result = unsafe { libc::lseek(opened.as_raw_fd(), position as i64, libc::SEEK_SET) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return Err(format!("its offset {position} cannot be set: {error}"));
    }
    Ok(())
}

/// Opens for a description of a nameless file and sets its offset.
pub fn again(path: &Path, open: &Open) -> Result<OwnedFd, String> {
    // The name is a link in /proc.
    let flags = flags_for(open.flags) & !libc::O_NOFOLLOW;
    let opened = raw(path, flags, 0).map_err(|e| format!("cannot be opened again: {e}"))?;
    seek(&opened, open.position)?;
    Ok(opened)
}

/// Sets the offset of a description that was opened elsewhere.
pub fn set_position(opened: &OwnedFd, open: &Open) -> Result<(), String> {
    seek(opened, open.position)
}

/// A directory that was removed: made, opened, removed.
pub fn removed_directory(host: &Host<'_>, files: &Files, open: &Open, named: &Named) -> Result<OwnedFd, String> {
    let failed = |e: io::Error| format!("the removed directory cannot be had again: {e}");
    let candidates = candidates(host, files, named.path.bytes());
    let wanted = candidates.iter().find(|p| p.parent().is_some_and(Path::is_dir)).cloned();
    let wanted = wanted.unwrap_or_else(|| std::env::temp_dir().join(format!("removed-{}", std::process::id())));
    let path = if fs::create_dir(&wanted).is_ok() {
        wanted
    } else {
        let other = free_name(&wanted);
        fs::create_dir(&other).map_err(failed)?;
        other
    };
    let opened = raw(&path, flags_for(open.flags), 0);
    fs::remove_dir(&path).map_err(failed)?;
    opened.map_err(failed)
}

/// A name beside another that nobody has.
pub fn free_name(wanted: &Path) -> PathBuf {
    let mut number = 0;
    loop {
        let mut name = wanted.as_os_str().to_owned();
        name.push(format!(".dmtcp-{}-{number}", std::process::id()));
        if Path::new(&name).symlink_metadata().is_err() {
            return name.into();
        }
        number += 1;
    }
}

/// Opens a file to be mapped.
pub fn mapped(host: &Host<'_>, files: &Files, named: &Named, writable: bool) -> Result<OwnedFd, String> {
    let path = find(host, files, named, false).map_err(|e| format!("{}: {e}", named.path))?;
    let flags = if writable { libc::O_RDWR } else { libc::O_RDONLY } | libc::O_CLOEXEC;
    let opened = match raw(&path, flags, 0) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            with_own_mode(&path, |p| raw(p, flags, 0)).unwrap_or(Err(e))
        }
        other => other,
    };
    let opened = opened.map_err(|e| format!("{}: cannot be opened again: {e}", named.path))?;
    let size = fs::metadata(&path).map_or(0, |m| m.len());
    if size < named.size {
        host.warn(&format!("mapped file {}: it has {size} bytes, at the checkpoint it had {}", named.path, named.size));
    }
    Ok(opened)
}

/// Memory with a name, made if it is not there. Whoever has it mapped already goes on having it.
pub fn memory(host: &Host<'_>, files: &Files, named: &Named) -> Result<File, String> {
    let path = find(host, files, named, true)?;
    let missing = path.symlink_metadata().is_err();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let opened = match options.open(&path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            with_own_mode(&path, |p| options.open(p)).unwrap_or(Err(e))
        }
        other => other,
    };
    let file = opened.map_err(|e| format!("cannot be opened for its bytes: {e}"))?;
    if missing {
        file.set_permissions(Permissions::from_mode(named.mode & 0o7777)).map_err(|e| format!("its mode: {e}"))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_act_once_are_not_given_again() {
        let saved = libc::O_RDWR | libc::O_APPEND | libc::O_CREAT | libc::O_TRUNC | libc::O_ASYNC | libc::O_SYNC;
        let wanted = libc::O_RDWR | libc::O_APPEND | libc::O_SYNC | libc::O_CLOEXEC | libc::O_NOCTTY;
        assert_eq!(flags_for(saved), wanted);
        assert_eq!(flags_for(libc::O_TMPFILE | libc::O_RDWR), libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOCTTY);
        assert_ne!(flags_for(libc::O_DIRECTORY) & libc::O_DIRECTORY, 0);
    }

    #[test]
    fn an_owner_gets_past_the_mode_and_leaves_it_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("closed");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o0)).unwrap();
        assert!(with_own_mode(&path, |p| raw(p, libc::O_RDWR | libc::O_CLOEXEC, 0)).unwrap().is_ok());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0);
    }

    #[test]
    fn a_free_name_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let first = free_name(&directory.path().join("a"));
        fs::write(&first, "").unwrap();
        assert_ne!(free_name(&directory.path().join("a")), first);
    }
}
