//! What the coordinator tells of its doings: lines on stderr, or in the log file of a daemon; for a person, or (JSON, one
//! object a line) for a program.
//!
//! ```text
//!   text:  dmtcp_coordinator: prog[7]@host joined                  behind the time, if nobody sits at a terminal
//!   json:  {"time":"...Z","level":"note","event":"joined","message":"prog[7]@host joined","process":"..",..}
//! ```
//! The names of events are part of the interface; `docs/commands.md` lists them.

use clap::ValueEnum;
use dmtcp_launcher::say;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::io::IsTerminal;
use std::time::SystemTime;

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Sentences
    Text,
    /// One JSON object a line
    Json,
}

/// Where lines go, and which.
#[derive(Clone, Copy, Debug)]
pub struct Journal {
    quiet: u8,
    format: Format,
    timed: bool,
}

impl Journal {
    /// 0: everything; 1: warnings; 2: nothing.
    pub fn new(quiet: u8, format: Format) -> Self {
        Self { quiet, format, timed: !std::io::stderr().is_terminal() }
    }

    /// Something ordinary happened.
    pub fn note(&self, event: &str, fields: Value, message: impl Display) {
        if self.quiet == 0 {
            self.line("note", event, fields, &message.to_string());
        }
    }

    /// Something happened that somebody should look at.
    pub fn warn(&self, event: &str, fields: Value, message: impl Display) {
        if self.quiet < 2 {
            self.line("warning", event, fields, &message.to_string());
        }
    }

    fn line(&self, level: &str, event: &str, fields: Value, message: &str) {
        let time = humantime::format_rfc3339_micros(SystemTime::now());
        match self.format {
            Format::Json => say::err(object(&time.to_string(), level, event, fields, message)),
            Format::Text => {
                let time = if self.timed { format!("{time} ") } else { String::new() };
                let level = if level == "note" { "" } else { "warning: " };
                say::err(format_args!("{time}dmtcp_coordinator: {level}{message}"));
            }
        }
    }
}

fn object(time: &str, level: &str, event: &str, fields: Value, message: &str) -> Value {
    let mut object = Map::new();
    for (name, value) in [("time", time), ("level", level), ("event", event), ("message", message)] {
        object.insert(name.into(), value.into());
    }
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_has_what_every_line_has_and_its_own() {
        let line = object("t", "note", "joined", json!({"pid": 7}), "a \"b\"\nc").to_string();
        assert!(!line.contains('\n'), "one line: {line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&read["event"], &read["pid"], &read["message"]),
            (&json!("joined"), &json!(7), &json!("a \"b\"\nc"))
        );
        assert_eq!(object("t", "note", "e", Value::Null, "m").as_object().unwrap().len(), 4);
    }
}
