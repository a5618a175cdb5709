//! The file of `--hostfile`: one host a line, `#` begins a comment, what follows a name on its line is its scheduler's.
//!
//! This program brings back processes on the host that it runs on. A file that names other hosts is refused by name: the
//! restart script is to be run on each of them, with `--coord-host` of the first.

use dmtcp_launcher::scratch;
use std::path::{Path, PathBuf};

/// Why a host file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum HostfileError {
    /// It cannot be read.
    #[error("cannot read the host file {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// It names nobody.
    #[error("the host file {} names no host", .0.display())]
    Empty(PathBuf),
    /// It names others.
    #[error(
        "the host file {} names {host}, which is not this host: processes are restarted on the host that dmtcp_restart runs \
         on; run it on each host, with the images that belong there and --coord-host of one coordinator",
        .path.display()
    )]
    Elsewhere {
        /// The file.
        path: PathBuf,
        /// The host.
        host: String,
    },
}

/// Checks that the file names this host only.
pub fn check(path: &Path) -> Result<(), HostfileError> {
    let text = std::fs::read_to_string(path).map_err(|error| HostfileError::Read { path: path.into(), error })?;
    let own = scratch::host_name();
    let mut hosts = hosts(&text).peekable();
    if hosts.peek().is_none() {
        return Err(HostfileError::Empty(path.into()));
    }
    match hosts.find(|host| !is_here(host, &own)) {
        Some(host) => Err(HostfileError::Elsewhere { path: path.into(), host: host.into() }),
        None => Ok(()),
    }
}

fn hosts(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split('#').next()?.split([' ', '\t', ':']).find(|word| !word.is_empty()))
}

fn is_here(host: &str, own: &str) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    host == "localhost" || host.starts_with("127.") || host == own || short(host) == short(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_stand_first_on_their_lines() {
        let text = "# all\nnode1 slots=4\n\n  node2:2 # the second\nnode3";
        assert_eq!(hosts(text).collect::<Vec<_>>(), ["node1", "node2", "node3"]);
    }

    #[test]
    fn this_host_has_several_names() {
        assert!(is_here("localhost", "n1.site") && is_here("n1", "n1.site") && is_here("n1.site", "n1"));
        assert!(!is_here("n2", "n1.site"));
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        assert!(matches!(check(&path), Err(HostfileError::Read { .. })));
        std::fs::write(&path, "# nobody\n").unwrap();
        assert!(matches!(check(&path), Err(HostfileError::Empty(_))));
        std::fs::write(&path, "localhost\nsome-other-host.invalid\n").unwrap();
        assert!(check(&path).unwrap_err().to_string().contains("some-other-host.invalid"));
        std::fs::write(&path, "localhost slots=2\n").unwrap();
        assert!(check(&path).is_ok());
    }
}
