//! Finding a coordinator, or starting one.
//!
//! ```text
//!   join:  connect + handshake, or fail
//!   any:   connect + handshake; nobody there and the host is this one -> start
//!   new:   start; the port is taken -> fail
//! ```
//! Whoever starts a coordinator opens the listening socket itself and hands it over: the port is known and serves from
//! that moment, so that nobody can take it in between and nothing has to be polled for.

use crate::client::{self, ClientError, Connection};
use crate::key::{self, KeyError, KeyFile};
use dmtcp_protocol::env;
use nix::fcntl::{FcntlArg, fcntl};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Host of the coordinator when none is named.
pub const DEFAULT_HOST: &str = "127.0.0.1";

/// Which coordinators will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// One that is there.
    Join,
    /// A new one.
    New,
    /// One that is there, else a new one.
    #[default]
    Any,
}

/// What a program wants of its coordinator.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Which will do.
    pub mode: Mode,
    /// Its host; `None`: [`DEFAULT_HOST`].
    pub host: Option<String>,
    /// Its port; `None`: [`env::DEFAULT_PORT`]; 0: any free one.
    pub port: Option<u16>,
    /// Where to write the port.
    pub port_file: Option<PathBuf>,
    /// Seconds between checkpoints, for one that is started.
    pub interval: Option<u32>,
    /// Where the restart script goes, for one that is started; `None`: it decides by its environment and directory.
    pub checkpoint_dir: Option<PathBuf>,
    /// Its log, for one that is started.
    pub log_file: Option<PathBuf>,
    /// Whether what this is for joins it: one that is started then ends if that has ended before.
    pub is_joined: bool,
    /// The flag of that name: where the unix socket is, and the key if the home directory is not usable.
    pub tmpdir: Option<PathBuf>,
}

/// A coordinator that answers, or has just been started.
pub struct Found {
    /// Its host, as it was named.
    pub host: String,
    /// Its host's address: what is handed on to processes, which resolve no names.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The key that it holds.
    pub key: KeyFile,
    /// Whether it is new.
    pub started: bool,
    /// Where its unix socket is: [`Wanted::tmpdir`].
    tmpdir: Option<PathBuf>,
    /// The conversation that showed that it is there.
    connection: Option<Connection>,
}

impl Found {
    /// A conversation with it.
    pub fn connect(&mut self) -> Result<Connection, ClientError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => client::connect(&self.host, self.port, &self.key.key, self.tmpdir.as_deref()),
        }
    }

    /// Its unix socket, if it is of this host and could be reached by that.
    pub fn socket(&self) -> Option<&Path> {
        self.connection.as_ref()?.socket()
    }

    /// The conversation that showed that it is there, for the program that this process becomes: see
    /// [`Connection::hand_over`].
    pub fn hand_over(&mut self) -> Option<RawFd> {
        self.connection.take()?.hand_over()
    }
}

/// Why there is no coordinator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The one that should be joined cannot be.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `--join-coordinator` without a port that anybody could listen on.
    #[error("port 0 means any free port: there is nothing to join; name the coordinator's port with --coord-port")]
    JoinZero,
    /// One can only be started here.
    #[error("a coordinator can only be started on this host, and {0} is another; start dmtcp_coordinator there")]
    Remote(String),
    /// The port is taken.
    #[error("cannot listen on port {port}: {error}; choose another with --coord-port, 0 for any free one")]
    Listen {
        /// The port.
        port: u16,
        /// What the kernel said.
        error: io::Error,
    },
    /// The coordinator's program could not be run.
    #[error("cannot run {}: {error}", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The coordinator gave up at once; it has said why.
    #[error("{} did not start ({status})", .program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The port file cannot be written.
    #[error("cannot write the port file {}: {error}", .path.display())]
    PortFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Finds a coordinator or starts one, as `wanted` says.
pub fn find_or_start(wanted: &Wanted) -> Result<Found, StartError> {
    let key = key::load_or_create(wanted.tmpdir.as_deref())?;
    let host = wanted.host.clone().unwrap_or_else(|| DEFAULT_HOST.into());
    let port = wanted.port.unwrap_or(env::DEFAULT_PORT);
    if wanted.mode == Mode::Join && port == 0 {
        return Err(StartError::JoinZero);
    }
    let mut found = None;
    if wanted.mode != Mode::New && port != 0 {
        match client::connect(&host, port, &key.key, wanted.tmpdir.as_deref()) {
            Ok(connection) => found = Some(connection),
            Err(ClientError::NoAnswer { .. }) if wanted.mode == Mode::Any && is_local(&host)? => {}
            Err(error) => return Err(error.into()),
        }
    }
    let started = found.is_none();
    let (address, port, connection) = match found {
        Some(connection) => (connection.address(), port, Some(connection)),
        None => {
            let (address, port) = start(wanted, &host, port, &key)?;
            // It serves. Whoever needs a conversation that there is none of says why.
            (address, port, client::connect(&host, port, &key.key, wanted.tmpdir.as_deref()).ok())
        }
    };
    if let Some(path) = &wanted.port_file {
        write_port_file(path, port).map_err(|error| StartError::PortFile { path: path.clone(), error })?;
    }
    let tmpdir = wanted.tmpdir.clone();
    Ok(Found { host, address, port, key, started, tmpdir, connection })
}

/// Opens the socket that a coordinator listens on, at one address or (`None`) at all; the second value is the port.
pub fn listen(port: u16, address: Option<IpAddr>) -> Result<(TcpListener, u16), StartError> {
    let bind = |address: IpAddr| TcpListener::bind(SocketAddr::new(address, port));
    let listener = match address {
        Some(address) => bind(address),
        // One socket for both families, where the host knows IPv6.
        None => bind(Ipv6Addr::UNSPECIFIED.into()).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
            _ => bind(Ipv4Addr::UNSPECIFIED.into()),
        }),
    };
    let listener = listener.map_err(|error| StartError::Listen { port, error })?;
    let port = listener.local_addr().map_err(|error| StartError::Listen { port, error })?.port();
    Ok((listener, port))
}

/// Writes a port file so that a reader sees the whole number or no file.
pub fn write_port_file(path: &Path, port: u16) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(format!("{port}\n").as_bytes())?;
    std::fs::rename(&temporary, path)
}

/// Whether one of a host's addresses is ours.
fn is_local(host: &str) -> Result<bool, ClientError> {
    let addresses = client::addresses(host, 0)?;
    Ok(addresses.iter().any(|address| client::is_own(address.ip())))
}

/// Starts a coordinator that ends with its last process; the value is where it listens.
fn start(wanted: &Wanted, host: &str, port: u16, key: &KeyFile) -> Result<(IpAddr, u16), StartError> {
    if !is_local(host)? {
        return Err(StartError::Remote(host.into()));
    }
    // The address that the name stands for: a host's own name often means another loopback address than 127.0.0.1.
    let address = client::addresses(host, 0)?.first().map_or(Ipv4Addr::LOCALHOST.into(), SocketAddr::ip);
    let batch = ["SLURM_JOB_ID", "SLURM_JOBID", "PBS_JOBID"].iter().any(|name| std::env::var_os(name).is_some());
    let (listener, port) = listen(port, (address.is_loopback() && !batch).then_some(address))?;
    let program = std::env::current_exe()
        .map_err(|error| StartError::Run { program: "dmtcp_coordinator".into(), error })?
        .with_file_name("dmtcp_coordinator");
    let not_run = |error| StartError::Run { program: program.clone(), error };
    // Above the standard descriptors, which may be closed here and are redirected there.
    let handed_over = fcntl(&listener, FcntlArg::F_DUPFD(3)).map_err(|error| not_run(error.into()))?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    let handed_over = unsafe { OwnedFd::from_raw_fd(handed_over) };
    let mut command = Command::new(&program);
    command
        .args(["--daemon", "--exit-on-last", "--listen-fd", &handed_over.as_raw_fd().to_string()])
        // Whoever lists processes sees which coordinator is whose.
        .args(["--coord-port", &port.to_string()])
        .env(env::COORD_KEY_FILE, &key.path)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Some(directory) = &wanted.tmpdir {
        command.arg("--tmpdir").arg(directory);
    }
    if let Some(seconds) = wanted.interval {
        command.arg("--interval").arg(seconds.to_string());
    }
    if let Some(directory) = &wanted.checkpoint_dir {
        command.arg("--ckptdir").arg(directory);
    }
    if let Some(file) = &wanted.log_file {
        command.arg("--coord-logfile").arg(file);
    }
    if wanted.is_joined {
        command.arg("--for-program");
    }
    // A launch inside a computation must not put the coordinator under control too.
    match std::env::var_os(env::ORIG_LD_PRELOAD) {
        Some(original) if !original.as_bytes().is_empty() => command.env("LD_PRELOAD", original),
        Some(_) => command.env_remove("LD_PRELOAD"),
        None => &mut command,
    };
    let status = command.status().map_err(not_run)?;
    if status.success() { Ok((address, port)) } else { Err(StartError::Failed { program, status }) }
}
