//! The flags that dmtcp_launch and dmtcp_restart share: which coordinator, and what it is told if it has to be started.

use crate::coordinator::{Mode, Wanted};
use crate::failure;
use dmtcp_protocol::env;
use std::path::PathBuf;

/// What monotonic time does across a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Clock {
    /// It goes on from where it was
    Continue,
    /// It counts the time between checkpoint and restart
    Real,
}

/// Which coordinator; made for `#[command(flatten)]`. `-h` is the host: the command needs `disable_help_flag` and a
/// `--help` of its own.
#[derive(clap::Args, Debug, Default, Clone)]
pub struct CoordinatorFlags {
    /// Host that the coordinator runs on [env: DMTCP_COORD_HOST] [default: 127.0.0.1]
    #[arg(short = 'h', long, visible_alias = "host", value_name = "HOST")]
    pub coord_host: Option<String>,
    /// Port of the coordinator; 0: any free one [env: DMTCP_COORD_PORT] [default: 7779]
    #[arg(short = 'p', long, visible_alias = "port", value_name = "PORT")]
    pub coord_port: Option<u16>,
    /// Write the coordinator's port to this file
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Join a coordinator that is there; fail if there is none
    #[arg(short = 'j', long, visible_alias = "join", overrides_with_all = ["new_coordinator", "any_coordinator"])]
    pub join_coordinator: bool,
    /// Start a new coordinator
    #[arg(long, overrides_with_all = ["join_coordinator", "any_coordinator"])]
    pub new_coordinator: bool,
    /// Join the coordinator that is there, or start one (this is the default)
    #[arg(long, overrides_with_all = ["join_coordinator", "new_coordinator"])]
    pub any_coordinator: bool,
    /// Checkpoint every SECONDS by itself; 0: never [env: DMTCP_CHECKPOINT_INTERVAL]
    #[arg(short = 'i', long, value_name = "SECONDS")]
    pub interval: Option<u32>,
    /// Log file for a coordinator that is started [env: DMTCP_COORD_LOG_FILENAME]
    #[arg(long, value_name = "FILE")]
    pub coord_logfile: Option<PathBuf>,
    /// Scratch directory [env: DMTCP_TMPDIR, TMPDIR] [default: /tmp]
    #[arg(short = 't', long, value_name = "DIR")]
    pub tmpdir: Option<PathBuf>,
    /// Say less; twice: no warnings either [env: DMTCP_QUIET]
    #[arg(short = 'q', long, action = clap::ArgAction::Count)]
    pub quiet: u8,
}

impl CoordinatorFlags {
    /// What the flags and the environment ask for together. A variable that does not hold a number ends the program.
    pub fn wanted(&self, program: &str) -> Wanted {
        let mode = match (self.join_coordinator, self.new_coordinator) {
            (true, _) => Mode::Join,
            (_, true) => Mode::New,
            _ => Mode::Any,
        };
        Wanted {
            mode,
            host: self.coord_host.clone().or_else(|| text(&[env::COORD_HOST, "DMTCP_HOST"])),
            port: self.coord_port.or_else(|| number(program, &[env::COORD_PORT, "DMTCP_PORT"])),
            port_file: self.port_file.clone(),
            interval: self.interval(program),
            log_file: self.coord_logfile.clone().or_else(|| text(&["DMTCP_COORD_LOG_FILENAME"]).map(PathBuf::from)),
            tmpdir: self.tmpdir.clone(),
            ..Wanted::default()
        }
    }

    /// The interval that is asked for, by flag or environment.
    pub fn interval(&self, program: &str) -> Option<u32> {
        self.interval.or_else(|| number(program, &[env::CHECKPOINT_INTERVAL]))
    }

    /// How quiet to be, by flag or environment.
    pub fn quiet(&self, program: &str) -> u8 {
        self.quiet.max(number(program, &[env::QUIET]).unwrap_or(0))
    }
}

/// The first of these variables that is set and not empty.
pub fn text(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// The first of these variables that is set, as a number. Anything else in it ends the program.
pub fn number<N: std::str::FromStr>(program: &str, names: &[&str]) -> Option<N> {
    let (name, value) = names
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| (name, value)))?;
    match value.trim().parse() {
        Ok(number) => Some(number),
        Err(_) => failure::fail(program, format_args!("{name} is '{value}', which is not a number that fits here")),
    }
}
