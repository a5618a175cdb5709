//! Which libraries go into an application, and where they are.
//!
//! ```text
//!   installed:   PREFIX/bin/dmtcp_launch   PREFIX/lib/dmtcp/BUILD/libdmtcp*.so   PREFIX/lib/dmtcp/current -> BUILD
//!   build tree:  DIR/dmtcp_launch          DIR/libdmtcp*.so
//! ```
//! Several builds may be installed side by side, since a restored process keeps the libraries that are in its image; a
//! launch takes the current ones, by the path that names the build: what the program executes later gets the same.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The library that everything else plugs into.
const CORE: &str = "libdmtcp.so";
/// The link to the build that was installed last.
const CURRENT: &str = "current";

/// A plugin that comes with this program.
#[derive(Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// What flags call it.
    pub name: &'static str,
    /// Its file.
    pub file: &'static str,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// What the original calls it: `--disable-OLD-plugin` and `DMTCP_OLD_PLUGIN=0` switch it off.
    pub old: &'static [&'static str],
}

/// The plugins that come with this program, in the order in which they act before a checkpoint.
pub static BUILT_IN: [BuiltIn; 6] = [
    BuiltIn { name: "event", file: "libdmtcp_event.so", about: "eventfd and its kin", old: &["event"] },
    BuiltIn {
        name: "file",
        file: "libdmtcp_file.so",
        about: "files, directories, terminals that were inherited",
        old: &["file"],
    },
    BuiltIn { name: "ipc", file: "libdmtcp_ipc.so", about: "descriptors that are one, pipes", old: &["ipc"] },
    BuiltIn {
        name: "process",
        file: "libdmtcp_process.so",
        about: "working directory, limits, names",
        old: &["process_info"],
    },
    BuiltIn {
        name: "timer",
        file: "libdmtcp_timer.so",
        about: "POSIX timers, interval timers, alarm",
        old: &["timer"],
    },
    BuiltIn { name: "pid-virt", file: "libdmtcp_pid_virt.so", about: "ids of processes and threads", old: &["pid"] },
];

/// Plugins that come with this program and are loaded only if a flag asks for them, or a plugin of the user's may.
pub static OPTIONAL: [BuiltIn; 4] = [
    BuiltIn {
        name: "modify-env",
        file: "libdmtcp_modify_env.so",
        about: "--modify-env: variables from dmtcp_env.txt at restart",
        old: &[],
    },
    BuiltIn {
        name: "path-virt",
        file: "libdmtcp_path_virt.so",
        about: "--pathvirt: paths as DMTCP_PATH_MAPPING says",
        old: &["pathvirt"],
    },
    BuiltIn {
        name: "program-events",
        file: "libdmtcp_program_events.so",
        about: "what plugins are told of descriptors, threads and programs",
        old: &[],
    },
    BuiltIn {
        name: "unique-ckpt",
        file: "libdmtcp_unique_ckpt.so",
        about: "a directory for each checkpoint",
        old: &["unique_ckpt"],
    },
];

/// Why there are no libraries.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// They are neither installed nor beside the program.
    #[error("{CORE} is neither in {} nor beside {}; install DMTCP again", .installed.display(), .program.display())]
    Missing {
        /// Where an installed program looks.
        installed: PathBuf,
        /// The program.
        program: PathBuf,
    },
    /// The core is there and a plugin is not.
    #[error("the plugin {name} is missing: there is no {}; install DMTCP again, or use --disable-plugin {name}", .path.display())]
    Plugin {
        /// The plugin.
        name: &'static str,
        /// Its file.
        path: PathBuf,
    },
    /// The loader could not be told about a file of that name.
    #[error("{} cannot be preloaded: the loader takes spaces and colons in a path for separators", .0.display())]
    Separator(PathBuf),
}

/// The directory that a launch takes its libraries from.
pub struct Libraries(PathBuf);

impl Libraries {
    /// Finds them from the program's own path.
    pub fn find(program: &Path) -> Result<Self, LibraryError> {
        let beside = program.parent().unwrap_or(Path::new("/"));
        let installed = beside.parent().unwrap_or(Path::new("/")).join("lib/dmtcp");
        if let Ok(build) = installed.join(CURRENT).canonicalize()
            && build.join(CORE).exists()
        {
            return Ok(Self(build));
        }
        if beside.join(CORE).exists() {
            return Ok(Self(beside.to_path_buf()));
        }
        Err(LibraryError::Missing { installed, program: program.into() })
    }

    /// The core.
    pub fn core(&self) -> PathBuf {
        self.0.join(CORE)
    }

    /// A file among them, which may not be there.
    pub fn file(&self, name: &OsStr) -> PathBuf {
        self.0.join(name)
    }

    /// A plugin's file, which is known to exist.
    pub fn plugin(&self, plugin: &'static BuiltIn) -> Result<PathBuf, LibraryError> {
        let path = self.0.join(plugin.file);
        if path.exists() { Ok(path) } else { Err(LibraryError::Plugin { name: plugin.name, path }) }
    }
}

/// Refuses a path that would fall apart in `LD_PRELOAD`.
pub fn check_separators(path: &Path) -> Result<(), LibraryError> {
    let apart = path.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b':' | b' '));
    if apart { Err(LibraryError::Separator(path.into())) } else { Ok(()) }
}
