//! The status file: tells a monitor outside since when the coordinator runs, where, and that it has ended.
//!
//! One `NAME=VALUE` a line; times in seconds since 1970.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

/// Says that the coordinator has started.
pub fn begin(path: &Path, host: &str, port: u16) -> io::Result<()> {
    let text = format!("START={}\nHOST={host}\nPORT={port}\nPID={}\n", seconds(), std::process::id());
    std::fs::write(path, text)
}

/// Says that it has ended.
pub fn end(path: &Path, code: i32) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("EXIT={}\nCODE={code}\n", seconds()).as_bytes())
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
