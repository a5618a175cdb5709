//! Makes files that no name leads to.
//!
//! ```text
//!   unlinked file   created beside where it was (its own name if that is free), opened, unlinked
//!   O_TMPFILE       the same call again: only such a file can be given a name later
//!   memfd           the same call again; sealed when its bytes are in, before it is mapped
//! ```
//! A *master*, open for reading and writing, exists per file while objects are made; every description is opened through
//! it. It then is the object that mappings are made of.

use crate::late::late_seals;
use crate::restart::{checked, open};
use crate::state::{Nameless, Open, Origin, What};
use dmtcp_plugin_api::restart::Host;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const F_ADD_SEALS: i32 = 1033;
const F_SEAL_SEAL: i32 = 0x1;
const F_SEAL_WRITE: i32 = 0x8;
const F_SEAL_EXEC: i32 = 0x20;
const MFD_NOEXEC_SEAL: u32 = 0x8;

/// A file in the making.
struct Master {
    identity: (u64, u64),
    /// The number that each process gave it.
    objects: Vec<u64>,
    what: String,
    file: File,
    mode: u32,
    seals: i32,
    /// The description that was opened with O_TMPFILE, until it is asked for.
    temporary: Option<OwnedFd>,
}

/// The files in the making of all processes.
#[derive(Default)]
pub struct Masters(Vec<Master>);

/// What a nameless file is, for a person.
pub fn describe(origin: &Origin) -> String {
    match origin {
        Origin::Unlinked(path) => format!("{path} (unlinked)"),
        Origin::Temporary(directory) => format!("a file without a name in {directory}"),
        Origin::Memfd(name, _) => format!("memfd '{name}'"),
    }
}

/// Whether a description was made together with a file of this object number, by O_TMPFILE.
pub fn is_temporary(open: &Open, object: u64) -> bool {
    open.what == What::Nameless(object) && open.flags & libc::O_TMPFILE == libc::O_TMPFILE
}

impl Masters {
    /// Makes a file and gives it its bytes. `temporary`: the description that is to be opened with O_TMPFILE.
    pub fn make(
        &mut self,
        host: &Host<'_>,
        index: u32,
        nameless: &Nameless,
        temporary: Option<&Open>,
    ) -> Result<(), String> {
        let what = describe(&nameless.origin);
        let failed = |e: String| format!("{what} cannot be made: {e}");
        if let Some(known) = self.0.iter_mut().find(|m| m.identity == nameless.identity) {
            known.objects.push(nameless.content.object);
            return Ok(());
        }
        let made = match &nameless.origin {
            Origin::Memfd(name, seals) => memfd(name.bytes(), *seals).map(|f| (f, None)),
            Origin::Unlinked(path) => unlinked(&host.path(path.bytes())).map(|f| (f, None)),
            Origin::Temporary(directory) => {
                let directory = host.path(directory.bytes());
                let flags = temporary.map_or(libc::O_RDWR, |o| o.flags);
                temporary_file(Path::new(OsStr::from_bytes(&directory)), flags)
            }
        };
        let (file, temporary) = made.map_err(|e| failed(e.to_string()))?;
        nameless.content.fill(host, index, file.as_fd()).map_err(failed)?;
        let seals = if let Origin::Memfd(_, seals) = nameless.origin { seals } else { 0 };
        let (identity, objects, mode) = (nameless.identity, vec![nameless.content.object], nameless.mode);
        self.0.push(Master { identity, objects, what, file, mode, seals, temporary });
        Ok(())
    }

    fn get(&self, object: u64) -> Result<&Master, String> {
        self.0
            .iter()
            .find(|m| m.objects.contains(&object))
            .ok_or_else(|| format!("the image has no file with number {object}"))
    }

    /// A new description of a file.
    pub fn reopen(&self, object: u64, flags: i32) -> Result<OwnedFd, String> {
        let path = path_of(&self.get(object)?.file);
        open::raw(&path, flags | libc::O_CLOEXEC, 0)
            .map_err(|e| format!("an unlinked file cannot be opened again: {e}"))
    }

    /// The description that the process had.
    pub fn open(&mut self, object: u64, open: &Open) -> Result<OwnedFd, String> {
        if is_temporary(open, object)
            && let Some(master) = self.0.iter_mut().find(|m| m.objects.contains(&object))
            && let Some(opened) = master.temporary.take()
        {
            open::set_position(&opened, open)?;
            return Ok(opened);
        }
        open::again(&path_of(&self.get(object)?.file), open)
    }

    /// Sets modes and seals, which would have been in the way, and provides the masters as what mappings are made of.
    pub fn finish(self, host: &Host<'_>) -> Result<(), String> {
        for master in self.0 {
            let failed = |e: io::Error| format!("{}: {e}", master.what);
            let current = master.file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
            if current != master.mode && master.seals & F_SEAL_EXEC == 0 {
                master.file.set_permissions(Permissions::from_mode(master.mode)).map_err(failed)?;
            }
            add_seals(&master.file, master.seals).map_err(failed)?;
            let mut object = OwnedFd::from(master.file);
            if master.seals & F_SEAL_WRITE != 0 {
                // Nobody has it mapped for writing, and the kernel refuses any mapping of a description that could write.
                object = open::raw(&path_of(&object), libc::O_RDONLY | libc::O_CLOEXEC, 0).map_err(failed)?;
            }
            for number in &master.objects {
                host.provide(*number, object.try_clone().map_err(failed)?);
            }
        }
        Ok(())
    }
}

fn path_of(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// memfd_create with the flags that lead to these seals.
fn memfd(name: &[u8], seals: i32) -> io::Result<File> {
    let name = CString::new(name)?;
    let create = |flags: u32| {
        // SAFETY: the name is zero-terminated; the result is a new descriptor that nobody else owns.
        unsafe { Ok(File::from_raw_fd(checked(libc::memfd_create(name.as_ptr(), flags | libc::MFD_CLOEXEC))?)) }
    };
    if seals & F_SEAL_EXEC != 0
        && let Ok(file) = create(libc::MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)
    {
        return Ok(file);
    }
    create(if seals == F_SEAL_SEAL { 0 } else { libc::MFD_ALLOW_SEALING })
}

/// Seals a memfd as far as that is possible before it is mapped.
fn add_seals(file: &File, seals: i32) -> io::Result<()> {
    let now = seals & !late_seals(seals);
    // A file without ALLOW_SEALING is born with the one seal that forbids others.
    if now == 0 || seals == F_SEAL_SEAL {
        return Ok(());
    }
    // SAFETY: no memory is passed.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), F_ADD_SEALS, now) }).map(drop)
}

/// A file that had a name: under that name if it is free, else beside it, else in the temporary directory.
fn unlinked(path: &[u8]) -> io::Result<File> {
    let wanted = Path::new(OsStr::from_bytes(path));
    let elsewhere = std::env::temp_dir().join(wanted.file_name().unwrap_or(OsStr::new("unlinked")));
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for name in [wanted.to_owned(), open::free_name(wanted), open::free_name(&elsewhere)] {
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name) {
            Ok(file) => return fs::remove_file(&name).map(|()| file),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// A file that never had a name, with a master and the description that it was made by.
fn temporary_file(directory: &Path, flags: i32) -> io::Result<(File, Option<OwnedFd>)> {
    let kept = open::flags_for(flags);
    let make = |directory: &Path| open::raw(directory, kept | libc::O_TMPFILE, 0o600);
    let made = make(directory).or_else(|_| make(&std::env::temp_dir()))?;
    let master = open::raw(&path_of(&made), libc::O_RDWR | libc::O_CLOEXEC, 0)?;
    Ok((File::from(master), Some(made)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_unlinked_file_gets_its_own_name_back_or_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gone");
        let link = |f: &File| fs::read_link(path_of(f)).unwrap();
        let first = unlinked(path.as_os_str().as_bytes()).unwrap();
        assert_eq!(link(&first).to_str().unwrap(), format!("{} (deleted)", path.display()));
        assert_eq!(first.metadata().unwrap().nlink(), 0);
        fs::write(&path, "somebody else's").unwrap();
        let second = unlinked(path.as_os_str().as_bytes()).unwrap();
        assert_eq!(second.metadata().unwrap().nlink(), 0);
        assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
        assert!(unlinked(b"/no/such/directory/file").is_ok());
    }

    #[test]
    fn memfds_are_born_with_the_right_seals() {
        // SAFETY: no memory is passed.
        let seals = |f: &File| unsafe { libc::fcntl(f.as_raw_fd(), libc::F_GET_SEALS) };
        assert_eq!(seals(&memfd(b"x", F_SEAL_SEAL).unwrap()), F_SEAL_SEAL);
        assert_eq!(seals(&memfd(b"x", 0).unwrap()), 0);
    }

    #[test]
    fn a_temporary_file_shows_how_it_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let (_, made) = temporary_file(directory.path(), libc::O_TMPFILE | libc::O_RDWR | libc::O_APPEND).unwrap();
        // SAFETY: no memory is passed.
        let flags = unsafe { libc::fcntl(made.unwrap().as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_TMPFILE, libc::O_TMPFILE);
        assert_eq!(flags & (libc::O_ACCMODE | libc::O_APPEND), libc::O_RDWR | libc::O_APPEND);
    }
}
