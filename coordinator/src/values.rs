//! `--write-kv-data`: the values that the processes of a computation shared, as they were when the last of them had left.
//!
//! ```text
//!   {"computation": "..", "since": SECONDS, "databases": {"/plugin/mine": {"server": "host:7000", ..}, ..}}
//! ```
//! Keys and values are bytes; what of them is no UTF-8 is replaced.

use dmtcp_protocol::message::ComputationId;
use dmtcp_protocol::names::Names;
use serde_json::{Map, Value, json};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file's name, and what goes into it. `since` is when the computation began, in seconds since 1970.
pub fn file(computation: ComputationId, since: u64, names: &Names) -> (String, Value) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let databases: Map<String, Value> = names
        .databases()
        .map(|(name, values)| {
            let values = values.iter().map(|(key, value)| (text(key), Value::from(text(value))));
            (name.to_owned(), Value::Object(values.collect()))
        })
        .collect();
    let content = json!({"computation": computation.to_string(), "since": since, "databases": databases});
    (format!("dmtcp_coordinator_db-{computation}-{since}.json"), content)
}

/// Writes it, for nobody else to read; a program that was executed by the last process leaves a newer one.
pub fn write(path: &Path, content: &Value) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    // The mode counts only for a file that is created.
    let _ = std::fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{content}")?;
    std::fs::rename(&temporary, path)
}
