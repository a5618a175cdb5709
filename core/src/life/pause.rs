//! DMTCP_RESTART_PAUSE: a restored process that waits for a debugger.
//!
//! ```text
//!   1 to 3  in dmtcp_restart (its module `pause`)
//!   4       memory stands, all threads are parked       5  all processes have come back, RESTART hooks come next
//!   6       RESTART hooks have run                      7  the threads go on next
//! ```
//! Only the checkpoint thread comes here, so that the debugger finds the application's threads as they were stopped. It
//! goes on when the debugger sets the word `dmtcp_restart_pause` to 0; `dmtcp-continue` of our gdb script does that.

use super::restore;
use crate::log;
use dmtcp_plugin_api::sys;
use dmtcp_protocol::env;
use std::sync::atomic::{AtomicU32, Ordering};

/// Between two looks at the word, in nanoseconds.
const LOOK: u64 = 50_000_000;

/// The stage that the process waits at; 0: it goes on.
#[unsafe(export_name = "dmtcp_restart_pause")]
static WAITING: AtomicU32 = AtomicU32::new(0);

/// Waits if this is the stage that dmtcp_restart was asked to pause at.
pub fn at(stage: u32) {
    let asked = restore::environment(env::RESTART_PAUSE.as_bytes());
    let asked = asked.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    if asked != Some(stage) {
        return;
    }
    WAITING.store(stage, Ordering::Release);
    log::tell(&format!(
        "the restart of process {} pauses at stage {stage}: attach gdb, and let it go on by {}",
        sys::pid(),
        env::RESTART_GO_ON
    ));
    while WAITING.load(Ordering::Acquire) != 0 {
        sys::nap(LOOK);
    }
}
