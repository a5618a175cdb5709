//! The flight recorder: a ring of the last lines in memory, and, if `DMTCP_LOG` asks for it, a file.
//!
//! Lines go out by raw system calls, so any thread may log at any time. The file is opened for each line: it must be
//! reachable from both descriptor tables of the process, and no descriptor of ours may show in the application's.

use crate::config;
use dmtcp_plugin_api::core::Level;
use dmtcp_plugin_api::sys;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const RING: usize = 16 << 10;

/// A ring of bytes. Writers reserve their part by an addition, so lines may overwrite each other when they lap, never wait.
struct Ring {
    bytes: std::cell::UnsafeCell<[u8; RING]>,
    next: AtomicUsize,
}

// SAFETY: the worst of a race is a garbled line.
unsafe impl Sync for Ring {}

static LINES: Ring = Ring { bytes: std::cell::UnsafeCell::new([0; RING]), next: AtomicUsize::new(0) };

struct Target {
    level: Level,
    path: String,
}

static TARGET: OnceLock<Option<Target>> = OnceLock::new();

fn target() -> Option<&'static Target> {
    TARGET
        .get_or_init(|| {
            let level = match config::variable(dmtcp_protocol::env::LOG)?.as_str() {
                "error" | "0" => Level::Error,
                "warn" | "warning" | "1" => Level::Warning,
                "note" | "2" => Level::Note,
                _ => Level::Trace,
            };
            let tmpdir = config::variable(dmtcp_protocol::env::TMPDIR).unwrap_or_else(|| "/tmp".into());
            Some(Target { level, path: format!("{tmpdir}/dmtcp-log.{}", sys::pid()) })
        })
        .as_ref()
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
    let at = LINES.next.fetch_add(line.len(), Ordering::Relaxed);
    for (i, byte) in line.bytes().enumerate() {
        // SAFETY: the index is within the ring; see `Ring` for races.
        unsafe { (*LINES.bytes.get())[(at + i) % RING] = byte };
    }
    let Some(target) = target() else { return };
    if level as u32 <= target.level as u32 {
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        if let Ok(file) = sys::open(target.path.as_bytes(), flags, 0o600) {
            let _ = sys::write(file.number(), line.as_bytes());
        }
    }
}

/// Logs for debugging.
pub fn trace(component: &str, text: &str) {
    line(Level::Trace, component, text);
}

/// Says a sentence on the application's standard error, unless the user asked for quiet.
pub fn tell(text: &str) {
    line(Level::Warning, "core", text);
    if config::config().is_some_and(|c| c.quiet >= 2) {
        return;
    }
    let line = format!("dmtcp: {text}\n");
    let number = crate::life::descriptors::copy(2);
    if number >= 0 {
        let _ = sys::write(number, line.as_bytes());
        sys::close(number);
    }
}
