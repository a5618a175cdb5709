//! `--list-plugins`: what there is, what is loaded, in which order.

use crate::plugin_file::Interface;
use crate::plugins::{Candidate, Origin};
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// One plugin, as `--json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    /// Place among the plugins that are loaded, from 1, in the order of hooks before a checkpoint.
    order: Option<usize>,
    name: Option<&'a str>,
    version: Option<&'a str>,
    /// `rust` or `c`.
    interface: &'static str,
    /// `given` or `built-in`.
    origin: &'static str,
    about: Option<&'static str>,
    path: &'a Path,
    priority: Option<i32>,
    requires: &'a [String],
    wrappers: &'a [String],
    events: Option<&'a [String]>,
    restart_half: bool,
}

fn row(candidate: &Candidate) -> Row<'_> {
    let details = candidate.details.as_ref();
    Row {
        order: None,
        name: candidate.name(),
        version: details.map(|d| &d.version[..]),
        interface: if candidate.interface == Interface::C { "c" } else { "rust" },
        origin: if candidate.origin == Origin::Given { "given" } else { "built-in" },
        about: match candidate.origin {
            Origin::BuiltIn(plugin) => Some(plugin.about),
            Origin::Given => None,
        },
        path: &candidate.path,
        priority: details.map(|d| d.priority),
        requires: details.map(|d| &d.requires[..]).unwrap_or_default(),
        wrappers: details.map(|d| &d.wrappers[..]).unwrap_or_default(),
        events: details.and_then(|d| d.events.as_deref()),
        restart_half: details.is_some_and(|d| d.has_restart_half),
    }
}

/// Those that are loaded, in the order of hooks before a checkpoint: plugins in C, then by priority; then those that are not.
fn rows(all: &[Candidate]) -> Vec<Row<'_>> {
    let mut sorted: Vec<&Candidate> = all.iter().collect();
    sorted.sort_by_key(|c| (!c.is_on, c.interface != Interface::C, c.details.as_ref().map_or(0, |d| d.priority)));
    let numbered = sorted.into_iter().enumerate();
    numbered.map(|(index, c)| Row { order: c.is_on.then_some(index + 1), ..row(c) }).collect()
}

/// For people.
pub fn text(all: &[Candidate]) -> String {
    let mut out = String::new();
    for row in rows(all) {
        let place = row.order.map_or("  -".into(), |order| format!("{order:3}"));
        let name = row.name.unwrap_or("(C interface)");
        let version = row.version.map(|version| format!(" {version}")).unwrap_or_default();
        let state = if row.order.is_none() { " (not loaded)" } else { "" };
        let about = row.about.map(|about| format!(": {about}")).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(out, "{place} {name}{version}{state}{about}");
        let _ = writeln!(out, "      file      {}", row.path.display());
        if let Some(priority) = row.priority {
            let _ = writeln!(out, "      priority  {priority}");
        }
        for (title, words) in
            [("requires ", row.requires), ("wraps    ", row.wrappers), ("events   ", row.events.unwrap_or_default())]
        {
            if !words.is_empty() {
                let _ = writeln!(out, "      {title} {}", words.join(" "));
            }
        }
    }
    out
}

/// For programs.
pub fn json(all: &[Candidate]) -> String {
    // Texts, numbers and lists always encode; a path that is no text does not.
    serde_json::to_string_pretty(&rows(all)).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
}
