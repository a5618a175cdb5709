//! The command line of dmtcp_launch.

use crate::flags::{self, CoordinatorFlags};
use crate::libraries::BUILT_IN;
use clap::{ArgAction, Args, Parser, ValueEnum};
use dmtcp_image::codec::Method;
use dmtcp_protocol::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// What a checkpoint does when it meets something that no plugin can save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnUnsupported {
    /// Say so and go on.
    Warn,
    /// Fail.
    Fail,
}

/// Runs a program so that it can be checkpointed.
#[derive(Parser, Debug)]
#[command(
    name = "dmtcp_launch",
    version,
    disable_help_flag = true,
    override_usage = "dmtcp_launch [OPTIONS] [--] PROGRAM [ARGUMENT]..."
)]
pub struct LaunchFlags {
    /// Which coordinator.
    #[command(flatten)]
    pub coordinator: CoordinatorFlags,
    /// Directory for images [env: DMTCP_CHECKPOINT_DIR] [default: the current directory]
    #[arg(short = 'c', long, value_name = "DIR")]
    pub ckptdir: Option<PathBuf>,
    /// Compress images as gzip does [env: DMTCP_GZIP=1]
    #[arg(long, overrides_with_all = ["no_gzip", "compress"])]
    pub gzip: bool,
    /// Do not compress images (this is the default) [env: DMTCP_GZIP=0]
    #[arg(long, overrides_with_all = ["gzip", "compress"])]
    pub no_gzip: bool,
    /// Compress images: gzip[:1-9], zstd[:1-19], lz4 or none [env: DMTCP_COMPRESS]
    #[arg(long, value_name = "METHOD", overrides_with_all = ["gzip", "no_gzip"], value_parser = Method::parse)]
    pub compress: Option<Method>,
    /// Do without a coordinator: the program takes its checkpoints itself, by dmtcp_checkpoint() or --interval
    #[arg(long, conflicts_with_all = ["join_coordinator", "new_coordinator", "any_coordinator", "coord_host", "coord_port"])]
    pub no_coordinator: bool,
    /// Keep so many complete generations of images [env: DMTCP_KEEP] [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    /// Write images in the background: the program goes on at once [env: DMTCP_FORKED_CHECKPOINT=1]
    #[arg(long)]
    pub forked: bool,
    /// Save the contents of open regular files too
    #[arg(long, visible_alias = "checkpoint-open-files")]
    pub ckpt_open_files: bool,
    /// Files that were saved may replace files that are there
    #[arg(long)]
    pub allow_file_overwrite: bool,
    /// Signal that stops threads [env: DMTCP_SIGCKPT] [default: 62]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub ckpt_signal: Option<u8>,
    /// Load these plugins, separated by colons
    #[arg(long, value_name = "FILE[:FILE...]")]
    pub with_plugin: Vec<String>,
    /// Do without this plugin; --list-plugins shows the names
    #[arg(long, value_name = "NAME", value_parser = built_in_names())]
    pub disable_plugin: Vec<String>,
    /// Do without any plugin: memory and threads only
    #[arg(long, visible_alias = "no-plugins")]
    pub disable_all_plugins: bool,
    /// Change environment variables at restart as dmtcp_env.txt in the checkpoint directory says
    #[arg(long)]
    pub modify_env: bool,
    /// Translate paths as DMTCP_PATH_MAPPING=OLD:NEW[;OLD:NEW...] says, here and at restart; setting it is enough
    #[arg(long)]
    pub pathvirt: bool,
    /// Keep every checkpoint, each in a directory of its own [env: DMTCP_UNIQUE_CKPT_PLUGIN]
    #[arg(long, overrides_with = "disable_unique_checkpoint_filenames")]
    pub enable_unique_checkpoint_filenames: bool,
    /// A checkpoint replaces the one before (this is the default)
    #[arg(long, overrides_with = "enable_unique_checkpoint_filenames")]
    pub disable_unique_checkpoint_filenames: bool,
    /// Show the plugins that come with this program
    #[arg(long)]
    pub list_plugins: bool,
    /// What a checkpoint does about something that no plugin can save
    #[arg(long, value_name = "WHAT")]
    pub on_unsupported: Option<OnUnsupported>,
    /// The original's names for plugins.
    #[command(flatten)]
    pub old: OldPluginFlags,
    /// Print help
    #[arg(long, action = ArgAction::HelpLong)]
    pub help: Option<bool>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required_unless_present = "list_plugins", value_name = "PROGRAM [ARGUMENT]...")]
    pub command: Vec<OsString>,
}

/// How the original switches single plugins off. Those that have no counterpart have nothing to switch off.
#[derive(Args, Debug)]
pub struct OldPluginFlags {
    /// No counterpart: there is nothing to switch off.
    #[arg(long, hide = true)]
    disable_alloc_plugin: bool,
    /// No counterpart.
    #[arg(long, hide = true)]
    disable_dl_plugin: bool,
    /// No counterpart yet.
    #[arg(long, hide = true)]
    disable_ssh_plugin: bool,
    /// event.
    #[arg(long, hide = true)]
    disable_event_plugin: bool,
    /// file.
    #[arg(long, hide = true)]
    disable_file_plugin: bool,
    /// No counterpart yet.
    #[arg(long, hide = true)]
    disable_pty_plugin: bool,
    /// No counterpart yet.
    #[arg(long, hide = true)]
    disable_socket_plugin: bool,
    /// A part of ipc that does not exist yet.
    #[arg(long, hide = true)]
    disable_svipc_plugin: bool,
    /// timer.
    #[arg(long, hide = true)]
    disable_timer_plugin: bool,
    /// pid-virt.
    #[arg(long, hide = true)]
    disable_pid_plugin: bool,
    /// event, file and ipc.
    #[arg(long, hide = true)]
    disable_ipc_plugin: bool,
}

impl LaunchFlags {
    /// How images are to be compressed, by flag or environment; the error is a sentence.
    pub fn compression(&self) -> Result<Method, String> {
        let by_flag = match (self.gzip, self.no_gzip) {
            (true, _) => Method::parse("gzip").ok(),
            (_, true) => Some(Method::None),
            _ => self.compress,
        };
        let by_name = || {
            let text = flags::text(&[env::COMPRESS])?;
            Some(Method::parse(&text).map_err(|error| format!("{}: {error}", env::COMPRESS)))
        };
        let old = || match flags::text(&[env::GZIP]).as_deref() {
            Some("1") => Method::parse("gzip"),
            _ => Ok(Method::None),
        };
        by_flag.map(Ok).or_else(by_name).unwrap_or_else(old)
    }

    /// Whether a plugin that comes with this program is switched off, by flag or environment.
    pub fn is_disabled(&self, name: &str) -> bool {
        let off = |variable: &str| std::env::var_os(variable).is_some_and(|value| value == "0");
        let old = match name {
            "event" => self.old.disable_event_plugin || self.old.disable_ipc_plugin || off("DMTCP_EVENT_PLUGIN"),
            "file" => self.old.disable_file_plugin || self.old.disable_ipc_plugin || off("DMTCP_FILE_PLUGIN"),
            "ipc" => self.old.disable_ipc_plugin,
            "timer" => self.old.disable_timer_plugin || off("DMTCP_TIMER_PLUGIN"),
            "pid-virt" => self.old.disable_pid_plugin || off("DMTCP_PID_PLUGIN"),
            _ => false,
        };
        old || self.disable_all() || self.disable_plugin.iter().any(|disabled| disabled == name)
    }

    /// Whether a plugin that is loaded only on demand is asked for.
    pub fn is_enabled(&self, name: &str) -> bool {
        match name {
            "modify-env" => self.modify_env,
            "path-virt" => self.pathvirt || flags::text(&["DMTCP_PATH_MAPPING"]).is_some(),
            "unique-ckpt" if self.disable_unique_checkpoint_filenames => false,
            "unique-ckpt" => {
                self.enable_unique_checkpoint_filenames
                    || flags::text(&["DMTCP_UNIQUE_CKPT_PLUGIN"]).is_some_and(|value| value == "1")
            }
            _ => false,
        }
    }

    /// Whether there are to be no plugins at all.
    pub fn disable_all(&self) -> bool {
        self.disable_all_plugins || std::env::var_os("DMTCP_DISABLE_ALL_PLUGINS").is_some_and(|value| value == "1")
    }
}

fn built_in_names() -> clap::builder::PossibleValuesParser {
    BUILT_IN.iter().map(|plugin| plugin.name).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Result<LaunchFlags, clap::Error> {
        LaunchFlags::try_parse_from(line.split(' '))
    }

    #[test]
    fn options_behind_the_program_are_its_own() {
        let read = flags("dmtcp_launch -p7 -q -q prog -p 8 --help -- x").unwrap();
        assert_eq!(read.coordinator.coord_port, Some(7));
        assert_eq!(read.coordinator.quiet, 2);
        assert_eq!(read.command, ["prog", "-p", "8", "--help", "--", "x"]);
    }

    #[test]
    fn two_dashes_end_the_options() {
        assert_eq!(flags("dmtcp_launch -j -- -odd -j").unwrap().command, ["-odd", "-j"]);
    }

    #[test]
    fn old_names_mean_our_plugins() {
        let read = flags("dmtcp_launch --disable-ipc-plugin --disable-pid-plugin prog").unwrap();
        let off: Vec<bool> = BUILT_IN.iter().map(|plugin| read.is_disabled(plugin.name)).collect();
        assert_eq!(off, [true, true, true, false, false, true]);
    }

    #[test]
    fn the_last_word_on_compression_counts() {
        let method = |line: &str| flags(line).unwrap().compression().unwrap().to_string();
        assert_eq!(method("dmtcp_launch --compress zstd:7 --gzip prog"), "gzip:1");
        assert_eq!(method("dmtcp_launch --gzip --compress lz4 prog"), "lz4");
        assert_eq!(method("dmtcp_launch --gzip --no-gzip prog"), "none");
        assert!(flags("dmtcp_launch --compress zip prog").is_err());
    }

    #[test]
    fn a_program_is_required() {
        assert!(flags("dmtcp_launch").is_err());
        assert!(flags("dmtcp_launch --nonsense prog").is_err());
        assert!(flags("dmtcp_launch --list-plugins").is_ok());
        assert!(flags("dmtcp_launch --disable-plugin nonsense prog").is_err());
    }
}
