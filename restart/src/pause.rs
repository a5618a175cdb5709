//! DMTCP_RESTART_PAUSE and DMTCP_GDB_ATTACH_ON_RESTART: a restart that waits for a debugger, or brings one.
//!
//! ```text
//!   1       all is checked, no process is made yet       2  each process exists, nothing is placed in it
//!   3       memory is staged, the stub comes next        4 to 7  in restored memory (`life/pause.rs` of the core)
//! ```
//! Whoever waits goes on when the debugger sets the word `dmtcp_restart_pause` to 0.

use crate::report;
use dmtcp_protocol::env;
use std::os::fd::RawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Between two looks at the word.
const LOOK: Duration = Duration::from_millis(50);
/// The first stage in restored memory.
const RESTORED: u32 = 4;

/// The stage that this process waits at; 0: it goes on.
#[unsafe(export_name = "dmtcp_restart_pause")]
static WAITING: AtomicU32 = AtomicU32::new(0);

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    /// The stage.
    pub stage: Option<u32>,
    /// Whether gdb is to be started on the first process that is restored.
    pub attach: bool,
}

impl Pause {
    /// Of the flags (the first of which knows its variable; `gdb` is a stage, too), and of what the environment says beyond
    /// that.
    pub fn asked(flag: Option<u32>, gdb: Option<u32>) -> Self {
        let old = std::env::var("MTCP_RESTART_PAUSE").ok().and_then(|value| value.trim().parse().ok());
        let attach = std::env::var_os(env::GDB_ATTACH_ON_RESTART).is_some_and(|x| !x.is_empty() && x != "0");
        let attach = attach || gdb.is_some();
        let stage = gdb.or(flag).or(old);
        // gdb is of use where the program's own memory is.
        let stage = if attach { Some(stage.unwrap_or(RESTORED).max(RESTORED)) } else { stage };
        Self { stage, attach }
    }

    /// The stage, as the restored process reads it in the environment that it is told.
    pub fn variable(&self) -> Option<Vec<u8>> {
        self.stage.map(|stage| format!("{}={stage}", env::RESTART_PAUSE).into_bytes())
    }

    /// Waits if this is the stage. The sentence goes to `stderr`.
    pub fn at(&self, stage: u32, stderr: RawFd) {
        if self.stage != Some(stage) {
            return;
        }
        WAITING.store(stage, Ordering::Release);
        let (pid, how) = (std::process::id(), env::RESTART_GO_ON);
        let text = format!(
            "dmtcp_restart: the restart of process {pid} pauses at stage {stage}: attach gdb, and let it go on by {how}\n"
        );
        report::write(stderr, &text);
        while WAITING.load(Ordering::Acquire) != 0 {
            std::thread::sleep(LOOK);
        }
    }

    /// Starts gdb on a process and waits for its end, beside everything else.
    pub fn attach_to(&self, pid: i32) {
        if !self.attach {
            return;
        }
        std::thread::spawn(move || {
            // A mount namespace differs from ours in /proc alone, and gdb may not be allowed to enter it.
            let arguments = ["-q", "-iex", "set sysroot /", "-p", &pid.to_string()];
            if let Err(error) = Command::new("gdb").args(arguments).status() {
                eprintln!(
                    "dmtcp_restart: gdb cannot be started for process {pid} ({error}), which waits: install gdb, or end \
                     the process"
                );
            }
        });
    }
}
