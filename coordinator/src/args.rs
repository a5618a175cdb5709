//! The command line.

use crate::journal::Format;
use clap::{ArgAction, Parser};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Leads the processes of a computation through checkpoint and restart.
///
/// Reads commands from stdin; type h for a list.
#[derive(Parser, Debug)]
#[command(
    name = "dmtcp_coordinator",
    version,
    disable_help_flag = true,
    after_help = "Exit status: 0; 1: ended by --timeout or --stale-timeout; 99, or what DMTCP_FAIL_RC says: it did not start."
)]
pub struct Args {
    /// Port to listen on; 0: any free one [env: DMTCP_COORD_PORT] [default: 7779]
    #[arg(short = 'p', long = "coord-port", visible_alias = "port", value_name = "PORT")]
    pub port: Option<u16>,
    /// The same
    #[arg(value_name = "PORT", conflicts_with = "port")]
    pub positional_port: Option<u16>,
    /// Write the port to this file
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Write when the coordinator starts and ends, its host and its port to this file
    #[arg(long, value_name = "FILE")]
    pub status_file: Option<PathBuf>,
    /// Keep numbers for a monitor in this file, in Prometheus' text format
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Where the restart script goes [default: the current directory]
    #[arg(short = 'c', long, value_name = "DIR", env = "DMTCP_CHECKPOINT_DIR", hide_env_values = true)]
    pub ckptdir: Option<PathBuf>,
    /// Scratch directory [env: DMTCP_TMPDIR, TMPDIR] [default: /tmp]
    #[arg(short = 't', long, value_name = "DIR")]
    pub tmpdir: Option<PathBuf>,
    /// Write the values that processes shared to dmtcp_coordinator_db-*.json in the checkpoint directory when the last of
    /// them leaves [env: DMTCP_COORD_WRITE_KV_DATA]
    #[arg(long, env = "DMTCP_COORD_WRITE_KV_DATA", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub write_kv_data: bool,
    /// End when the last process has left
    #[arg(long)]
    pub exit_on_last: bool,
    /// Every checkpoint ends the processes
    #[arg(long, alias = "exit-after-ckpt")]
    pub kill_after_ckpt: bool,
    /// End all processes and the coordinator after so many seconds, with exit code 1
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// End, with exit code 1, after so many seconds without any client; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 8 * 60 * 60)]
    pub stale_timeout: u64,
    /// Keep so many complete generations of images, or more if a launch asked for more
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: u32,
    /// Give a checkpoint or restart up when nothing is heard of a process for so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub barrier_timeout: Option<u64>,
    /// Go to the background
    #[arg(long)]
    pub daemon: bool,
    /// Checkpoint every SECONDS by itself; 0: never
    #[arg(
        short = 'i',
        long,
        value_name = "SECONDS",
        env = "DMTCP_CHECKPOINT_INTERVAL",
        hide_env_values = true,
        default_value_t = 0
    )]
    pub interval: u32,
    /// Log of a coordinator in the background [default: none]
    #[arg(long, value_name = "FILE", env = "DMTCP_COORD_LOG_FILENAME", hide_env_values = true)]
    pub coord_logfile: Option<PathBuf>,
    /// What the lines of the log are
    #[arg(long, value_enum, default_value = "text", env = "DMTCP_COORD_LOG_FORMAT", hide_env_values = true)]
    pub log_format: Format,
    /// Say less; twice: no warnings either
    #[arg(short = 'q', long, action = ArgAction::Count)]
    pub quiet: u8,
    /// Serve on this descriptor, which listens already
    #[arg(long, value_name = "FD", hide = true)]
    pub listen_fd: Option<RawFd>,
    /// Started for a program that joins soon: end when nobody is connected and none has joined
    #[arg(long, hide = true)]
    pub for_program: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
}
