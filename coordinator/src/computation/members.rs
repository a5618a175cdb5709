//! Who belongs to the computation: joining, waiting for the welcome, coming back after an exec or under a new coordinator.

use super::{Activity, ClientId, Computation, DEPARTED, Worker};
use dmtcp_protocol::message::{ComputationId, FromCoordinator, Join, Outcome};
use std::collections::BTreeMap;
use std::time::Instant;

impl Computation {
    pub(super) fn join(&mut self, client: ClientId, join: Join, now: Instant) {
        if self.workers.contains_key(&client) || self.held.iter().any(|(held, _)| *held == client) {
            return self.refuse(client, "this connection has joined already");
        }
        if let Some((computation, generation)) = join.restarted {
            return self.join_restarted(client, join, computation, generation, now);
        }
        match &self.activity {
            Activity::Ending(_) => self.refuse(client, "the computation is being killed"),
            Activity::Restart(_) => self.held.push_back((client, join)),
            Activity::Generation(generation) if generation.holds_joiners() => self.held.push_back((client, join)),
            Activity::Running | Activity::Generation(_) if self.is_of_another(&join) => self.refuse(
                client,
                "another computation has begun here since its coordinator ended; \
                 when that is over, the process will be welcome",
            ),
            Activity::Running | Activity::Generation(_) => {
                self.welcome(client, join, now);
                if self.awaited.take().is_some()
                    && let Some(request) = self.queued.take()
                {
                    return self.begin_generation(request, now);
                }
                self.ask_to_suspend(client, now);
                self.have_stand_still_again(client, now);
            }
        }
    }

    /// Makes a process a member, of a new computation if it is the first.
    pub(super) fn welcome(&mut self, client: ClientId, join: Join, now: Instant) {
        self.linger = None;
        if self.workers.is_empty() && join.restarted.is_none() && !self.comes_back(&join, now) {
            self.id = None;
            self.begin_anew();
            self.last_generation = 0;
            self.committed = 0;
            self.last_timings = None;
            self.restart_timings = None;
            self.asked_interval = 0;
            self.interval = self.settings.interval;
            if let Some((computation, generation)) = join.member_of {
                // Its coordinator has ended; the computation goes on with this one.
                self.id = Some(computation);
                self.last_generation = generation;
                self.committed = generation;
            }
        }
        if let Some((_, generation)) = join.member_of {
            self.last_generation = self.last_generation.max(generation);
        }
        let computation = match self.id {
            Some(id) => id,
            None => match random_id() {
                Ok(id) => *self.id.insert(id),
                Err(error) => return self.refuse(client, &format!("the kernel gave no random bytes: {error}")),
            },
        };
        if join.restarted.is_none() && join.interval != 0 && join.interval != self.asked_interval {
            self.asked_interval = join.interval;
            self.interval = join.interval;
            self.next_checkpoint = None;
        }
        let worker = Worker { number: self.next_number, join, continued: false };
        self.next_number += 1;
        self.journal.note("joined", worker.fields(), format_args!("{} joined", worker.describe()));
        self.workers.insert(client, worker);
        if self.next_checkpoint.is_none() {
            self.schedule(now);
        }
        let (peers, since, asks) = (self.workers.len() as u32, self.since, self.asks_joiners());
        self.send(client, FromCoordinator::Welcome { computation, peers, since, asks });
    }

    /// Whether who joins now is asked to stop at once.
    pub(super) fn asks_joiners(&self) -> bool {
        match &self.activity {
            Activity::Generation(generation) => generation.asks_joiners(),
            Activity::Running => self.awaited.is_some() && self.queued.is_some(),
            Activity::Restart(_) | Activity::Ending(_) => false,
        }
    }

    /// Whether a process that has lost its coordinator belongs to another computation than those that are here.
    fn is_of_another(&self, join: &Join) -> bool {
        !self.workers.is_empty() && join.member_of.is_some_and(|(computation, _)| self.id != Some(computation))
    }

    /// Whether the first to join is one that has just left: it has executed another program.
    fn comes_back(&self, join: &Join, now: Instant) -> bool {
        self.departed.iter().any(|departed| {
            now.duration_since(departed.at) < DEPARTED
                && departed.host == join.host
                && (departed.process == join.process || departed.virtual_pid == join.virtual_pid)
        })
    }

    /// Real pids of those that have just left, by host: each may be executing a program.
    pub(super) fn strays(&self, now: Instant) -> BTreeMap<&str, Vec<i32>> {
        let mut strays: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for departed in self.departed.iter().filter(|departed| now.duration_since(departed.at) < DEPARTED) {
            strays.entry(&departed.host).or_default().push(departed.real_pid);
        }
        for pids in strays.values_mut() {
            pids.sort_unstable();
            pids.dedup();
        }
        strays
    }

    /// Until when it is waited for the only process, which may have left in order to execute a program.
    pub(super) fn may_come_back(&self, now: Instant) -> Option<Instant> {
        let last = self.departed.back().filter(|_| self.workers.is_empty())?;
        Some(last.at + self.settings.limits.exec).filter(|due| now < *due)
    }

    /// Nobody has come back.
    pub(super) fn end_waiting(&mut self) {
        self.awaited = None;
        if let Some(request) = self.queued.take() {
            self.answer_all(request.waiting, &Outcome::NotRunning);
        }
    }

    pub(super) fn welcome_held(&mut self, now: Instant) {
        for (client, join) in std::mem::take(&mut self.held) {
            self.welcome(client, join, now);
            self.have_stand_still_again(client, now);
        }
    }
}

fn random_id() -> Result<ComputationId, getrandom::Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(ComputationId(u128::from_le_bytes(bytes)))
}
