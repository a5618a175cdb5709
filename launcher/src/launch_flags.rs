//! The command line of dmtcp_launch.

use crate::flags::{self, Clock, CoordinatorFlags};
use crate::libraries::BuiltIn;
use clap::{ArgAction, Args, Parser, ValueEnum};
use dmtcp_image::codec::Method;
use dmtcp_protocol::env;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

/// How images are compressed when nobody says anything. The original compresses too, and scripts count on small images.
const DEFAULT_COMPRESSION: &str = "zstd";

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
    override_usage = "dmtcp_launch [OPTIONS] [--] PROGRAM [ARGUMENT]...",
    after_help = "Exit status: the program's own; 99, or what DMTCP_FAIL_RC says, if it was not started."
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
    /// Do not compress images: they are written faster, are core files, and can be restarted with --lazy [env: DMTCP_GZIP=0]
    #[arg(long, overrides_with_all = ["gzip", "compress"])]
    pub no_gzip: bool,
    /// Compress images: gzip[:1-9], zstd[:1-19], lz4 or none [env: DMTCP_COMPRESS] [default: zstd]
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
    /// Whether monotonic time counts the time between checkpoint and restart [env: DMTCP_CLOCK] [default: continue]
    #[arg(long, value_enum, value_name = "HOW")]
    pub clock: Option<Clock>,
    /// Save the contents of open regular files too
    #[arg(long, visible_alias = "checkpoint-open-files")]
    pub ckpt_open_files: bool,
    /// Files that were saved may replace files that are there
    #[arg(long)]
    pub allow_file_overwrite: bool,
    /// Signal that stops threads [env: DMTCP_SIGCKPT] [default: 62]
    #[arg(long, value_name = "NUMBER", value_parser = signal)]
    pub ckpt_signal: Option<u8>,
    /// Load these plugins, separated by colons
    #[arg(long, value_name = "FILE[:FILE...]")]
    pub with_plugin: Vec<String>,
    /// Do without this plugin; --list-plugins shows the names
    #[arg(long, value_name = "NAME")]
    pub disable_plugin: Vec<String>,
    /// Let calls of this function go past this plugin; --list-plugins shows both
    #[arg(long, value_name = "PLUGIN:SYMBOL", value_parser = wrapper)]
    pub disable_wrapper: Vec<String>,
    /// Let io_uring_setup(2) fail, so that programs use something that can be checkpointed; programs that change the user
    /// (setuid) lose that right
    #[arg(long)]
    pub refuse_io_uring: bool,
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
    /// Show the plugins: those that would be loaded with these options, in their order, and those that would not
    #[arg(long)]
    pub list_plugins: bool,
    /// With --list-plugins: as JSON
    #[arg(long, requires = "list_plugins")]
    pub json: bool,
    /// What a checkpoint does about something that no plugin can save
    #[arg(long, value_name = "WHAT")]
    pub on_unsupported: Option<OnUnsupported>,
    /// No counterpart: a restart needs no loader of ours, and addresses are kept in any case.
    #[arg(long, hide = true)]
    pub kernel_loader: bool,
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

/// How the original switches single plugins off; [`BuiltIn::old`] says which of ours is meant. Those that have no
/// counterpart have nothing to switch off.
#[derive(Args, Debug)]
pub struct OldPluginFlags {
    /// There is nothing to switch off.
    #[arg(long, hide = true)]
    disable_alloc_plugin: bool,
    /// There is nothing to switch off.
    #[arg(long, hide = true)]
    disable_dl_plugin: bool,
    /// `ssh`.
    #[arg(long, hide = true)]
    disable_ssh_plugin: bool,
    /// `event`.
    #[arg(long, hide = true)]
    disable_event_plugin: bool,
    /// `file`.
    #[arg(long, hide = true)]
    disable_file_plugin: bool,
    /// `pty`.
    #[arg(long, hide = true)]
    disable_pty_plugin: bool,
    /// `socket`.
    #[arg(long, hide = true)]
    disable_socket_plugin: bool,
    /// `svipc`.
    #[arg(long, hide = true)]
    disable_svipc_plugin: bool,
    /// `timer`.
    #[arg(long, hide = true)]
    disable_timer_plugin: bool,
    /// `pid`.
    #[arg(long, hide = true)]
    disable_pid_plugin: bool,
    /// ssh, event, file, pty, socket and ours of the name ipc.
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
            Some("0") => Ok(Method::None),
            Some("1") => Method::parse("gzip"),
            _ => Method::parse(DEFAULT_COMPRESSION),
        };
        by_flag.map(Ok).or_else(by_name).unwrap_or_else(old)
    }

    /// Fails by a sentence if a variable has a value that means nothing, and no flag says otherwise.
    pub fn check_variables(&self) -> Result<(), String> {
        let failed = |name: &str, error| Err(format!("{name}: {error}"));
        if let (None, Some(Err(error))) = (self.ckpt_signal, flags::text(&[env::SIGCKPT]).map(|text| signal(&text))) {
            return failed(env::SIGCKPT, error);
        }
        let clock = flags::text(&[env::CLOCK]);
        if let (None, Some(text)) = (self.clock, &clock)
            && Clock::from_str(text, false).is_err()
        {
            return failed(env::CLOCK, format!("'{text}' is no clock: use continue or real"));
        }
        let generations = flags::text(&[env::KEEP]);
        match (self.keep, &generations) {
            (None, Some(text)) if text.parse::<NonZeroU32>().is_err() => {
                failed(env::KEEP, format!("'{text}' is no number of generations: use 1 or more"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a plugin that comes with this program is switched off, by flag or environment.
    pub fn is_disabled(&self, plugin: &BuiltIn) -> bool {
        self.disable_all()
            || self.disable_plugin.iter().any(|disabled| disabled == plugin.name)
            || plugin.old.iter().any(|old| self.old.disables(old) || old_switch(old) == Some(false))
    }

    /// Whether a plugin that is loaded only on demand is asked for.
    pub fn is_enabled(&self, plugin: &BuiltIn) -> bool {
        let switches: Vec<bool> = plugin.old.iter().filter_map(|old| old_switch(old)).collect();
        if switches.contains(&false) {
            return false;
        }
        match plugin.name {
            "modify-env" => self.modify_env,
            // Beside plugins of the user's: they may ask for what it finds out.
            "program-events" => {
                let given = !self.with_plugin.is_empty() || flags::text(&["DMTCP_PLUGIN"]).is_some();
                given && !self.disable_all()
            }
            "path-virt" => self.pathvirt || switches.contains(&true) || flags::text(&["DMTCP_PATH_MAPPING"]).is_some(),
            "unique-ckpt" if self.disable_unique_checkpoint_filenames => false,
            "unique-ckpt" => self.enable_unique_checkpoint_filenames || switches.contains(&true),
            _ => false,
        }
    }

    /// Whether there are to be no plugins at all.
    pub fn disable_all(&self) -> bool {
        self.disable_all_plugins || std::env::var_os("DMTCP_DISABLE_ALL_PLUGINS").is_some_and(|value| value == "1")
    }
}

impl OldPluginFlags {
    /// Whether the original's flag switches the plugin of that name off.
    fn disables(&self, old: &str) -> bool {
        let part_of_ipc = matches!(old, "ssh" | "event" | "file" | "pty" | "socket" | "ipc");
        let own = match old {
            "alloc" => self.disable_alloc_plugin,
            "dl" => self.disable_dl_plugin,
            "ssh" => self.disable_ssh_plugin,
            "event" => self.disable_event_plugin,
            "file" => self.disable_file_plugin,
            "pty" => self.disable_pty_plugin,
            "socket" => self.disable_socket_plugin,
            "svipc" => self.disable_svipc_plugin,
            "timer" => self.disable_timer_plugin,
            "pid" => self.disable_pid_plugin,
            _ => false,
        };
        own || (part_of_ipc && self.disable_ipc_plugin)
    }
}

/// What `DMTCP_OLD_PLUGIN` says, if it says anything: 0 is off, 1 is on.
fn old_switch(old: &str) -> Option<bool> {
    match flags::text(&[&format!("DMTCP_{}_PLUGIN", old.to_uppercase())])?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// A signal that can stop threads.
fn signal(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(9 | 19) => Err(format!("signal {text} cannot be used to stop threads: no program can handle it")),
        Ok(32 | 33) => Err(format!("signal {text} cannot be used to stop threads: libc has it for itself")),
        Ok(number @ 1..=64) => Ok(number),
        _ => Err(format!("'{text}' is no number of a signal: use 1 to 64")),
    }
}

/// The value of `--disable-wrapper`.
fn wrapper(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((plugin, symbol)) if !plugin.is_empty() && !symbol.is_empty() && !text.contains(',') => Ok(text.into()),
        _ => Err("a plugin and a function with a colon between them, as in pid-virt:getpid".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libraries::BUILT_IN;

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
        let off = |name: &str| read.is_disabled(BUILT_IN.iter().find(|plugin| plugin.name == name).unwrap());
        assert!(off("event") && off("file") && off("ipc") && off("pid-virt"));
        assert!(!off("process") && !off("timer"));
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
    fn every_flag_of_the_original_is_understood() {
        let line = "dmtcp_launch --coord-host h --host h -h h --coord-port 1 --port 1 -p 1 -p1 --port-file f -j --join \
                    --join-coordinator --new-coordinator --any-coordinator -i 1 -i1 --interval 1 --gzip --no-gzip -c d \
                    --ckptdir d --ckpt-open-files --checkpoint-open-files --allow-file-overwrite --ckpt-signal 10 \
                    --enable-unique-checkpoint-filenames --disable-unique-checkpoint-filenames --with-plugin a:b \
                    --modify-env --pathvirt --disable-alloc-plugin --disable-dl-plugin --disable-ssh-plugin \
                    --disable-event-plugin --disable-file-plugin --disable-pty-plugin --disable-socket-plugin \
                    --disable-svipc-plugin --disable-timer-plugin --disable-pid-plugin --disable-ipc-plugin \
                    --disable-all-plugins --no-plugins -t d --tmpdir d -q --quiet --coord-logfile f --kernel-loader";
        let all: Vec<&str> = line.split_whitespace().collect();
        // Each by itself, with its value if it has one.
        let starts = all.iter().enumerate().skip(1).filter(|(_, word)| word.starts_with('-'));
        for (at, _) in starts {
            let end = (at + 1..all.len()).find(|i| all[*i].starts_with('-')).unwrap_or(all.len());
            let given: Vec<&str> = all[..1].iter().chain(&all[at..end]).copied().chain(["prog"]).collect();
            assert!(LaunchFlags::try_parse_from(&given).is_ok(), "{given:?}");
        }
    }

    #[test]
    fn a_wrapper_has_a_plugin_and_a_symbol() {
        assert_eq!(flags("dmtcp_launch --disable-wrapper a:b p").unwrap().disable_wrapper, ["a:b"]);
        for wrong in ["a", ":b", "a:", "a:b,c:d"] {
            assert!(flags(&format!("dmtcp_launch --disable-wrapper {wrong} p")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_program_is_required() {
        assert!(flags("dmtcp_launch").is_err());
        assert!(flags("dmtcp_launch --nonsense prog").is_err());
        assert!(flags("dmtcp_launch --list-plugins").is_ok());
        assert!(flags("dmtcp_launch --json prog").is_err());
    }
}
