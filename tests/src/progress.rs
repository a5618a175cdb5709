//! What a program under test has done, and the proof that no step was lost or repeated.
//!
//! ```text
//!   p STREAM N    the N-th step of a stream: 1, 2, 3, ... without gaps
//!   FAIL text     the program saw something wrong: the case fails
//!   DONE          all of the program's own final checks held
//! ```
//! Before each restart the harness adds a line `# restart K`. What follows it is a *segment*. The first step of a
//! stream in segment K must be the successor of a step between the last one seen before the K-th checkpoint was asked
//! for and the last one seen after it was complete: not 1, not the successor of the last step before the kill.
//!
//! A program that keeps its log open loses what it wrote after the checkpoint: a restart cuts the file back to its
//! length at the checkpoint, the marker too. Then the segments run on into each other, and the same rule reads: no
//! jump anywhere.

use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The last step of each stream.
pub type Steps = BTreeMap<String, u64>;

/// One reading of a progress log, complete lines only.
pub struct Progress {
    lines: Vec<String>,
}

/// What was known around one checkpoint.
#[derive(Clone)]
pub struct Bounds {
    /// Last steps seen before the checkpoint was asked for.
    pub before: Steps,
    /// Last steps seen after it was complete.
    pub after: Steps,
}

fn step_of(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_whitespace();
    (words.next()? == "p").then_some(())?;
    Some((words.next()?, words.next()?.parse().ok()?))
}

impl Progress {
    /// Read the log; a log that does not exist yet is empty.
    pub fn read(path: &Path) -> Progress {
        let bytes = fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Progress { lines: whole.lines().map(str::to_string).collect() }
    }

    /// The last step of each stream, over all segments.
    pub fn last(&self) -> Steps {
        self.lines.iter().filter_map(|x| step_of(x)).map(|(s, n)| (s.to_string(), n)).collect()
    }

    /// How many steps each stream has made since the marker of restart `generation`; nothing when it was cut away.
    pub fn since_restart(&self, generation: usize) -> Option<Steps> {
        let marker = marker(generation);
        let at = self.lines.iter().rposition(|x| *x == marker)?;
        let mut counts = Steps::new();
        for (stream, _) in self.lines[at..].iter().filter_map(|x| step_of(x)) {
            *counts.entry(stream.to_string()).or_default() += 1;
        }
        Some(counts)
    }

    /// Where each stream stands in a segment. One that has made no step in it stands where the checkpoint has caught it,
    /// which is known between bounds, of which `caught` is one; not where it was when it was killed.
    pub fn standing(&self, generation: usize, caught: Option<&Steps>) -> Steps {
        let mut steps = self.last();
        if let (Some(made), Some(caught)) = (self.since_restart(generation), caught) {
            for (stream, step) in steps.iter_mut().filter(|x| !made.contains_key(x.0)) {
                *step = at(caught, stream);
            }
        }
        steps
    }

    /// All lines that start with `word`.
    pub fn find(&self, word: &str) -> Vec<&str> {
        self.lines.iter().filter(|x| x.split(' ').next() == Some(word)).map(String::as_str).collect()
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        self.lines[self.lines.len().saturating_sub(count)..].join("\n")
    }

    /// Fail with what the program complained about, if it did.
    pub fn complaint(&self) -> Result<()> {
        match self.find("FAIL").first() {
            Some(line) => bail!("the program complains: {line}"),
            None => Ok(()),
        }
    }

    /// The proof: no step of any stream lost, repeated or out of order. `bounds[k]` belongs to restart `k + 1`.
    pub fn prove(&self, bounds: &[Bounds]) -> Result<()> {
        let mut previous = Steps::new();
        let mut fresh: Option<&Bounds> = None;
        let mut seen_in_segment = std::collections::BTreeSet::new();
        for line in &self.lines {
            if let Some(k) = line.strip_prefix("# restart ").and_then(|x| x.parse::<usize>().ok()) {
                fresh = bounds.get(k.wrapping_sub(1));
                ensure!(fresh.is_some(), "restart {k} has no checkpoint");
                seen_in_segment.clear();
                continue;
            }
            let Some((stream, n)) = step_of(line) else { continue };
            let first = seen_in_segment.insert(stream.to_string());
            match fresh {
                Some(b) if first => {
                    let (low, high) = (at(&b.before, stream) + 1, at(&b.after, stream) + 1);
                    ensure!(
                        (low..=high).contains(&n),
                        "stream {stream} went on with step {n} after a restart; it was checkpointed with step {} to {} \
                         done and killed after step {}",
                        low - 1,
                        high - 1,
                        at(&previous, stream)
                    );
                }
                _ => {
                    let expected = at(&previous, stream) + 1;
                    ensure!(n == expected, "stream {stream} made step {n} where step {expected} was due");
                }
            }
            previous.insert(stream.to_string(), n);
        }
        Ok(())
    }
}

/// The line that starts the segment of restart `generation`.
pub fn marker(generation: usize) -> String {
    format!("# restart {generation}")
}

fn at(steps: &Steps, stream: &str) -> u64 {
    steps.get(stream).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(text: &str) -> Progress {
        Progress { lines: text.lines().map(str::to_string).collect() }
    }

    fn bounds(before: u64, after: u64) -> Bounds {
        let one = |n| Steps::from([("a".to_string(), n)]);
        Bounds { before: one(before), after: one(after) }
    }

    #[test]
    fn goes_on_from_the_checkpoint() {
        progress("p a 1\np a 2\np a 3\n# restart 1\np a 3\np a 4").prove(&[bounds(2, 2)]).unwrap();
        progress("p a 1\np a 2\np a 3\n# restart 1\np a 3\np a 4").prove(&[bounds(1, 2)]).unwrap();
    }

    #[test]
    fn starting_over_is_seen() {
        progress("p a 1\np a 2\n# restart 1\np a 1").prove(&[bounds(2, 2)]).unwrap_err();
    }

    #[test]
    fn going_on_from_the_kill_is_seen() {
        progress("p a 1\np a 2\np a 3\n# restart 1\np a 4").prove(&[bounds(2, 2)]).unwrap_err();
    }

    #[test]
    fn lost_and_repeated_steps_are_seen() {
        progress("p a 1\np a 3").prove(&[]).unwrap_err();
        progress("p a 1\np a 1").prove(&[]).unwrap_err();
        progress("p a 1\n# restart 1\np a 2\np a 4").prove(&[bounds(1, 1)]).unwrap_err();
    }

    #[test]
    fn a_stream_without_a_step_since_the_restart_stands_where_it_was_caught() {
        let p = progress("p a 1\np b 1\np a 2\np b 2\n# restart 1\np a 2");
        let caught = Steps::from([("a".to_string(), 1), ("b".to_string(), 1)]);
        assert_eq!(p.standing(1, Some(&caught)), Steps::from([("a".to_string(), 2), ("b".to_string(), 1)]));
        assert_eq!(p.standing(0, None), p.last());
    }

    #[test]
    fn a_log_that_was_cut_back_runs_on() {
        let p = progress("p a 1\np a 2\np a 3");
        p.prove(&[bounds(2, 2)]).unwrap();
        assert!(p.since_restart(1).is_none());
    }
}
