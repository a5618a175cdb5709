//! What this process tells of its doings: a ring of the last lines in memory, and a log file if one is asked for.
//!
//! ```text
//!   line --> ring (always)
//!        --> DMTCP_LOG_FILE, else TMPDIR/dmtcp-log.PID   (what DMTCP_LOG and its kin ask for)
//!   tell --> the same, and the application's standard error, or JALIB_STDERR_PATH
//! ```
//! Lines go out by raw system calls, so any thread may log at any time, but for the time in which an image is written,
//! when nobody may allocate. The file is opened for each line: it must be reachable from both descriptor tables of the
//! process, and no descriptor of ours may show in the application's.

mod ring;
mod rules;

use crate::config;
use crate::life::restore;
use dmtcp_plugin_api::core::Level;
use dmtcp_plugin_api::sys;
use dmtcp_protocol::env;
use rules::Rules;
use std::sync::OnceLock;

/// Where lines go, and which.
struct Target {
    rules: Rules,
    file: Option<String>,
    tmpdir: String,
    told: Option<String>,
}

static TARGET: OnceLock<Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let texts = [env::LOG_LEVEL, env::LOG_OVERRIDES, env::LOG].map(config::variable);
        Target {
            rules: Rules::read(texts.iter().flatten().map(String::as_str)),
            file: config::variable(env::LOG_FILE).filter(|path| !path.is_empty()),
            tmpdir: config::variable(env::TMPDIR).unwrap_or_else(|| "/tmp".into()),
            told: config::variable(env::STDERR_PATH).filter(|path| !path.is_empty()),
        }
    })
}

fn append(path: &str, line: &str) {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    if let Ok(file) = sys::open(path.as_bytes(), flags, 0o600) {
        let _ = sys::write(file.number(), line.as_bytes());
    }
}

/// Writes a line.
pub fn line(level: Level, component: &str, text: &str) {
    let now = sys::clock(libc::CLOCK_REALTIME);
    let line = format!(
        "[{}.{:06} {}] {} {component}: {text}\n",
        now / 1_000_000_000,
        now / 1000 % 1_000_000,
        sys::tid(),
        match level {
            Level::Error => "ERROR",
            Level::Warning => "WARNING",
            Level::Note => "NOTE",
            Level::Trace => "TRACE",
        }
    );
    ring::note(&line);
    let target = target();
    if target.rules.are_empty() || !target.rules.want(component, level) {
        return;
    }
    match &target.file {
        Some(path) => append(path, &line),
        None => {
            // A fork's child has a file of its own, and a restart may have brought another directory.
            let tmpdir = restore::scratch_directory().unwrap_or(&target.tmpdir);
            append(&format!("{tmpdir}/dmtcp-log.{}", sys::pid()), &line);
        }
    }
}

/// The last lines of every level: what goes with the news of a failure.
pub fn recent() -> Vec<String> {
    ring::last(12)
}

/// Logs for debugging.
pub fn trace(component: &str, text: &str) {
    line(Level::Trace, component, text);
}

/// Logs a step in the life of the process.
pub fn note(text: &str) {
    line(Level::Note, "core", text);
}

/// Says a sentence on the application's standard error, unless the user asked for quiet.
pub fn tell(text: &str) {
    line(Level::Warning, "core", text);
    if config::config().is_some_and(|c| c.quiet >= 2) {
        return;
    }
    let line = format!("dmtcp: {text}\n");
    if let Some(path) = &target().told {
        return append(path, &line);
    }
    let number = crate::life::descriptors::copy(2);
    if number >= 0 {
        let _ = sys::write(number, line.as_bytes());
        sys::close(number);
    }
}
