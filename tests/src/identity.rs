//! Who runs a case: root, or an ordinary user with no capability at all.
//!
//! The two take different paths through a restart (ids restored by privilege, or in a user and pid namespace), so
//! the matrix is a parameter of every case and not a copy of it.

use crate::need::is_forbidden;
use anyhow::Result;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The user and group that ordinary-user cases run as when the tests themselves run as root.
const NOBODY: u32 = 65534;

/// Who runs the programs of a case, and the tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// The superuser.
    Root,
    /// An ordinary user: nobody when the tests run as root, else whoever runs the tests.
    User,
}

impl RunAs {
    /// Both, in the order in which they are tried.
    pub const ALL: [RunAs; 2] = [RunAs::Root, RunAs::User];

    /// The word for names of cases and directories.
    pub fn name(self) -> &'static str {
        match self {
            RunAs::Root => "root",
            RunAs::User => "user",
        }
    }

    /// Why this cannot be done by whoever runs the tests, if it cannot.
    pub fn obstacle(self) -> Option<&'static str> {
        (self == RunAs::Root && !nix::unistd::geteuid().is_root())
            .then_some("runs its programs as root; the tests were started by an ordinary user")
    }

    /// Whether every restart translates ids, since this run does without the features of the kernel that bring them back.
    pub fn always_translates(self) -> bool {
        is_forbidden("clone3_set_tid") || (self == RunAs::User && is_forbidden("pid_namespace"))
    }

    /// The user to change to, if it is another one than the tests run as.
    pub fn user_id(self) -> Option<u32> {
        (self == RunAs::User && nix::unistd::geteuid().is_root()).then_some(NOBODY)
    }

    /// Let `command` run as this user.
    pub fn apply(self, command: &mut Command) {
        if let Some(user) = self.user_id() {
            command.uid(user).gid(user);
        }
    }

    /// Give a file or directory to this user.
    pub fn own(self, path: &Path) -> Result<()> {
        if let Some(user) = self.user_id() {
            std::os::unix::fs::lchown(path, Some(user), Some(user))?;
        }
        Ok(())
    }
}
