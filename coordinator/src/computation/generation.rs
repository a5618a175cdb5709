//! One generation, from the request to the commit.
//!
//! ```text
//!   phase        every member has sent          then the coordinator
//!   Suspending   Reached(Suspended)             lets all pass Suspended
//!   Counting     Reached(Counted)               lets all pass Counted
//!                Again from somebody            lets all pass Suspended once more, when those have stopped who came
//!   Writing      Written                        lets all pass Written; whoever waits to join is welcomed
//!   Syncing      Synced, or has left            commits, flips the names, answers
//! ```
//! A process that leaves before it has stopped simply is not part of the generation: nothing has been captured yet. One
//! that leaves after that and before its image is written takes the generation with it. From `Written` on its exit is
//! harmless: the image is complete, and the coordinator brings it to the disk.

mod ending;

use super::timing::Stopwatch;
use super::{Activity, Asker, ClientId, Computation, Limits, Request, Worker};
use crate::commit::Claim;
use dmtcp_protocol::message::{Barrier, FromCoordinator, Join, Outcome, Written};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How often those who wait hear of progress.
const PROGRESS: Duration = Duration::from_millis(100);

/// How far the whole is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Suspending,
    Counting,
    Writing,
    Syncing,
}

/// How far one process is.
pub(super) enum Part {
    Asked,
    Suspended,
    /// Has found its children.
    Counted,
    /// Has stopped after the others were told who had, or lacks somebody who has.
    Missing,
    Written(Written),
    Synced(Written),
    /// Has left, or stands still, after `Written` and before `Synced`.
    Left(Written),
}

impl Part {
    fn image(&self) -> Option<&Written> {
        match self {
            Part::Asked | Part::Suspended | Part::Counted | Part::Missing => None,
            Part::Written(written) | Part::Synced(written) | Part::Left(written) => Some(written),
        }
    }
}

/// A process that takes part.
pub(super) struct Member {
    pub(super) part: Part,
    join: Join,
    name: String,
    progress: (u64, u64),
}

/// How many lines of a process's log are told on.
const MOST_LINES: usize = 20;
/// How often processes are counted because one was in the middle of an exec.
const MOST_COUNTS: u32 = 1000;

/// A generation under way.
pub(super) struct Generation {
    number: u64,
    pub(super) phase: Phase,
    pub(super) members: BTreeMap<ClientId, Member>,
    pub(super) request: Request,
    claim: Claim,
    begun: Instant,
    stopwatch: Stopwatch,
    last_news: Instant,
    last_progress: Instant,
    /// How often processes have been counted.
    counts: u32,
    /// Whether somebody who was asked to stop has left since processes were last counted.
    is_stale: bool,
}

impl Generation {
    /// Whether a process that joins now has to wait: the others are stopped.
    pub(super) fn holds_joiners(&self) -> bool {
        self.phase == Phase::Writing
    }

    /// Whether a process that joins now takes part.
    pub(super) fn asks_joiners(&self) -> bool {
        matches!(self.phase, Phase::Suspending | Phase::Counting)
    }

    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether what hooks do now belongs to the image: it is not complete.
    pub(super) fn holds_hooks(&self) -> bool {
        self.phase != Phase::Syncing
    }

    /// Each process that is there, and whether its hooks of this phase are behind it.
    pub(super) fn progress_of_hooks(&self) -> BTreeMap<ClientId, bool> {
        let there = self.members.iter().filter(|(_, member)| !matches!(member.part, Part::Left(_)));
        let past = |part: &Part| match self.phase {
            Phase::Suspending | Phase::Counting => !matches!(part, Part::Asked),
            Phase::Writing => part.image().is_some(),
            Phase::Syncing => matches!(part, Part::Synced(_)),
        };
        there.map(|(client, member)| (*client, past(&member.part))).collect()
    }

    /// When the generation is given up for want of news.
    pub(super) fn deadline(&self, limits: &Limits) -> Instant {
        self.last_news
            + match self.phase {
                Phase::Suspending if self.members.is_empty() => limits.exec,
                Phase::Suspending | Phase::Counting => limits.suspend,
                Phase::Writing => limits.write,
                Phase::Syncing => limits.sync,
            }
    }

    /// Whether a process has not yet done what everybody does in this phase.
    fn is_late(&self, part: &Part) -> bool {
        match self.phase {
            Phase::Suspending => matches!(part, Part::Asked),
            Phase::Counting => matches!(part, Part::Asked | Part::Suspended),
            Phase::Writing => matches!(part, Part::Counted),
            Phase::Syncing => matches!(part, Part::Written(_)),
        }
    }

    /// Whether all that is left to do is behind the images, and the processes run on.
    pub(super) fn lets_run_on(&self) -> bool {
        self.phase == Phase::Syncing && !self.request.kill
    }

    /// When it began.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Those who have not.
    pub(super) fn late(&self) -> Vec<ClientId> {
        self.members.iter().filter(|(_, member)| self.is_late(&member.part)).map(|(client, _)| *client).collect()
    }

    /// What everybody does in this phase, and the names of those who have not done it.
    fn missing(&self) -> (&'static str, Vec<&str>) {
        let what = match self.phase {
            Phase::Suspending => "stop (barrier Suspended)",
            Phase::Counting => "find its children (barrier Counted)",
            Phase::Writing => "write its image (barrier Written)",
            Phase::Syncing => "bring its image to the disk",
        };
        let late = self.members.values().filter(|member| self.is_late(&member.part));
        (what, late.map(|member| member.name.as_str()).collect())
    }
}

impl Computation {
    /// Starts a generation of all processes that are there.
    pub(super) fn begin_generation(&mut self, mut request: Request, now: Instant) {
        let Some(computation) = self.id.filter(|_| !self.workers.is_empty()) else {
            return self.answer_all(request.waiting, &Outcome::NotRunning);
        };
        request.kill |= self.settings.kill_after_checkpoint;
        let directories = self.workers.values().map(|worker| worker.join.checkpoint_dir.as_str());
        let claim = Claim::take(directories, computation, self.last_generation + 1);
        let number = claim.generation();
        self.last_generation = number;
        self.meetings.begin();
        let processes = self.workers.len();
        self.journal.note(
            "generation_begun",
            json!({"computation": computation.to_string(), "generation": number, "processes": processes}),
            format_args!("generation {number} begins; processes: {processes}"),
        );
        self.activity = Activity::Generation(Box::new(Generation {
            number,
            phase: Phase::Suspending,
            members: BTreeMap::new(),
            request,
            claim,
            begun: now,
            stopwatch: Stopwatch::start(now),
            last_news: now,
            last_progress: now,
            counts: 0,
            is_stale: false,
        }));
        let clients: Vec<ClientId> = self.workers.keys().copied().collect();
        for client in clients {
            self.ask_to_suspend(client, now);
        }
        self.look_soon(now);
    }

    /// Makes a process take part in the generation, if one is being suspended.
    pub(super) fn ask_to_suspend(&mut self, client: ClientId, now: Instant) {
        let Activity::Generation(generation) = &mut self.activity else { return };
        let Some(worker) = self.workers.get(&client) else { return };
        if !generation.asks_joiners() {
            return;
        }
        generation.last_news = now;
        generation.members.insert(
            client,
            Member { part: Part::Asked, join: worker.join.clone(), name: worker.describe(), progress: (0, 0) },
        );
        let message = FromCoordinator::Checkpoint { generation: generation.number };
        self.send(client, message);
    }

    /// A barrier of a plugin's is news as well.
    pub(super) fn heard_of_generation(&mut self, now: Instant) {
        match &mut self.activity {
            Activity::Generation(generation) => generation.last_news = now,
            Activity::Restart(restart) => restart.heard(now),
            Activity::Running | Activity::Ending(_) => {}
        }
    }

    /// The member and its generation, if the message is about the one under way; a late one is nobody's fault.
    fn member(&mut self, client: ClientId, number: u64, now: Instant) -> Option<(Phase, &mut Member)> {
        let Activity::Generation(generation) = &mut self.activity else { return None };
        if generation.number != number {
            return None;
        }
        generation.last_news = now;
        Some((generation.phase, generation.members.get_mut(&client)?))
    }

    pub(super) fn suspended(&mut self, client: ClientId, number: u64, now: Instant) {
        self.stops_by_itself(client);
        let Some((phase, member)) = self.member(client, number, now) else { return };
        if let Part::Asked = member.part {
            member.part = if phase == Phase::Suspending { Part::Suspended } else { Part::Missing };
            self.advance_generation(now);
        }
    }

    /// A member has found all its children, or lacked one.
    pub(super) fn counted(&mut self, client: ClientId, number: u64, found_all: bool, now: Instant) {
        let Some((phase, member)) = self.member(client, number, now) else { return };
        if let (Phase::Counting, Part::Suspended) = (phase, &member.part) {
            member.part = if found_all { Part::Counted } else { Part::Missing };
            self.advance_generation(now);
        }
    }

    pub(super) fn progress(&mut self, client: ClientId, done: u64, total: u64, now: Instant) {
        let (askers, done, total) = match &mut self.activity {
            Activity::Generation(generation) => {
                generation.last_news = now;
                if let Some(member) = generation.members.get_mut(&client) {
                    member.progress = (done, total);
                }
                if now.duration_since(generation.last_progress) < PROGRESS {
                    return;
                }
                generation.last_progress = now;
                let sum = generation.members.values().fold((0, 0), |sum: (u64, u64), member| {
                    (sum.0.saturating_add(member.progress.0), sum.1.saturating_add(member.progress.1))
                });
                (generation.request.waiting.clone(), sum.0, sum.1)
            }
            Activity::Restart(restart) => {
                restart.heard(now);
                return;
            }
            Activity::Running | Activity::Ending(_) => return,
        };
        for asker in askers {
            if let Asker::Client(client) = asker {
                self.send(client, FromCoordinator::Progress { done, total });
            }
        }
    }

    pub(super) fn written(&mut self, client: ClientId, written: Written, now: Instant) {
        let number = written.generation;
        let Some((phase, member)) = self.member(client, number, now) else { return };
        match (phase, &member.part) {
            (Phase::Writing, Part::Counted) => {
                member.part = Part::Written(written);
                self.advance_generation(now);
            }
            _ => self.failed(client, number, "it announced an image before all processes were stopped", &[], now),
        }
    }

    pub(super) fn synced(&mut self, client: ClientId, number: u64, stages: Vec<(String, u64)>, now: Instant) {
        let Some((_, member)) = self.member(client, number, now) else { return };
        if let Part::Written(written) = &member.part {
            let mut written = written.clone();
            written.stages.extend(stages);
            if written.background {
                // Nobody knew before; if it cannot be looked at from here, nobody knows now.
                written.bytes = std::fs::metadata(&written.path).map_or(written.bytes, |meta| meta.blocks() * 512);
            }
            member.part = Part::Synced(written);
            self.advance_generation(now);
        }
    }

    /// These processes stand still behind their images, which are brought to the disk without them.
    pub(crate) fn stand_still(&mut self, clients: impl Iterator<Item = ClientId>, now: Instant) {
        let Activity::Generation(generation) = &mut self.activity else { return };
        if !generation.lets_run_on() {
            return;
        }
        for client in clients {
            let Some(member) = generation.members.get_mut(&client) else { continue };
            if let Part::Written(written) = &member.part
                && !written.background
            {
                member.part = Part::Left(written.clone());
            }
        }
        self.advance_generation(now);
    }

    /// A worker says that the generation cannot be.
    pub(super) fn failed(&mut self, client: ClientId, number: u64, reason: &str, recent: &[String], now: Instant) {
        let Some((_, member)) = self.member(client, number, now) else { return };
        let reason = format!("{}: {reason}", member.name);
        let mut told = reason.clone();
        if !recent.is_empty() {
            told += "\nthe last lines of its log:";
            told.extend(recent.iter().take(MOST_LINES).flat_map(|line| ["\n  ", line]));
        }
        self.abort_and_tell(&reason, told, now);
    }

    /// A worker's connection ended while a generation is under way.
    pub(super) fn left_generation(&mut self, client: ClientId, worker: &Worker, now: Instant) {
        let Activity::Generation(generation) = &mut self.activity else { return };
        generation.last_news = now;
        let Some(member) = generation.members.get_mut(&client) else { return };
        match &member.part {
            Part::Asked => {
                generation.members.remove(&client);
                // It may be executing a program again, and nobody has been told to look for it.
                generation.is_stale |= generation.phase == Phase::Counting;
            }
            Part::Suspended | Part::Counted | Part::Missing => {
                let reason = format!("{} ended before its image was written", worker.describe());
                return self.abort_generation(&reason, now);
            }
            Part::Written(written) if written.background => {
                let reason = format!("{} ended while its image was written in the background", worker.describe());
                return self.abort_generation(&reason, now);
            }
            Part::Written(written) => member.part = Part::Left(written.clone()),
            Part::Synced(_) | Part::Left(_) => {}
        }
        self.advance_generation(now);
    }

    pub(super) fn check_generation_limit(&mut self, now: Instant) {
        let Activity::Generation(generation) = &self.activity else { return };
        let deadline = generation.deadline(&self.settings.limits);
        if now < deadline {
            return;
        }
        if generation.members.is_empty() {
            return self.abort_generation("all processes ended before they stopped", now);
        }
        let seconds = deadline.duration_since(generation.last_news).as_secs();
        let (what, names) = generation.missing();
        let reason = format!("waited {seconds} s without news for {} to {what}", names.join(", "));
        self.abort_generation(&reason, now);
    }

    /// Goes on to the next phase once every member has done its part of this one.
    fn advance_generation(&mut self, now: Instant) {
        let Activity::Generation(generation) = &mut self.activity else { return };
        if generation.members.is_empty() {
            // The only process may be in the middle of an exec: then it joins again in a moment, and takes part.
            return self.check_generation_limit(now);
        }
        if generation.members.values().any(|member| generation.is_late(&member.part)) {
            return self.check_meetings(now);
        }
        let (number, phase) = (generation.number, generation.phase);
        let missing = generation.members.values().filter(|member| matches!(member.part, Part::Missing));
        let missing: Vec<&str> = missing.map(|member| member.name.as_str()).collect();
        let is_incomplete = !missing.is_empty() || generation.is_stale;
        let (barrier, next) = match phase {
            Phase::Counting if is_incomplete && generation.counts >= MOST_COUNTS => {
                let names =
                    if missing.is_empty() { String::new() } else { format!(" (at last {})", missing.join(", ")) };
                let reason = format!(
                    "each of {MOST_COUNTS} times that processes were counted, some were executing programs, \
                     or lacked relatives that were{names}"
                );
                return self.abort_generation(&reason, now);
            }
            Phase::Suspending => (Barrier::Suspended, Phase::Counting),
            Phase::Counting if is_incomplete => (Barrier::Suspended, Phase::Counting),
            Phase::Counting => {
                generation.stopwatch.end_phase("suspend", now);
                (Barrier::Counted, Phase::Writing)
            }
            Phase::Writing => {
                generation.stopwatch.end_phase("capture", now);
                (Barrier::Written, Phase::Syncing)
            }
            Phase::Syncing => {
                generation.stopwatch.end_phase("sync", now);
                return self.commit_generation(now);
            }
        };
        generation.phase = next;
        if next == Phase::Counting {
            generation.counts += 1;
            generation.is_stale = false;
            generation.members.values_mut().for_each(|member| member.part = Part::Suspended);
        }
        let processes = generation.members.len() as u32;
        let ends = next == Phase::Syncing && generation.request.kill;
        let clients: Vec<ClientId> = generation.members.keys().copied().collect();
        // They are asked for at the first barrier.
        let is_counting = next == Phase::Counting;
        let neighbours = if is_counting { self.neighbours() } else { BTreeMap::new() };
        let mut strays = if is_counting { self.strays(now) } else { BTreeMap::new() };
        let mut messages = Vec::new();
        for client in clients {
            if let Some(Worker { join, .. }) = self.workers.get(&client) {
                let neighbours = neighbours.get(&join.host).cloned().unwrap_or_default();
                // One of each host looks for them.
                let strays = strays.remove(join.host.as_str()).unwrap_or_default();
                let message =
                    FromCoordinator::Passed { generation: number, barrier, processes, neighbours, strays, ends };
                messages.push((client, message));
            }
        }
        for (client, message) in messages {
            self.send(client, message);
        }
        if next == Phase::Syncing {
            self.welcome_held(now);
            // All members may have left already.
            self.advance_generation(now);
        }
    }
}
