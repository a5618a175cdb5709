//! How long the parts of a generation and of a restart took.
//!
//! ```text
//!   suspend: request .. all have stopped      (processes: stop)
//!   capture: .. all have written              (processes: look, write)
//!   sync:    .. all images are on the disk    (processes: resume, sync; pause: stop to resume)
//!   commit:  manifest, names, script
//!
//!   place:   announcement .. all are in their memory and have joined    (dmtcp_restart, before: check)
//!   rejoin:  .. all threads are back
//!   resume:  .. plugins have restored what is theirs
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

    /// The last phase has ended.
    pub(super) fn finish(&mut self, generation: u64, processes: u32, now: Instant) -> Timings {
        Timings {
            generation,
            processes,
            total: microseconds(self.started, now),
            phases: std::mem::take(&mut self.phases),
            ..Timings::default()
        }
    }

    /// The generation is committed.
    pub(super) fn finish_images<'a>(
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
        let bytes = images.clone().map(|image| image.bytes).fold(0, u64::saturating_add);
        Timings { bytes, stages, ..self.finish(generation, images.count() as u32, now) }
    }
}

fn microseconds(from: Instant, to: Instant) -> u64 {
    to.duration_since(from).as_micros().try_into().unwrap_or(u64::MAX)
}
