//! The table of translated ids on this program's side: taken into use, given a name, and taken away when nobody needs it.
//!
//! ```text
//!   plugin pid-virt provides /dev/shm/dmtcp-ids.NAME -> mapped, begun; or unlinked, where ids are the same
//!   family: every process that was born is noted before the first one goes on
//!   the last process has ended -> unlinked; daemons may be left: then by a later restart
//! ```
//! The name is for programs that a process of the computation executes: nothing else of it survives an exec.

use crate::descriptors::Descriptors;
use dmtcp_plugin_api::ids::{self, Table};
use dmtcp_protocol::env;
use nix::fcntl::OFlag;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// The only way in which processes may get ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PidRestore {
    /// The ones that they had.
    Same,
    /// Others, which are translated.
    Translate,
}

impl PidRestore {
    /// As the environment says; `None`: what is possible. The error is the value.
    pub fn of_environment() -> Result<Option<Self>, String> {
        match std::env::var(env::PID_RESTORE).unwrap_or_default().as_str() {
            "" => Ok(None),
            "same" => Ok(Some(Self::Same)),
            "translate" => Ok(Some(Self::Translate)),
            other => Err(other.into()),
        }
    }
}

/// Why ids cannot be translated.
#[derive(Debug, thiserror::Error)]
pub enum TranslationError {
    /// No memory for the table.
    #[error("cannot map the table by which ids are translated: {0}")]
    Map(io::Error),
}

/// A table in use.
#[derive(Debug)]
pub struct Translation {
    table: Table,
    path: PathBuf,
    file: OwnedFd,
}

impl Translation {
    /// Takes this object into use.
    pub fn begin(descriptors: &Descriptors, object: u64) -> Result<Self, TranslationError> {
        sweep();
        let missing = || TranslationError::Map(io::ErrorKind::NotFound.into());
        let number = descriptors.object(object).ok_or_else(missing)?;
        // SAFETY: the list keeps it open while this runs.
        let file = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().map_err(TranslationError::Map)?;
        let path = path_of(number).ok_or_else(missing)?;
        let digits = path.as_os_str().to_str().and_then(|text| text.strip_prefix(ids::PREFIX));
        let name = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(missing)?;
        let address = map(file.as_fd()).map_err(TranslationError::Map)?;
        let limit = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|text| text.trim().parse().ok());
        // SAFETY: the file was mapped just now, whole, and stays so until the value is dropped.
        let table = unsafe { Table::begin(address, name, limit.unwrap_or(u32::MAX)) };
        Ok(Self { table, path, file })
    }

    /// Nothing is translated: takes the object's name away.
    pub fn discard(descriptors: &Descriptors, object: u64) {
        if let Some(path) = descriptors.object(object).and_then(path_of) {
            let _ = fs::remove_file(path);
        }
    }

    /// The table.
    pub fn table(&self) -> Table {
        self.table
    }
}

impl Drop for Translation {
    fn drop(&mut self) {
        // SAFETY: the table is not used any more: the value that gave it out goes.
        let _ = unsafe { libc::munmap(self.table.address() as *mut libc::c_void, ids::LENGTH) };
        // Only this value's own descriptor may be left.
        if let Ok(null) = File::open("/dev/null") {
            self.file = null.into();
        }
        remove_if_unused(&self.path);
    }
}

fn map(file: BorrowedFd<'_>) -> io::Result<u64> {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_NORESERVE);
    // SAFETY: a new mapping harms nothing.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), ids::LENGTH, prot, flags, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at as u64) }
}

/// The name of an open table.
fn path_of(number: RawFd) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{number}")).ok().filter(|path| path.exists())
}

/// Takes away tables that nobody has open or mapped: of computations that outlived their dmtcp_restart.
fn sweep() {
    let prefix = Path::new(ids::PREFIX);
    let (Some(directory), Some(start)) = (prefix.parent(), prefix.file_name()) else { return };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(start.as_encoded_bytes()) {
            remove_if_unused(&entry.path());
        }
    }
}

/// A lease for reading is granted only if nobody has the file open for writing, as everybody who maps it has.
fn remove_if_unused(path: &Path) {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let Ok(file) = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()) else { return };
    // SAFETY: numbers only.
    let unused = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) } == 0;
    if unused {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn a_table_is_taken_away_when_nobody_has_it() {
        let file = |name| {
            let path = format!("{}{name}", ids::PREFIX);
            let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path).unwrap();
            file.set_len(ids::LENGTH as u64).unwrap();
            (PathBuf::from(path), file)
        };
        let descriptors = Descriptors::default();
        let (unused, object) = file(ids::name(u64::from(std::process::id()) << 32 | 1));
        descriptors.provide(6, object.into());
        Translation::discard(&descriptors, 6);
        assert!(!unused.exists());
        let (path, object) = file(ids::name(u64::from(std::process::id()) << 32 | 2));
        descriptors.provide(7, object.into());
        let translation = Translation::begin(&descriptors, 7).unwrap();
        translation.table().set(5, 6);
        sweep();
        assert!(path.exists(), "it is in use");
        descriptors.close_all_but(&[]);
        let other = map(File::options().read(true).write(true).open(&path).unwrap().as_fd()).unwrap();
        drop(translation);
        assert!(path.exists(), "somebody has it mapped");
        // SAFETY: mapped above, used by nobody after this.
        unsafe {
            assert_eq!(Table::at(other).unwrap().real(5), Some(6));
            libc::munmap(other as *mut libc::c_void, ids::LENGTH);
        }
        sweep();
        assert!(!path.exists());
    }
}
