//! The command line of dmtcp_restart.

use clap::{Parser, ValueEnum};
use dmtcp_launcher::flags::{Clock, CoordinatorFlags};
use dmtcp_protocol::env;
use std::path::PathBuf;

/// Where the processes get their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PidNamespace {
    /// A namespace of their own only if the ids are taken here, or may not be chosen here
    Auto,
    /// Always a namespace of their own
    Force,
    /// Never
    Never,
}

/// For which programs system calls past libc get translated ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InlineIds {
    /// For programs in whose code there are such calls with ids
    Auto,
    /// For all
    Always,
    /// For none
    Never,
}

impl InlineIds {
    /// As a restored process reads it in the environment that it is told.
    pub fn variable(self) -> Vec<u8> {
        let value = match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        };
        format!("{}={value}", env::INLINE_IDS).into_bytes()
    }
}

/// Restarts a computation from its checkpoint images.
#[derive(Parser, Debug)]
#[command(
    name = "dmtcp_restart",
    version,
    disable_help_flag = true,
    after_help = "Exit status: that of the program that was launched first; 99, or what DMTCP_FAIL_RC says, if the computation was not restarted."
)]
pub struct Options {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The coordinator.
    #[command(flatten)]
    pub coordinator: CoordinatorFlags,
    /// Directory for later checkpoints [env: DMTCP_CHECKPOINT_DIR] [default: where the image is]
    #[arg(short = 'c', long, value_name = "DIR")]
    pub ckptdir: Option<PathBuf>,
    /// Hosts to restart on, one a line; this program restarts on its own host only
    #[arg(long, value_name = "FILE")]
    pub hostfile: Option<PathBuf>,
    /// Restart every image in DIR
    #[arg(short = 'r', long, value_name = "DIR", conflicts_with = "images")]
    pub restartdir: Option<PathBuf>,
    /// Map memory from the image instead of reading it: starts at once, checks nothing, and needs the image for as
    /// long as the computation runs
    #[arg(long)]
    pub lazy: bool,
    /// Read and check the images completely, then exit
    #[arg(long)]
    pub verify: bool,
    /// Check whether the computation can be restarted here, then exit
    #[arg(long)]
    pub check: bool,
    /// Whether processes get a pid namespace of their own
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub pid_namespace: PidNamespace,
    /// When ids are translated: for which programs system calls that go past libc are trapped, so that they take and give the
    /// translated ids, too
    #[arg(long, value_enum, value_name = "WHEN", env = "DMTCP_INLINE_IDS", default_value = "auto")]
    pub inline_ids: InlineIds,
    /// Whether monotonic time counts the time between checkpoint and restart [default: as at the launch]
    #[arg(long, value_enum, value_name = "HOW")]
    pub clock: Option<Clock>,
    /// Restart images of another user, and on a processor with fewer features [env: DMTCP_DISABLE_STRICT_CHECKING]
    #[arg(long)]
    pub no_strict_checking: bool,
    /// Pause at a stage of the restart, 1 to 7, for a debugger
    #[arg(long, value_name = "STAGE", env = "DMTCP_RESTART_PAUSE", value_parser = clap::value_parser!(u32).range(1..=7))]
    pub debug_restart_pause: Option<u32>,
    /// Pause at that stage, 4 to 7, and start gdb on the first process there
    #[arg(long, value_name = "STAGE", hide = true, value_parser = clap::value_parser!(u32).range(1..=7))]
    pub gdb: Option<u32>,
    /// Images: names that end in .dmtcp (names that end in _files are skipped)
    #[arg(value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
}

impl Options {
    /// Whether doubts are errors.
    pub fn strict(&self) -> bool {
        !self.no_strict_checking && std::env::var_os("DMTCP_DISABLE_STRICT_CHECKING").is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn the_originals_spellings_parse() {
        let line = "dmtcp_restart -h node1 -p 7000 --join -i 60 -c /c -t /t -q --no-strict-checking a.dmtcp b.dmtcp";
        let options = Options::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(options.images.len(), 2);
        assert!(options.coordinator.join_coordinator && options.no_strict_checking);
        assert!(Options::try_parse_from(["dmtcp_restart", "--no-such-flag", "a.dmtcp"]).is_err());
    }
}
