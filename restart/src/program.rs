//! dmtcp_restart from the command line to the end: the order of all steps stands here.

use crate::checks::{self, Doubt};
use crate::clock;
use crate::descriptors;
use crate::family::{self, Ids};
use crate::forest::{self, Forest};
use crate::host::IdSource;
use crate::hostfile::{self, HostfileError};
use crate::images::{self, SelectError, Selection};
use crate::namespace::{self, NamespaceError};
use crate::options::{Options, PidNamespace};
use crate::origins::{self, Collision};
use crate::pause::Pause;
use crate::plugins::{PluginError, Plugins};
use crate::process::{Restoration, SpawnError};
use crate::progress::Progress;
use crate::terminal::Terminal;
use crate::translation::{PidRestore, Translation, TranslationError};
use crate::wait::{self, Ended, Roots, Waited};
use dmtcp_image::read::Image;
use dmtcp_launcher::client::{ANSWER, ClientError, Connection};
use dmtcp_launcher::coordinator::{self, StartError};
use dmtcp_launcher::scratch::{self, ScratchError};
use dmtcp_protocol::env;
use dmtcp_protocol::handoff::RestartInfo;
use dmtcp_protocol::message::{Command, Timings};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long there may be no news from the processes that come back.
const NEWS: Duration = Duration::from_secs(600);
const NAME: &str = "dmtcp_restart";

/// Why nothing is restarted.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The images do not make one computation.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The machine or the user is not right.
    #[error("{}", lines(.0))]
    Doubts(Vec<Doubt>),
    /// Restart halves miss something.
    #[error("{}", lines(.0))]
    Plugins(Vec<PluginError>),
    /// An image's memory is damaged.
    #[error("{path} {error}")]
    Damaged {
        /// The image.
        path: String,
        /// The rest of the sentence.
        error: dmtcp_image::read::Error,
    },
    /// No coordinator.
    #[error(transparent)]
    Coordinator(#[from] StartError),
    /// The coordinator does not agree.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No scratch directory.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(nix::Error),
    /// No process with its ids, and no namespace wanted.
    #[error(
        "{0}; stop what has them, allow a pid namespace with --pid-namespace auto, or translation (unset DMTCP_PID_RESTORE)"
    )]
    Ids(SpawnError),
    /// No process.
    #[error(transparent)]
    Spawn(SpawnError),
    /// No namespace.
    #[error(transparent)]
    Namespace(NamespaceError),
    /// No table for translated ids.
    #[error(transparent)]
    Translation(TranslationError),
    /// DMTCP_PID_RESTORE says something else.
    #[error("DMTCP_PID_RESTORE={0}: it may be same or translate")]
    PidRestore(String),
    /// Images of several hosts exclude each other.
    #[error(transparent)]
    Origins(Collision),
    /// The hosts that are asked for cannot be used.
    #[error(transparent)]
    Hostfile(#[from] HostfileError),
}

fn lines<E: std::fmt::Display>(errors: &[E]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(&format!("\n{NAME}: "))
}

impl Failure {
    /// Whether processes with other ids could still be made.
    fn is_about_ids(&self) -> bool {
        matches!(
            self,
            Self::Ids(_)
                | Self::Namespace(
                    NamespaceError::Refused(_) | NamespaceError::Map(_) | NamespaceError::Spawn(SpawnError::Ids(_))
                )
        )
    }

    /// Whether the process that failed has already told the user.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Spawn(SpawnError::Said) | Self::Namespace(NamespaceError::Spawn(SpawnError::Said)))
    }
}

/// Restarts; returns when the processes have ended, or, after `--check` and `--verify`, at once.
pub fn run(options: &Options) -> Result<Ended, Failure> {
    let begun = Instant::now();
    let quiet = options.coordinator.quiet(NAME);
    options.hostfile.as_deref().map(hostfile::check).transpose()?;
    let names = images::names(&options.images, options.restartdir.as_deref())?;
    let mut selection = images::select(&names, options.coordinator.join_coordinator)?;
    if quiet == 0 {
        for note in &selection.notes {
            eprintln!("{NAME}: {note}");
        }
    }
    if options.verify {
        verify(&selection.images)?;
        if !options.check {
            return Ok(Ended::Exited(0));
        }
    }
    let doubts = checks::doubts(&selection.images, options.strict());
    if !doubts.is_empty() {
        return Err(Failure::Doubts(doubts));
    }
    let images = std::mem::take(&mut selection.images);
    if options.lazy && quiet < 2 && images.iter().any(Image::is_compressed) {
        eprintln!("{NAME}: warning: --lazy: memory of a compressed image cannot be mapped from it, it is read now");
    }
    if options.lazy && !options.verify && quiet == 0 {
        eprintln!(
            "{NAME}: --lazy: header, tables, sizes and end of each image are right; memory is not compared with its checksums (--verify does that)"
        );
    }
    let plugins = Plugins::load(images, quiet).map_err(Failure::Plugins)?;
    let missing = plugins.check();
    if !missing.is_empty() {
        return Err(Failure::Plugins(missing));
    }
    if options.check {
        return Ok(Ended::Exited(0));
    }
    let pause = Pause::asked(options.debug_restart_pause, options.gdb);
    pause.at(1, libc::STDERR_FILENO);
    let (connection, mut info) = announce(options, &selection, &plugins, begun)?;
    // The first one of a name counts.
    info.environment.splice(0..0, pause.variable().into_iter().chain([options.inline_ids.variable()]));
    let descriptor_limit = descriptors::raise_limit();
    plugins.create().map_err(|error| Failure::Plugins(vec![error]))?;
    let signals = wait::hold_signals().map_err(Failure::Signals)?;
    // A debugger needs the terminal for itself.
    let terminal = if pause.attach { None } else { Terminal::controlling() };
    let mut restoration = Restoration {
        plugins: &plugins,
        index: 0,
        info,
        lazy: options.lazy,
        progress: Progress::new(memory(&plugins), quiet == 0 && io::stderr().is_terminal()),
        descriptor_limit,
        terminal: terminal.as_ref().and_then(Terminal::for_foreground).map(|t| plugins.descriptors().adopt(t)),
        shift: clock::shift(plugins.images().iter().map(|image| &image.identity), options.clock),
        drop_capabilities: false,
        pause,
        translation: None,
    };
    let (mut waited, table) = start(&mut restoration, options.pid_namespace, terminal.is_some())?;
    if let Some(pid) = waited.first() {
        pause.attach_to(pid);
    }
    plugins.descriptors().close_all_but(&[]);
    watch(connection, quiet);
    let ended = wait::until_end(&mut waited, &signals, terminal);
    drop(table);
    Ok(ended)
}

fn verify(images: &[Image]) -> Result<(), Failure> {
    for image in images {
        image.verify().map_err(|error| Failure::Damaged { path: image.path.display().to_string(), error })?;
    }
    Ok(())
}

/// Bytes of memory in all images.
fn memory(plugins: &Plugins) -> u64 {
    let extents = plugins.images().iter().flat_map(|image| &image.extents);
    extents.filter(|extent| extent.address != 0).map(|extent| extent.length).sum()
}

/// What the coordinator is told of the restart.
fn told(selection: &Selection, plugins: &Plugins, begun: Instant) -> Timings {
    let blocks = |image: &Image| std::fs::metadata(&image.path).map_or(0, |meta| meta.blocks() * 512);
    Timings {
        generation: selection.generation,
        processes: selection.processes,
        bytes: plugins.images().iter().map(blocks).sum(),
        stages: vec![("check".into(), begun.elapsed().as_micros() as u64)],
        ..Timings::default()
    }
}

/// Finds or starts the coordinator, and tells it what comes.
fn announce(
    options: &Options,
    selection: &Selection,
    plugins: &Plugins,
    begun: Instant,
) -> Result<(Connection, RestartInfo), Failure> {
    let told = told(selection, plugins, begun);
    let directory = checkpoint_directory(options, selection, &plugins.images()[0]);
    let mut wanted = options.coordinator.wanted(NAME);
    wanted.checkpoint_dir = options.ckptdir.clone().or_else(|| Some(selection.directory.clone()));
    wanted.is_joined = true;
    let mut found = coordinator::find_or_start(&wanted)?;
    let mut connection = found.connect()?;
    connection.announce_restart(selection.computation, &told)?;
    if let Some(seconds) = wanted.interval {
        connection.command(Command::Interval(seconds), ANSWER, |_, _| {})?;
    }
    let tmpdir = scratch::ensure(wanted.tmpdir.as_deref())?;
    // The key in its text form is what the key's own type gives out.
    let text = found.key.key.to_text();
    let digits: Vec<u32> = text.trim().chars().filter_map(|digit| digit.to_digit(16)).collect();
    let info = RestartInfo {
        coord_host: found.host.clone(),
        coord_port: found.port,
        key: digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect(),
        generation: selection.generation,
        checkpoint_dir: directory,
        tmpdir: tmpdir.to_string_lossy().into_owned(),
        environment: std::env::vars_os()
            .filter(|(name, _)| name != env::COORD_SOCKET)
            .chain(connection.socket().map(|path| (env::COORD_SOCKET.into(), path.into())))
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
            .collect(),
        ids: String::new(),
    };
    Ok((connection, info))
}

/// Where later images go: as asked, else where this one is, else (if that cannot be written to) as before.
fn checkpoint_directory(options: &Options, selection: &Selection, image: &Image) -> String {
    let asked = options.ckptdir.clone().or_else(|| {
        let value = std::env::var_os(env::CHECKPOINT_DIR).filter(|value| !value.is_empty())?;
        Some(std::ffi::OsString::from_vec(value.into_vec()).into())
    });
    if let Some(directory) = asked {
        return std::path::absolute(&directory).unwrap_or(directory).to_string_lossy().into_owned();
    }
    let here = &selection.directory;
    let writable = nix::unistd::access(here, nix::unistd::AccessFlags::W_OK).is_ok();
    if writable && here != Path::new(&image.identity.checkpoint_dir) {
        here.to_string_lossy().into_owned()
    } else {
        String::new()
    }
}

/// Makes the processes: with their ids here, else in a namespace, else with other ids that are translated; without wanted
/// ids, as ids come.
fn start(
    restoration: &mut Restoration<'_>,
    namespace: PidNamespace,
    has_terminal: bool,
) -> Result<(Waited, Option<Translation>), Failure> {
    let mut members = restoration.plugins.members();
    let ids: Option<Ids> = (0..members.len()).map(|index| restoration.plugins.wanted_ids(index)).collect();
    origins::separate(restoration.plugins.images(), &mut members, ids.as_ref()).map_err(Failure::Origins)?;
    if has_terminal {
        forest::share_terminal(&mut members);
    }
    let forest = forest::plan(&members);
    let only = PidRestore::of_environment().map_err(Failure::PidRestore)?;
    if only != Some(PidRestore::Translate) {
        restoration.plugins.set_id_source(if ids.is_some() { IdSource::Same } else { IdSource::Kernel });
        match start_with(restoration, &forest, ids.as_ref(), namespace) {
            Ok(waited) => {
                if let Some(object) = restoration.plugins.id_table() {
                    Translation::discard(restoration.plugins.descriptors(), object);
                }
                return Ok((waited, None));
            }
            Err(failure) if only.is_some() || !failure.is_about_ids() || namespace == PidNamespace::Force => {
                return Err(failure);
            }
            Err(_) => {}
        }
    }
    let table = match restoration.plugins.id_table() {
        Some(object) if ids.is_some() => {
            Some(Translation::begin(restoration.plugins.descriptors(), object).map_err(Failure::Translation)?)
        }
        _ => None,
    };
    restoration.drop_capabilities = false;
    restoration.translation = table.as_ref().map(Translation::table);
    restoration.plugins.set_id_source(restoration.translation.map_or(IdSource::Kernel, IdSource::Table));
    restoration.info.ids = restoration.translation.map(|table| table.name()).unwrap_or_default();
    let pids = family::make(restoration, &forest, None).map_err(Failure::Spawn)?;
    Ok((Waited::Processes(Roots::new(pids)), table))
}

/// Makes the processes with these ids, here or in a namespace.
fn start_with(
    restoration: &mut Restoration<'_>,
    forest: &Forest,
    ids: Option<&Ids>,
    namespace: PidNamespace,
) -> Result<Waited, Failure> {
    let in_namespace = |restoration: &mut Restoration<'_>| {
        namespace::start(restoration, forest, ids).map(Waited::Namespace).map_err(Failure::Namespace)
    };
    if namespace == PidNamespace::Force {
        return in_namespace(restoration);
    }
    match family::make(restoration, forest, ids) {
        Ok(pids) => Ok(Waited::Processes(Roots::new(pids))),
        Err(SpawnError::Ids(_)) if namespace == PidNamespace::Auto => in_namespace(restoration),
        Err(error @ SpawnError::Ids(_)) => Err(Failure::Ids(error)),
        Err(error) => Err(Failure::Spawn(error)),
    }
}

/// Follows what the coordinator says about the restart, beside the waiting.
fn watch(mut connection: Connection, quiet: u8) {
    std::thread::spawn(move || {
        if let Err(error) = connection.await_restarted(NEWS)
            && quiet < 2
        {
            eprintln!("{NAME}: warning: {error}");
        }
    });
}
