//! dmtcp_coordinator: leads the processes of a computation through checkpoint and restart.
//!
//! ```text
//!   server       sockets, console, signals, clock      (mio, one thread, nothing blocks but the disk)
//!     stream       TCP and unix sockets
//!     connection   one client: handshake, frames, buffers
//!     computation  who is there and what is under way   (pure state)
//!       commit       a generation on disk
//!       removal      older ones, in the background
//!         script       the restart script
//! ```

mod args;
mod commit;
mod computation;
mod connection;
mod console;
mod daemon;
mod journal;
mod metrics;
mod removal;
mod script;
mod server;
mod standstill;
mod status_file;
mod stream;
mod values;

use args::Args;
use computation::{Computation, Limits, Settings};
use dmtcp_launcher::{coordinator, failure, flags, key, local, scratch};
use dmtcp_protocol::env;
use journal::Journal;
use server::{Options, Server};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

const PROGRAM: &str = "dmtcp_coordinator";

fn main() {
    let args: Args = failure::parse_arguments(failure::code());
    match run(&args) {
        Ok(code) => std::process::exit(code),
        Err(error) => failure::fail(PROGRAM, format_args!("{error:#}")),
    }
}

fn run(args: &Args) -> anyhow::Result<i32> {
    use anyhow::Context;
    let key = key::load_or_create(args.tmpdir.as_deref())?;
    let (listener, port) = match args.listen_fd {
        Some(number) => {
            let listener = TcpListener::from(
                daemon::inherit(number).with_context(|| format!("cannot serve on descriptor {number}"))?,
            );
            let port = listener.local_addr().with_context(|| format!("descriptor {number} is no TCP socket"))?.port();
            (listener, port)
        }
        None => {
            let named = args.port.or(args.positional_port);
            let named = named.or_else(|| flags::number(PROGRAM, &[env::COORD_PORT, "DMTCP_PORT"]));
            coordinator::listen(named.unwrap_or(env::DEFAULT_PORT), None)?
        }
    };
    let named = args.ckptdir.clone().filter(|path| !path.as_os_str().is_empty());
    let directory = named.unwrap_or_else(|| PathBuf::from("."));
    let checkpoint_dir = std::fs::create_dir_all(&directory)
        .and_then(|()| directory.canonicalize())
        .with_context(|| format!("cannot use the checkpoint directory {}", directory.display()))?;
    let restart_program =
        std::env::current_exe().context("cannot find the own program")?.with_file_name("dmtcp_restart");
    let host = scratch::host_name();
    if let Some(path) = &args.port_file {
        coordinator::write_port_file(path, port)
            .with_context(|| format!("cannot write the port file {}", path.display()))?;
    }
    if args.daemon {
        daemon::detach(&listener, args.coord_logfile.as_deref()).context("cannot go to the background")?;
    }
    raise_descriptor_limit();
    if let Some(path) = &args.status_file {
        status_file::begin(path, &host, port)
            .with_context(|| format!("cannot write the status file {}", path.display()))?;
    }
    let journal = Journal::new(args.quiet, args.log_format);
    journal.note(
        "listening",
        serde_json::json!({"host": host, "port": port, "pid": std::process::id()}),
        format_args!("listening on port {port} of {host}; the key is in {}", key.path.display()),
    );
    let local = match local::Listener::beside(&listener, args.tmpdir.as_deref()) {
        Ok(local) => Some(local),
        Err(error) => {
            journal.note(
                "no_local_socket",
                serde_json::json!({"reason": error.to_string()}),
                format_args!("programs of this host come by TCP, for there is no unix socket: {error}"),
            );
            None
        }
    };
    let mut limits = Limits::default();
    if let Some(seconds) = args.barrier_timeout {
        let limit = Duration::from_secs(seconds);
        limits = Limits {
            suspend: limit,
            meet: limit,
            write: limit,
            sync: limit,
            restart: limit,
            rejoin: limit,
            orphaned_restart: limit,
            ..limits
        };
    }
    let settings = Settings {
        host,
        port,
        checkpoint_dir,
        restart_program,
        interval: args.interval,
        keep: args.keep,
        write_values: args.write_kv_data,
        kill_after_checkpoint: args.kill_after_ckpt,
        exit_on_last: args.exit_on_last,
        limits,
    };
    let options = Options {
        timeout: args.timeout.map(Duration::from_secs),
        stale: Some(args.stale_timeout).filter(|seconds| *seconds > 0).map(Duration::from_secs),
        // Started for one program that may never have come to life.
        unused: args.listen_fd.map(|_| Duration::from_secs(600)),
        forsaken: args.for_program.then_some(Duration::from_secs(10)),
        console: !args.daemon,
        metrics_file: args.metrics_file.as_deref().map(std::path::absolute).transpose()?,
    };
    let computation = Computation::new(settings, journal);
    let code = Server::new(listener, local, key.key, computation, journal, options)?.serve()?;
    if let Some(path) = &args.status_file {
        status_file::end(path, code).with_context(|| format!("cannot write the status file {}", path.display()))?;
    }
    Ok(code)
}

/// Each process is a connection, and each connection a descriptor.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // The old limit is good enough for most.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
