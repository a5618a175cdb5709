//! What dmtcp_launch does: checks everything first, then finds the coordinator, then becomes the program.
//!
//! ```text
//!   LD_PRELOAD = core : plugins of the user : built-in plugins : C plugins of the user : the user's own LD_PRELOAD
//! ```

use crate::coordinator::{self, StartError};
use crate::exec::{self, Environment};
use crate::flags::{self, Clock};
use crate::key::{self, KeyFile};
use crate::launch_flags::{LaunchFlags, OnUnsupported};
use crate::libraries::{self, Libraries, LibraryError};
use crate::plugin_list;
use crate::plugins::{self, ChoiceError};
use crate::say;
use crate::scratch::{self, ScratchError};
use crate::target::{self, TargetError};
use dmtcp_image::codec::Method;
use dmtcp_protocol::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The program's name, for messages.
pub const PROGRAM: &str = "dmtcp_launch";

/// Why a program is not launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program will not do.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Our libraries are not there.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The plugins will not do.
    #[error(transparent)]
    Plugins(#[from] ChoiceError),
    /// No coordinator.
    #[error(transparent)]
    Coordinator(#[from] StartError),
    /// No scratch directory.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// A variable has a value that means nothing.
    #[error("{0}")]
    Variable(String),
    /// No directory for images.
    #[error("cannot use the checkpoint directory {}: {error}", .path.display())]
    CheckpointDir {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel does not tell where this program is.
    #[error("cannot find the own program: {0}")]
    OwnProgram(io::Error),
    /// The kernel does not run the program.
    #[error("cannot run {}: {error}", .path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Becomes the program; comes back only with an error.
pub fn launch(flags: &LaunchFlags) -> LaunchError {
    match prepare(flags) {
        Ok((path, environment)) => {
            let error = exec::become_program(&path, &flags.command, &environment);
            LaunchError::Run { path, error }
        }
        Err(error) => error,
    }
}

/// What `--list-plugins` prints.
pub fn list_plugins(flags: &LaunchFlags) -> Result<String, LaunchError> {
    let program = std::env::current_exe().map_err(LaunchError::OwnProgram)?;
    let mut all = plugins::choose(flags, &Libraries::find(&program)?)?;
    for candidate in &mut all {
        candidate.look().map_err(ChoiceError::from)?;
    }
    plugins::check_wrappers(flags, &mut all)?;
    Ok(if flags.json { plugin_list::json(&all) + "\n" } else { plugin_list::text(&all) })
}

fn prepare(flags: &LaunchFlags) -> Result<(PathBuf, Environment), LaunchError> {
    let quiet = flags.coordinator.quiet(PROGRAM);
    let compression = flags.compression().map_err(LaunchError::Variable)?;
    flags.check_variables().map_err(LaunchError::Variable)?;
    // clap demands a command.
    let name = flags.command.first().map(OsString::as_os_str).unwrap_or_default();
    let program = target::find(name)?;
    let stays_outside = target::examine(&program)?;
    if let (Some(warning), 0..=1) = (&stays_outside, quiet) {
        say::err(format_args!("{PROGRAM}: warning: {warning}"));
    }
    let own = std::env::current_exe().map_err(LaunchError::OwnProgram)?;
    let libraries = Libraries::find(&own)?;
    let preload = Preload::compose(flags, &libraries)?;
    let checkpoint_dir = checkpoint_directory(flags)?;
    let mut wanted = flags.coordinator.wanted(PROGRAM);
    wanted.checkpoint_dir = Some(checkpoint_dir.clone());
    // What stays outside may start others that do not.
    wanted.is_joined = stays_outside.is_none();
    let mut environment = Environment::inherited();
    environment.remove(env::COORD_CONNECTION);
    environment.remove(env::COORD_SOCKET);
    let coordinator = if flags.no_coordinator {
        let key = key::load_or_create(wanted.tmpdir.as_deref()).map_err(StartError::Key)?;
        (Ipv4Addr::LOCALHOST.into(), 0, key)
    } else {
        let mut found = coordinator::find_or_start(&wanted)?;
        if let Some(path) = found.socket() {
            environment.set(env::COORD_SOCKET, path);
        }
        // What stays outside would keep it open for ever.
        let handed_over = if stays_outside.is_none() { found.hand_over() } else { None };
        if let Some(number) = handed_over {
            environment.set(env::COORD_CONNECTION, number.to_string());
        }
        (found.address, found.port, found.key)
    };
    let (address, port, key): (IpAddr, u16, KeyFile) = coordinator;
    let scratch = scratch::ensure(flags.coordinator.tmpdir.as_deref())?;

    preload.put_into(&mut environment);
    environment.set(env::LAUNCHED, std::process::id().to_string());
    environment.set(env::COORD_HOST, address.to_string());
    environment.set(env::COORD_PORT, port.to_string());
    environment.set(env::COORD_KEY_FILE, &key.path);
    if port == 0 {
        environment.set(env::NO_COORDINATOR, "1");
        environment.set(env::RESTART_PROGRAM, own.with_file_name("dmtcp_restart"));
    } else {
        environment.remove(env::NO_COORDINATOR);
    }
    environment.set(env::CHECKPOINT_DIR, &checkpoint_dir);
    environment.set(env::TMPDIR, &scratch);
    environment.set(env::QUIET, quiet.to_string());
    match wanted.interval {
        Some(seconds) => environment.set(env::CHECKPOINT_INTERVAL, seconds.to_string()),
        None => environment.remove(env::CHECKPOINT_INTERVAL),
    }
    if let Some(number) = flags.keep {
        environment.set(env::KEEP, number.to_string());
    }
    if let Some(clock) = flags.clock {
        environment.set(env::CLOCK, if clock == Clock::Real { "real" } else { "continue" });
    }
    if let Some(number) = flags.ckpt_signal {
        environment.set(env::SIGCKPT, number.to_string());
    }
    if let Some(what) = flags.on_unsupported {
        environment.set(
            env::ON_UNSUPPORTED,
            match what {
                OnUnsupported::Warn => "warn",
                OnUnsupported::Fail => "fail",
            },
        );
    }
    add_to_list(&mut environment, env::DISABLE_WRAPPERS, &flags.disable_wrapper);
    if std::env::var_os("DMTCP_DISABLE_PAGEMAP_SCAN").is_some_and(|value| !value.is_empty() && value != "0") {
        add_to_list(&mut environment, env::FORBID, &["pagemap_scan".into()]);
    }
    // A launch inside a computation whose ids are translated finds its table there.
    if environment.get(env::IDS).is_none() {
        environment.set(env::IDS, env::NO_IDS);
    }
    environment.set(env::COMPRESS, compression.to_string());
    environment.set(env::GZIP, if compression == Method::None { "0" } else { "1" });
    for (given, name, value) in [
        (flags.forked, env::FORKED_CHECKPOINT, "1"),
        (flags.ckpt_open_files, env::CKPT_OPEN_FILES, "1"),
        (flags.allow_file_overwrite, env::ALLOW_OVERWRITE, "1"),
        (flags.refuse_io_uring, env::REFUSE_IO_URING, "1"),
    ] {
        if given {
            environment.set(name, value);
        }
    }
    if target::needs_address_sanitizer(&program) {
        // Its run time refuses to start behind any other library, unless it is told not to look. The core tells it so, too,
        // unless the program has default options of its own.
        let options = environment.get("ASAN_OPTIONS").unwrap_or_default().to_os_string();
        environment.set("ASAN_OPTIONS", join([Path::new(&options), Path::new("verify_asan_link_order=0")].into_iter()));
    }
    Ok((program, environment))
}

/// Adds words to a variable that holds words with commas between them.
fn add_to_list(environment: &mut Environment, name: &str, words: &[String]) {
    let old = environment.get(name).and_then(OsStr::to_str).unwrap_or_default().to_owned();
    let mut list: Vec<&str> = old.split(',').filter(|word| !word.is_empty()).collect();
    list.extend(words.iter().map(String::as_str).filter(|word| !old.split(',').any(|known| known == *word)));
    if !list.is_empty() {
        environment.set(name, list.join(","));
    }
}

/// Where images go: by flag, environment, or the current directory; absolute, and created if it is not there.
fn checkpoint_directory(flags: &LaunchFlags) -> Result<PathBuf, LaunchError> {
    let named = flags.ckptdir.clone().or_else(|| flags::text(&[env::CHECKPOINT_DIR]).map(PathBuf::from));
    let path = named.unwrap_or_else(|| PathBuf::from("."));
    path.canonicalize()
        .or_else(|_| std::fs::create_dir_all(&path).and_then(|()| path.canonicalize()))
        .map_err(|error| LaunchError::CheckpointDir { path, error })
}

/// What the loader is told to load first.
struct Preload {
    core: PathBuf,
    plugins: Vec<PathBuf>,
}

impl Preload {
    fn compose(flags: &LaunchFlags, libraries: &Libraries) -> Result<Self, LaunchError> {
        let mut all = plugins::choose(flags, libraries)?;
        plugins::check_wrappers(flags, &mut all)?;
        let plugins: Vec<PathBuf> = all.into_iter().filter(|plugin| plugin.is_on).map(|plugin| plugin.path).collect();
        let core = libraries.core();
        for path in plugins.iter().chain([&core]) {
            libraries::check_separators(path)?;
        }
        Ok(Self { core, plugins })
    }

    fn put_into(&self, environment: &mut Environment) {
        // A launch inside a computation finds ours in LD_PRELOAD, and the user's beside it.
        let of_user = environment
            .get(env::ORIG_LD_PRELOAD)
            .or_else(|| environment.get("LD_PRELOAD"))
            .unwrap_or_default()
            .to_os_string();
        let plugins = self.plugins.iter().map(PathBuf::as_path);
        let all = join([self.core.as_path()].into_iter().chain(plugins.clone()).chain([Path::new(&of_user)]));
        environment.set(env::PLUGIN_PATHS, join(plugins));
        environment.set(env::HIJACK_LIBS, &all);
        environment.set("LD_PRELOAD", all);
        environment.set(env::ORIG_LD_PRELOAD, of_user);
    }
}

/// Paths with colons between them; empty ones are left out.
fn join<'a>(paths: impl Iterator<Item = &'a Path>) -> OsString {
    let words: Vec<&[u8]> = paths.map(|path| path.as_os_str().as_bytes()).filter(|path| !path.is_empty()).collect();
    OsStr::from_bytes(&words.join(&b':')).to_os_string()
}
