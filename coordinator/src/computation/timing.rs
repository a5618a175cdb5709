//! How long the parts of a generation took.
//!
//! ```text
//!   suspend: request .. all have stopped      (processes: stop)
//!   capture: .. all have written              (processes: look, write)
//!   sync:    .. all images are on the disk
//!   commit:  manifest, names, script
//! ```
//! A phase lasts as long as its slowest process; of what the processes tell, the longest counts.

use dmtcp_protocol::message::{Timings, Written};
use std::time::Instant;

/// Runs from the request to the commit.
pub(super) struct Stopwatch {
    started: Instant,
    last: Instant,
    phases: Vec<(String, u64)>,
}

impl Stopwatch {
    pub(super) fn start(now: Instant) -> Self {
        Self { started: now, last: now, phases: Vec::new() }
    }

    /// A phase has ended.
    pub(super) fn end_phase(&mut self, name: &str, now: Instant) {
        self.phases.push((name.into(), microseconds(self.last, now)));
        self.last = now;
    }

    /// The generation is committed.
    pub(super) fn finish<'a>(
        &mut self,
        generation: u64,
        images: impl Iterator<Item = &'a Written> + Clone,
        now: Instant,
    ) -> Timings {
        let mut stages: Vec<(String, u64)> = Vec::new();
        for (stage, time) in images.clone().flat_map(|image| &image.stages) {
            match stages.iter_mut().find(|(name, _)| name == stage) {
                Some((_, longest)) => *longest = (*longest).max(*time),
                None => stages.push((stage.clone(), *time)),
            }
        }
        Timings {
            generation,
            processes: images.clone().count() as u32,
            bytes: images.map(|image| image.bytes).fold(0, u64::saturating_add),
            total: microseconds(self.started, now),
            phases: std::mem::take(&mut self.phases),
            stages,
        }
    }
}

fn microseconds(from: Instant, to: Instant) -> u64 {
    to.duration_since(from).as_micros().try_into().unwrap_or(u64::MAX)
}
