//! The scratch directory: `DIR/dmtcp-USER@HOST`, where DIR comes from the flag, `DMTCP_TMPDIR`, `TMPDIR` or is `/tmp`.
//!
//! It lies in a directory that others may write to, so it is only used if it is a real directory of our own that
//! nobody else can enter.

use dmtcp_protocol::env;
use nix::unistd::{Uid, User};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Why the scratch directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// It does not exist and cannot be created.
    #[error("cannot create the scratch directory {}: {error}; name another one with --tmpdir", .path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It is a link, belongs to somebody else, or others can write to it.
    #[error("{} is not a private directory of yours; remove it or name another place with --tmpdir", .0.display())]
    NotPrivate(PathBuf),
}

/// Name of this host.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into())
}

/// Where the scratch directory is, whether or not it exists; absolute.
pub fn place(flag: Option<&Path>) -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = flag
        .map(Path::to_path_buf)
        .or_else(|| named(env::TMPDIR))
        .or_else(|| named("TMPDIR"))
        .unwrap_or_else(|| PathBuf::from("/tmp"));
    let base = std::path::absolute(&base).unwrap_or(base);
    let own = format!("dmtcp-{}@{}", user_name(), host_name());
    // A launch inside a computation finds the complete path in the environment.
    if base.file_name().is_some_and(|name| name == own.as_str()) { base } else { base.join(own) }
}

/// The scratch directory, created if it is not there.
pub fn ensure(flag: Option<&Path>) -> Result<PathBuf, ScratchError> {
    let path = place(flag);
    match std::fs::DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let private = std::fs::symlink_metadata(&path)
                .is_ok_and(|meta| meta.is_dir() && meta.uid() == Uid::effective().as_raw() && meta.mode() & 0o022 == 0);
            if private { Ok(path) } else { Err(ScratchError::NotPrivate(path)) }
        }
        Err(error) => Err(ScratchError::Create { path, error }),
    }
}

/// The user's name; not what the environment says, which differs between a login and a cron job.
fn user_name() -> String {
    let uid = Uid::effective();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}
