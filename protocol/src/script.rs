//! The restart script: a thin call of dmtcp_restart with all images of a generation.
//!
//! A coordinator writes it; a process without one writes its own. Everything that comes from outside (paths) is quoted
//! for the shell.

use crate::message::ComputationId;
use alloc::{format, string::String};

/// Name that always means the newest script of a directory.
pub const NEWEST: &str = "dmtcp_restart_script.sh";

/// File name of a computation's script.
pub fn file_name(computation: ComputationId) -> String {
    format!("dmtcp_restart_script_{computation}.sh")
}

/// What a script depends on.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// The dmtcp_restart that it calls; absolute.
    pub program: &'a str,
    /// The computation.
    pub computation: ComputationId,
    /// The generation.
    pub generation: u64,
    /// The names of its images that the user sees; absolute.
    pub images: &'a [&'a str],
    /// Port of the coordinator; 0: any free one.
    pub port: u16,
    /// Seconds between checkpoints.
    pub interval: u32,
}

/// The text.
pub fn render(script: &Script) -> String {
    let Script { program, computation, generation, images, port, interval } = script;
    let list: String = images.iter().map(|image| format!("  {}\n", quote(image))).collect();
    let program = quote(program);
    format!(
        r#"#!/bin/bash
# Restarts generation {generation} of computation {computation}.
restart={program}
images=(
{list})
port=${{DMTCP_COORD_PORT:-{port}}}
interval=${{DMTCP_CHECKPOINT_INTERVAL:-{interval}}}
restart_dir=${{DMTCP_RESTART_DIR:-}}
log_file=${{DMTCP_COORD_LOGFILE:-${{DMTCP_COORD_LOG_FILENAME:-}}}}
options=()
{BODY}"#
    )
}

/// What is the same in every script.
const BODY: &str = r#"
usage() {
  cat <<END
Usage: ${0##*/} [options]
Restarts the processes of a checkpoint.
  -h, --coord-host, --host HOST   host of the coordinator [env: DMTCP_COORD_HOST]
  -p, --coord-port, --port PORT   port of the coordinator; 0: any free one [env: DMTCP_COORD_PORT] [now: $port]
      --hostfile FILE             hosts to restart on
  -d, --ckptdir DIR               directory for later images
  -r, --restartdir DIR            directory that the images are in now [env: DMTCP_RESTART_DIR]
  -t, --tmpdir DIR                scratch directory [env: DMTCP_TMPDIR]
  -i, --interval SECONDS          seconds between checkpoints [env: DMTCP_CHECKPOINT_INTERVAL] [now: $interval]
      --coord-logfile FILE        log of a coordinator that is started [env: DMTCP_COORD_LOGFILE]
      --no-strict-checking        restart images that belong to another user
      --help                      this text
END
}

fail() {
  echo "${0##*/}: $1" >&2
  exit "${DMTCP_FAIL_RC:-99}"
}

while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --no-strict-checking) options+=("$1"); shift; continue ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
  esac
  [ $# -gt 1 ] || fail "$1 is not an option, or lacks its value; see --help"
  case $1 in
    -h | --coord-host | --host) options+=(--coord-host "$2") ;;
    -p | --coord-port | --port) port=$2 ;;
    --hostfile) options+=(--hostfile "$2") ;;
    -d | --ckptdir) options+=(--ckptdir "$2") ;;
    -r | --restartdir) restart_dir=$2 ;;
    -t | --tmpdir) options+=(--tmpdir "$2") ;;
    -i | --interval) interval=$2 ;;
    --coord-logfile) log_file=$2 ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  shift 2
done

options+=(--coord-port "$port")
[ "$interval" = 0 ] || options+=(--interval "$interval")
[ -z "$log_file" ] || options+=(--coord-logfile "$log_file")
if [ -n "$restart_dir" ]; then
  for i in "${!images[@]}"; do images[i]=$restart_dir/${images[i]##*/}; done
fi
exec "$restart" "${options[@]}" -- "${images[@]}"
"#;

/// A string as one word of a shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
