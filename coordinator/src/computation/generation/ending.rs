//! How a generation ends: it is committed, or given up, which leaves the older one as it was.

use super::Part;
use crate::commit;
use crate::computation::{Activity, ClientId, Computation, Effect, Request};
use dmtcp_launcher::report;
use dmtcp_protocol::message::{FromCoordinator, Outcome};
use serde_json::json;
use std::time::Instant;

impl Computation {
    pub(super) fn commit_generation(&mut self, now: Instant) {
        let (Activity::Generation(generation), Some(computation)) = (&mut self.activity, self.id) else { return };
        let images: Vec<commit::Image> = generation
            .members
            .values()
            .filter_map(|member| {
                let written = member.part.image()?;
                Some(commit::Image { written, join: &member.join, synced: matches!(member.part, Part::Synced(_)) })
            })
            .collect();
        let script = commit::Script {
            directory: &self.settings.checkpoint_dir,
            program: &self.settings.restart_program,
            port: self.settings.port,
            interval: self.interval,
        };
        let number = generation.number;
        let asked = images.iter().map(|image| image.join.keep).max().unwrap_or(0);
        let keep = asked.max(self.settings.keep);
        // The disk takes its time, and the clock that this is told stands still meanwhile.
        let begun = Instant::now();
        match commit::commit(computation, number, &images, &script, keep) {
            Err(error) => self.abort_generation(&error.to_string(), now),
            Ok(committed) => {
                let mut notes: Vec<String> = generation
                    .members
                    .values()
                    .filter_map(|member| Some((member, member.part.image()?)))
                    .flat_map(|(member, image)| {
                        image.unsupported.iter().map(move |note| format!("{}: {note}", member.name))
                    })
                    .collect();
                notes.extend(committed.warnings);
                let request = std::mem::take(&mut generation.request);
                let end = now + begun.elapsed();
                generation.stopwatch.end_phase("commit", end);
                let images = generation.members.values().filter_map(|member| member.part.image());
                let timings = generation.stopwatch.finish_images(number, images, end);
                let message = format!("committed {}", report::timings(&timings));
                self.journal.note("committed", report::timings_json(&timings), message);
                self.counts.committed += 1;
                self.last_timings = Some(timings);
                self.finish_commit(number, request, notes, now);
                self.effects.push(Effect::Remove(committed.obsolete));
            }
        }
    }

    /// The generation counts: tells everybody.
    fn finish_commit(&mut self, number: u64, request: Request, notes: Vec<String>, now: Instant) {
        for note in &notes {
            self.journal.warn("warning", json!({"generation": number}), note);
        }
        self.committed = number;
        let Activity::Generation(generation) = std::mem::replace(&mut self.activity, Activity::Running) else { return };
        let clients: Vec<ClientId> = self.workers.keys().copied().collect();
        for client in clients {
            if generation.members.contains_key(&client) {
                self.send(client, FromCoordinator::Committed { generation: number, exit: request.kill });
            } else if request.kill {
                // It came after all had written, and is not in the image: it ends with the others.
                self.send(client, FromCoordinator::Kill);
            }
        }
        let outcome = Outcome::Done { generation: Some(number), notes };
        if request.kill {
            self.await_ends(request.waiting, outcome, None, now);
        } else {
            self.answer_all(request.waiting, &outcome);
            self.run_on(now);
        }
    }

    /// Gives the generation up; the older one is untouched.
    pub(in crate::computation) fn abort_generation(&mut self, reason: &str, now: Instant) {
        self.abort_and_tell(reason, reason.into(), now);
    }

    /// The same; whoever asked for it is told more.
    pub(super) fn abort_and_tell(&mut self, reason: &str, told: String, now: Instant) {
        self.counts.aborted += 1;
        let Activity::Generation(generation) = std::mem::replace(&mut self.activity, Activity::Running) else { return };
        self.end_meetings(reason);
        self.journal.warn(
            "generation_failed",
            json!({"generation": generation.number, "reason": reason}),
            format_args!("generation {} failed: {reason}", generation.number),
        );
        let abort = FromCoordinator::Abort { generation: generation.number, reason: reason.into() };
        for client in generation.members.keys().filter(|client| self.workers.contains_key(client)) {
            self.effects.push(Effect::Send(*client, abort.clone()));
        }
        let images = generation.members.values().filter_map(|member| member.part.image());
        generation.claim.discard(images);
        self.answer_all(generation.request.waiting, &Outcome::Failed(told));
        self.run_on(now);
    }
}
