//! The key file: where it is, reading it, creating it.
//!
//! ```text
//!   $DMTCP_COORD_KEY_FILE, else $HOME/.dmtcp/key (home is ours), else SCRATCH/key
//! ```
//! A file that others could have read or written is refused: whoever has the key can kill the computation, and whoever
//! chose it can listen in. Creation is atomic: of two programs that start at the same time, both use the same key.

use crate::scratch::{self, ScratchError};
use dmtcp_protocol::auth::{KEY_BYTES, Key};
use dmtcp_protocol::env;
use nix::unistd::Uid;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}: {error}", .path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The file cannot be created.
    #[error("cannot create the key file {}: {error}; name another place with DMTCP_COORD_KEY_FILE", .path.display())]
    Create {
        /// The key file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Somebody else could have read it.
    #[error("the key file {} can be read by others; chmod 600 it, or remove it to get a new key", .0.display())]
    Open(PathBuf),
    /// Somebody else made it.
    #[error("the key file {} belongs to uid {owner}, not to you; remove it to get a new key", .path.display())]
    Foreign {
        /// The key file.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
    },
    /// It holds something else.
    #[error("{} does not hold a key ({} hexadecimal digits); remove it to get a new key", .0.display(), KEY_BYTES * 2)]
    NotAKey(PathBuf),
    /// The kernel has no random bytes to give.
    #[error("the kernel gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// Neither the home directory nor the scratch directory can be used.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
}

/// A key together with the file that it stands in.
#[derive(Clone)]
pub struct KeyFile {
    /// The file; absolute.
    pub path: PathBuf,
    /// What it holds.
    pub key: Key,
}

/// Reads the user's key; creates it if there is none. `tmpdir` is the flag of that name.
pub fn load_or_create(tmpdir: Option<&Path>) -> Result<KeyFile, KeyError> {
    if let Some(named) = std::env::var_os(env::COORD_KEY_FILE).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(named);
        let path = std::path::absolute(&path).unwrap_or(path);
        // Who names a file answers for its owner: inside a user namespace owners look different.
        return open_or_create(path, None);
    }
    let own = Uid::effective().as_raw();
    if let Some(directory) = home_directory(own) {
        return open_or_create(directory.join("key"), Some(own));
    }
    open_or_create(scratch::ensure(tmpdir)?.join("key"), Some(own))
}

/// `$HOME/.dmtcp`, created if need be; `None` if the home directory is not ours to write in.
fn home_directory(own: u32) -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let directory = home.join(".dmtcp");
    if let Ok(meta) = std::fs::symlink_metadata(&directory) {
        return (meta.is_dir() && meta.uid() == own && meta.mode() & 0o022 == 0).then_some(directory);
    }
    // A program run by sudo with the user's HOME must not leave a directory of root's there.
    if !home.is_absolute() || std::fs::metadata(&home).ok()?.uid() != own {
        return None;
    }
    match DirBuilder::new().mode(0o700).create(&directory) {
        Ok(()) => Some(directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Some(directory),
        Err(_) => None,
    }
}

fn open_or_create(path: PathBuf, owner: Option<u32>) -> Result<KeyFile, KeyError> {
    match read(&path, owner) {
        Err(KeyError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            create(&path)?;
            read(&path, owner)
        }
        result => result,
    }
}

fn read(path: &Path, owner: Option<u32>) -> Result<KeyFile, KeyError> {
    let failed = |error| KeyError::Read { path: path.into(), error };
    let mut file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if owner.is_some_and(|owner| owner != meta.uid()) {
        return Err(KeyError::Foreign { path: path.into(), owner: meta.uid() });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(KeyError::Open(path.into()));
    }
    let mut text = [0u8; 4 * KEY_BYTES];
    let length = file.read(&mut text).map_err(failed)?;
    let key = Key::parse(&text[..length]).ok_or_else(|| KeyError::NotAKey(path.into()))?;
    Ok(KeyFile { path: path.into(), key })
}

/// Puts a new key in place; somebody else's, if it came first, stays.
fn create(path: &Path) -> Result<(), KeyError> {
    let failed = |error| KeyError::Create { path: path.into(), error };
    let mut bytes = [0u8; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    let mut suffix = [0u8; 8];
    getrandom::fill(&mut suffix).map_err(KeyError::Random)?;
    let temporary = path.with_file_name(format!(".key.{:016x}", u64::from_le_bytes(suffix)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
    let placed = file.write_all(Key::new(bytes).to_text().as_bytes()).and_then(|()| {
        std::fs::hard_link(&temporary, path).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            // Some file systems know no hard links; they do know how to create exclusively.
            _ => OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .and_then(|mut file| file.write_all(Key::new(bytes).to_text().as_bytes()))
                .or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }),
        })
    });
    // It is only a name by now; a leftover does no harm.
    let _ = std::fs::remove_file(&temporary);
    placed.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn own() -> Option<u32> {
        Some(Uid::effective().as_raw())
    }

    #[test]
    fn all_who_come_at_once_get_the_same_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || open_or_create(path, own()).unwrap().key.to_text())
            })
            .collect();
        let keys: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), keys[0]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_key_that_others_could_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        open_or_create(path.clone(), own()).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open_or_create(path.clone(), own()), Err(KeyError::Open(_))));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(open_or_create(path, Some(own().unwrap() + 1)), Err(KeyError::Foreign { .. })));
    }

    #[test]
    fn something_else_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "xyz", "00", &"g".repeat(64), &"0".repeat(65)] {
            let path = directory.path().join("key");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(open_or_create(path, own()), Err(KeyError::NotAKey(_))), "{text}");
        }
    }
}
