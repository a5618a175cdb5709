//! Numbers for a monitor: a file in Prometheus' text format, for node_exporter's textfile collector or for a person.
//!
//! The file is replaced as a whole, at most every [`PAUSE`], and removed when the coordinator ends: a monitor that finds
//! none knows that nobody is there. A file that cannot be written is told of once and harms nothing.

use crate::journal::Journal;
use dmtcp_protocol::message::{Status, Timings};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The file is not written more often than this.
const PAUSE: Duration = Duration::from_millis(500);

/// What has happened since the coordinator started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Generations that were committed.
    pub committed: u64,
    /// Generations that were given up.
    pub aborted: u64,
    /// Restarts that were completed.
    pub restarted: u64,
    /// Clients that were turned away.
    pub refused: u64,
}

/// The file.
pub struct MetricsFile {
    path: PathBuf,
    text: String,
    written: Option<Instant>,
    told: bool,
}

impl MetricsFile {
    /// A file at this path; nothing is written yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, text: String::new(), written: None, told: false }
    }

    /// Brings the file up to date; the value is when that has to be tried again, if it is too soon now.
    pub fn update(&mut self, status: &Status, counts: &Counts, journal: Journal, now: Instant) -> Option<Instant> {
        let text = render(status, counts);
        if text == self.text {
            return None;
        }
        if let Some(due) = self.written.map(|at| at + PAUSE).filter(|due| now < *due) {
            return Some(due);
        }
        let temporary = self.path.with_extension(format!("tmp-{}", std::process::id()));
        let done = std::fs::write(&temporary, &text).and_then(|()| std::fs::rename(&temporary, &self.path));
        if let Err(error) = done
            && !std::mem::replace(&mut self.told, true)
        {
            let path = self.path.display();
            let fields = serde_json::json!({"path": path.to_string(), "reason": error.to_string()});
            journal.warn("metrics_failed", fields, format_args!("cannot write the metrics file {path}: {error}"));
        }
        (self.text, self.written) = (text, Some(now));
        None
    }
}

impl Drop for MetricsFile {
    fn drop(&mut self) {
        // It may not be there, or not be ours to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn render(status: &Status, counts: &Counts) -> String {
    let mut text = String::new();
    let mut add = |name: &str, kind: &str, help: &str, rows: &[(String, f64)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP dmtcp_{name} {help}\n# TYPE dmtcp_{name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "dmtcp_{name}{labels} {value}");
        }
    };
    let plain = |value: u64| [(String::new(), value as f64)];
    add("processes", "gauge", "Processes of the computation.", &plain(status.peers.into()));
    add("running", "gauge", "1 while all of them run.", &plain(status.running.into()));
    add("checkpoint_interval_seconds", "gauge", "0: no checkpoint by itself.", &plain(status.interval.into()));
    add("generation", "gauge", "The last committed generation.", &plain(status.generation));
    add("checkpoints_total", "counter", "Generations that were committed.", &plain(counts.committed));
    add("checkpoint_failures_total", "counter", "Generations that were given up.", &plain(counts.aborted));
    add("restarts_total", "counter", "Restarts that were completed.", &plain(counts.restarted));
    add("refused_clients_total", "counter", "Clients that were turned away.", &plain(counts.refused));
    if let Some(last) = &status.last {
        let seconds = |list: &[(String, u64)], label: &str| -> Vec<(String, f64)> {
            list.iter().map(|(name, time)| (format!("{{{label}=\"{name}\"}}"), *time as f64 / 1e6)).collect()
        };
        let Timings { processes, bytes, total, phases, stages, .. } = last;
        add("last_checkpoint_processes", "gauge", "Processes in the last generation.", &plain((*processes).into()));
        add("last_checkpoint_bytes", "gauge", "Bytes of its images on disk.", &plain(*bytes));
        let whole = [(String::new(), *total as f64 / 1e6)];
        add("last_checkpoint_seconds", "gauge", "From the request to the commit.", &whole);
        add("last_checkpoint_phase_seconds", "gauge", "Its phases.", &seconds(phases, "phase"));
        add("last_checkpoint_stage_seconds", "gauge", "The slowest process in each stage.", &seconds(stages, "stage"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let last = Timings {
            generation: 4,
            processes: 2,
            bytes: 4096,
            total: 1_500_000,
            phases: vec![("suspend".into(), 1000)],
            stages: vec![("write".into(), 250_000)],
        };
        Status {
            host: "h".into(),
            port: 1,
            peers: 2,
            running: true,
            interval: 0,
            computation: None,
            generation: 4,
            checkpoint_dir: "/".into(),
            last: Some(last),
            restart: None,
        }
    }

    #[test]
    fn every_line_is_a_comment_or_a_name_and_a_number() {
        let text = render(&status(), &Counts { committed: 4, ..Counts::default() });
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("dmtcp_") && value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(text.contains("dmtcp_checkpoints_total 4\n"));
        assert!(text.contains("dmtcp_last_checkpoint_stage_seconds{stage=\"write\"} 0.25\n"));
    }

    #[test]
    fn the_file_comes_at_once_and_goes_with_the_coordinator() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dmtcp.prom");
        let mut file = MetricsFile::new(path.clone());
        let now = Instant::now();
        let journal = Journal::new(2, crate::journal::Format::Text);
        assert_eq!(file.update(&status(), &Counts::default(), journal, now), None);
        assert!(std::fs::read_to_string(&path).unwrap().contains("dmtcp_processes 2"));
        let more = Counts { aborted: 1, ..Counts::default() };
        let due = file.update(&status(), &more, journal, now).unwrap();
        assert_eq!(file.update(&status(), &more, journal, due), None);
        assert!(std::fs::read_to_string(&path).unwrap().contains("dmtcp_checkpoint_failures_total 1"));
        drop(file);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
