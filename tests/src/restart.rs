//! The ways in which a test restarts a checkpoint.

/// How the images are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Named {
    #[default]
    Each,
    Backwards,
    Pattern,
    Directory,
    Script,
}

/// How to restart.
#[derive(Clone, Debug, Default)]
pub struct Restart {
    pub(crate) named: Named,
    pub(crate) moved: bool,
    pub(crate) same_coordinator: bool,
    pub(crate) options: Vec<String>,
    pub(crate) ids: Option<String>,
    pub(crate) under: Vec<String>,
}

impl Restart {
    /// `dmtcp_restart` with the images of the last checkpoint, from another directory.
    pub fn images() -> Restart {
        Restart::default()
    }

    /// The `dmtcp_restart_script.sh` of the last checkpoint.
    pub fn script() -> Restart {
        Restart { named: Named::Script, ..Restart::default() }
    }

    /// As [`Restart::images`], with the last image first.
    pub fn backwards() -> Restart {
        Restart { named: Named::Backwards, ..Restart::default() }
    }

    /// `dmtcp_restart` with a pattern that a shell expands to the images.
    pub fn pattern() -> Restart {
        Restart { named: Named::Pattern, ..Restart::default() }
    }

    /// `dmtcp_restart --restartdir`.
    pub fn directory() -> Restart {
        Restart { named: Named::Directory, ..Restart::default() }
    }

    /// Move the directory of the images before the restart.
    pub fn moved(mut self) -> Restart {
        self.moved = true;
        self
    }

    /// Join the coordinator that is still there.
    pub fn same_coordinator(mut self) -> Restart {
        self.same_coordinator = true;
        self
    }

    /// Give the processes ids in this way: `same` or `translate`.
    pub fn ids(mut self, way: &str) -> Restart {
        self.ids = Some(way.into());
        self
    }

    /// Let this command execute it: its words come before those of the restart.
    pub fn under(mut self, command: &[&str]) -> Restart {
        self.under.extend(command.iter().map(|x| x.to_string()));
        self
    }

    /// Further options of `dmtcp_restart`.
    pub fn options(mut self, options: &[&str]) -> Restart {
        self.options.extend(options.iter().map(|x| x.to_string()));
        self
    }
}
