//! A restart: dmtcp_restart announces it, the processes come back, pass two barriers, and go on.
//!
//! ```text
//!   Restart{computation, generation, processes}   -> Welcome (or Refused)
//!   Join{restarted} from each                     -> Welcome
//!   Reached(Restarted) from all                   -> Passed(Restarted) to all
//!   Reached(Resumed) from all                     -> Passed(Resumed) to all, Restarted to dmtcp_restart
//! ```
//! Whatever goes wrong ends the attempt as a whole: half a computation is of no use to anybody.

use super::timing::Stopwatch;
use super::{Activity, ClientId, Computation, Limits, Worker};
use dmtcp_launcher::report;
use dmtcp_protocol::message::{Barrier, ComputationId, FromCoordinator, Join, Timings};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

/// How far one process is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Joined,
    Restarted,
    Resumed,
}

/// A restart under way.
pub(super) struct Restart {
    computation: ComputationId,
    generation: u64,
    expected: u32,
    restarters: Vec<ClientId>,
    pub(super) members: BTreeMap<ClientId, Part>,
    last_news: Instant,
    stopwatch: Stopwatch,
    /// What dmtcp_restart has told.
    told: Timings,
}

impl Restart {
    /// Something was heard of the restart.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_news = now;
    }

    /// dmtcp_restart has done its part.
    pub(super) fn restarter_left(&mut self, client: ClientId) {
        self.restarters.retain(|restarter| *restarter != client);
    }

    /// When the restart is given up for want of news.
    pub(super) fn deadline(&self, limits: &Limits) -> Instant {
        self.last_news
            + match (self.members.is_empty(), self.is_complete()) {
                (true, _) if self.restarters.is_empty() => limits.orphaned_restart,
                // All memory stands when the first one comes: who is missing now has most likely ended.
                (false, false) => limits.rejoin,
                _ => limits.restart,
            }
    }

    /// Those who wait for the end of the restart.
    pub(super) fn restarters(&self) -> Vec<ClientId> {
        self.restarters.clone()
    }

    /// The generation that is restarted.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether all processes are there.
    pub(super) fn is_complete(&self) -> bool {
        self.members.len() == self.expected as usize
    }

    /// Each process, and whether its RESTART hooks are behind it.
    pub(super) fn progress_of_hooks(&self) -> BTreeMap<ClientId, bool> {
        self.members.iter().map(|(client, part)| (*client, *part == Part::Resumed)).collect()
    }

    fn is(&self, computation: ComputationId, generation: u64) -> bool {
        self.computation == computation && self.generation == generation
    }
}

impl Computation {
    pub(super) fn announce_restart(
        &mut self,
        client: ClientId,
        computation: ComputationId,
        told: Timings,
        now: Instant,
    ) {
        let (generation, processes) = (told.generation, told.processes);
        if self.workers.contains_key(&client) {
            return self.refuse(client, "a process of a computation cannot announce a restart");
        }
        if processes == 0 {
            return self.refuse(client, "a restart of no processes was announced");
        }
        let welcome = |since| FromCoordinator::Welcome { computation, peers: processes, since, asks: false };
        match &mut self.activity {
            Activity::Restart(restart) if restart.is(computation, generation) && restart.expected == processes => {
                restart.restarters.push(client);
                restart.heard(now);
                return self.send(client, welcome(self.since));
            }
            // An attempt that ended before any process came back does not stand in the way of the next.
            Activity::Restart(restart) if restart.restarters.is_empty() && restart.members.is_empty() => {}
            Activity::Restart(restart) => {
                let reason = format!(
                    "the restart of generation {} of {} ({} processes) is under way here; \
                     use another coordinator: --new-coordinator --coord-port 0",
                    restart.generation, restart.computation, restart.expected
                );
                return self.refuse(client, &reason);
            }
            Activity::Ending(_) => return self.refuse(client, "the computation before is being killed; try again"),
            Activity::Running | Activity::Generation(_) => {}
        }
        if let (false, Some(active)) = (self.workers.is_empty(), self.id) {
            let what = if active == computation { "the computation itself" } else { "another computation" };
            let reason = format!(
                "{what} is active here ({active}, {} processes); end it with dmtcp_command --kill, \
                 or use another coordinator: --new-coordinator --coord-port 0",
                self.workers.len()
            );
            return self.refuse(client, &reason);
        }
        self.journal.note(
            "restart_begun",
            json!({"computation": computation.to_string(), "generation": generation, "processes": processes}),
            format_args!("restart of {processes} processes from generation {generation}"),
        );
        self.linger = None;
        self.id = Some(computation);
        self.begin_anew();
        self.meetings.begin();
        self.last_generation = generation;
        self.committed = generation;
        self.last_timings = None;
        self.restart_timings = None;
        self.asked_interval = 0;
        self.interval = self.settings.interval;
        self.activity = Activity::Restart(Restart {
            computation,
            generation,
            expected: processes,
            restarters: vec![client],
            members: BTreeMap::new(),
            last_news: now,
            stopwatch: Stopwatch::start(now),
            told,
        });
        self.send(client, welcome(self.since));
    }

    pub(super) fn join_restarted(
        &mut self,
        client: ClientId,
        join: Join,
        computation: ComputationId,
        generation: u64,
        now: Instant,
    ) {
        let Activity::Restart(restart) = &mut self.activity else {
            return self
                .refuse(client, "no restart was announced here; start processes from images with dmtcp_restart");
        };
        if !restart.is(computation, generation) {
            let reason = format!(
                "generation {} of {} is being restarted here, not generation {generation} of {computation}",
                restart.generation, restart.computation
            );
            return self.refuse(client, &reason);
        }
        if self.workers.values().any(|worker| worker.join.process == join.process) {
            return self.refuse(client, "this process is back already: its image was restarted twice");
        }
        if restart.members.len() >= restart.expected as usize {
            return self.refuse(client, "all processes of the restart are back already");
        }
        restart.members.insert(client, Part::Joined);
        restart.heard(now);
        if restart.members.len() == restart.expected as usize {
            restart.stopwatch.end_phase("place", now);
        }
        self.welcome(client, join, now);
    }

    pub(super) fn reached_in_restart(&mut self, client: ClientId, number: u64, barrier: Barrier, now: Instant) {
        let Activity::Restart(restart) = &mut self.activity else { return };
        if restart.generation != number {
            return;
        }
        restart.heard(now);
        let Some(part) = restart.members.get_mut(&client) else { return };
        let next = match (*part, barrier) {
            (Part::Joined, Barrier::Restarted) => Part::Restarted,
            (Part::Restarted, Barrier::Resumed) => Part::Resumed,
            _ => return,
        };
        *part = next;
        if !restart.is_complete() || !restart.members.values().all(|part| *part == next) {
            return self.check_meetings(now);
        }
        let processes = restart.expected;
        restart.stopwatch.end_phase(if next == Part::Resumed { "resume" } else { "rejoin" }, now);
        self.send_to_workers(&FromCoordinator::Passed {
            generation: number,
            barrier,
            processes,
            neighbours: Vec::new(),
            strays: Vec::new(),
            ends: false,
        });
        if next == Part::Resumed {
            self.counts.restarted += 1;
            if let Activity::Restart(mut restart) = std::mem::replace(&mut self.activity, Activity::Running) {
                self.meetings.restored(restart.generation, restart.members.keys().copied());
                let Timings { generation, processes, bytes, stages, .. } = restart.told;
                let timings = Timings { bytes, stages, ..restart.stopwatch.finish(generation, processes, now) };
                let message = format!("restarted {}", report::timings(&timings));
                self.journal.note("restarted", report::timings_json(&timings), message);
                self.restart_timings = Some(timings);
                for restarter in restart.restarters {
                    self.send(restarter, FromCoordinator::Restarted);
                }
            }
            self.run_on(now);
        }
    }

    pub(super) fn left_restart(&mut self, worker: &Worker, now: Instant) {
        let reason = format!("{} ended while it was restarted", worker.describe());
        self.abort_restart(&reason, now);
    }

    pub(super) fn check_restart_limit(&mut self, now: Instant) {
        let Activity::Restart(restart) = &self.activity else { return };
        let deadline = restart.deadline(&self.settings.limits);
        if now < deadline {
            return;
        }
        let seconds = deadline.duration_since(restart.last_news).as_secs();
        let came = restart.members.len() as u32;
        let reason = if came < restart.expected {
            format!("waited {seconds} s without news for {} processes; {came} have come back", restart.expected)
        } else {
            let least = restart.members.values().min().copied();
            let barrier = if least == Some(Part::Joined) { "Restarted" } else { "Resumed" };
            let names: Vec<String> = restart
                .members
                .iter()
                .filter(|(_, part)| Some(**part) == least)
                .filter_map(|(client, _)| Some(self.workers.get(client)?.describe()))
                .collect();
            format!("waited {seconds} s without news for {} to come to the barrier {barrier}", names.join(", "))
        };
        self.abort_restart(&reason, now);
    }

    pub(super) fn abort_restart(&mut self, reason: &str, now: Instant) {
        let Activity::Restart(restart) = std::mem::replace(&mut self.activity, Activity::Running) else { return };
        self.end_meetings(reason);
        self.journal.warn("restart_failed", json!({"reason": reason}), format_args!("the restart failed: {reason}"));
        for restarter in restart.restarters {
            self.refuse(restarter, reason);
        }
        self.kill(None, None, now);
    }
}
