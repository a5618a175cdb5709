//! Waiting with a limit: the only way in which a test waits for anything.
//!
//! A test never sleeps in the hope that something has happened meanwhile. On a slow machine
//! `DMTCP_TEST_PATIENCE=3` makes every limit three times as long.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(4);

/// The limit `seconds`, stretched by `DMTCP_TEST_PATIENCE`.
pub fn limit(seconds: u64) -> Duration {
    let patience = std::env::var("DMTCP_TEST_PATIENCE").ok().and_then(|x| x.parse().ok()).unwrap_or(1.0f64);
    Duration::from_secs(seconds).mul_f64(patience.max(1.0))
}

/// Look at `condition` until it yields a value; fail after `seconds`, naming `what` was waited for.
pub fn until<T>(seconds: u64, what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit(seconds);
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited {:?} for {what}", limit(seconds));
        }
        std::thread::sleep(LOOK);
    }
}
