//! What came of a command, as text for a person and as JSON for a program. The words are those that scripts look for.

use dmtcp_protocol::env;
use dmtcp_protocol::message::{Barrier, Outcome, Status, Timings, Worker};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What is said when there is nothing to checkpoint.
pub const NOT_RUNNING: &str = "the computation is not in running state: no process has joined, or a restart or an end is \
                               under way; see dmtcp_command --status";

/// An outcome as text.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { generation: None, .. } => "done".into(),
        Outcome::Done { generation: Some(generation), notes } => {
            let mut text = format!("checkpoint complete: generation {generation}");
            for note in folded(notes) {
                // Writing to a String cannot fail, here and below.
                let _ = write!(text, "\nnote: {note}");
            }
            text
        }
        Outcome::NotRunning => NOT_RUNNING.into(),
        Outcome::Failed(reason) => format!("failed: {reason}"),
        Outcome::Status(shown) => status(shown),
        Outcome::List(workers) => list(workers),
    }
}

/// Notes (`PROCESS: TEXT`), those of the same text as one: what all processes have inherited is said of each.
fn folded(notes: &[String]) -> Vec<String> {
    let mut kinds: Vec<(&str, &str, usize)> = Vec::new();
    for note in notes {
        let (process, text) = note.split_once(": ").unwrap_or(("", note));
        match kinds.iter_mut().find(|kind| kind.1 == text) {
            Some(kind) => kind.2 += 1,
            None => kinds.push((process, text, 0)),
        }
    }
    let shown = kinds.iter().map(|(process, text, more)| match (process, more) {
        (&"", _) => (*text).to_owned(),
        (_, 0) => format!("{process}: {text}"),
        (_, more) => format!("{process} and {more} more: {text}"),
    });
    shown.collect()
}

/// The status as text.
pub fn status(status: &Status) -> String {
    let note = if status.port == env::DEFAULT_PORT { " (default port)" } else { "" };
    let interval = match status.interval {
        0 => "0 (checkpoint manually)".into(),
        seconds => seconds.to_string(),
    };
    let part = |title: &str, timings: &Option<Timings>| {
        timings.as_ref().map_or(String::new(), |timings| format!("\n{title}...\n{}", table(timings)))
    };
    let times = part("Restart", &status.restart) + &part("Last checkpoint", &status.last);
    format!(
        "Coordinator:\n  Host: {}\n  Port: {}{note}\nStatus...\n  NUM_PEERS={}\n  RUNNING={}\n  CKPT_INTERVAL={interval}{times}",
        status.host,
        status.port,
        status.peers,
        if status.running { "yes" } else { "no" },
    )
}

/// What a generation or a restart took, in one line for a log.
pub fn timings(timings: &Timings) -> String {
    let parts = timings.phases.iter().chain(&timings.stages);
    let parts: Vec<String> = parts.map(|(name, time)| format!("{name} {}", milliseconds(*time))).collect();
    format!(
        "generation {} of {} processes in {} ({}); {} bytes",
        timings.generation,
        timings.processes,
        milliseconds(timings.total),
        parts.join(", "),
        timings.bytes
    )
}

/// The same for a program; times in microseconds.
pub fn timings_json(timings: &Timings) -> Value {
    let times = |list: &[(String, u64)]| -> Value {
        list.iter().map(|(name, time)| (name.clone(), Value::from(*time))).collect::<Map<_, _>>().into()
    };
    json!({
        "generation": timings.generation,
        "processes": timings.processes,
        "bytes": timings.bytes,
        "total_us": timings.total,
        "phases_us": times(&timings.phases),
        "stages_us": times(&timings.stages),
    })
}

/// The same as a table: what the computation did, and the slowest process in each stage of that.
fn table(timings: &Timings) -> String {
    let mut text =
        format!("  GENERATION={}\n  PROCESSES={}\n  BYTES={}", timings.generation, timings.processes, timings.bytes);
    let mut row = |name: &str, time: u64, note: &str| {
        let _ = write!(text, "\n  {name:<10}{:>12}{note}", milliseconds(time));
    };
    for (name, time) in &timings.phases {
        row(name, *time, "");
    }
    row("total", timings.total, "");
    for (name, time) in &timings.stages {
        row(name, *time, "  (slowest process)");
    }
    text
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", microseconds / 1000, microseconds % 1000)
}

/// The list of processes as text.
pub fn list(workers: &[Worker]) -> String {
    let mut text = String::from("#, PROG[virtPID:realPID]@HOST, DMTCP-UNIQUEPID, STATE, BARRIER");
    for worker in workers {
        let barrier = worker.barrier.map_or("", barrier_name);
        let _ = write!(
            text,
            "\n{}, {}[{}:{}]@{}, {:032x}, {}, {barrier}",
            worker.number,
            worker.program,
            worker.virtual_pid,
            worker.real_pid,
            worker.host,
            worker.process,
            worker.state
        );
    }
    text
}

/// What a barrier is called.
pub fn barrier_name(barrier: Barrier) -> &'static str {
    match barrier {
        Barrier::Suspended => "Suspended",
        Barrier::Counted => "Counted",
        Barrier::Written => "Written",
        Barrier::Refilled => "Refilled",
        Barrier::Restarted => "Restarted",
        Barrier::Resumed => "Resumed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_several_processes_is_one_line() {
        let notes = ["a[1]@h: fd 9 -> x", "b[2]@h: fd 9 -> x", "a[1]@h: fd 9 -> y", "c[3]@h: fd 9 -> x"];
        let done = Outcome::Done { generation: Some(4), notes: notes.map(str::to_owned).to_vec() };
        let expected = "checkpoint complete: generation 4\nnote: a[1]@h and 2 more: fd 9 -> x\nnote: a[1]@h: fd 9 -> y";
        assert_eq!(outcome(&done), expected);
    }
}
