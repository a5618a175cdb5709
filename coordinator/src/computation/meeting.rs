//! What plugins say to each other: the values that they share, and the barriers at which their hooks wait.
//!
//! ```text
//!   Meet{name} from each of the party   -> Met to all of them
//!   nobody can come any more            -> Met{failure} to those who wait: one has ended or gone on without this barrier,
//!   or no news for too long                or each waits at another one
//! ```
//! The *party* of a barrier is who takes part in the generation or restart under way; after a restart, who came back.
//! Before all have written or come back, a barrier that fails takes the generation or the restart with it: what hooks did
//! not agree on is not fit to be kept. A process that joins later than a barrier was passed passes it at once.

use super::{Activity, ClientId, Computation};
use dmtcp_protocol::message::{ComputationId, FromCoordinator};
use dmtcp_protocol::names::{Answer, LONGEST_NAME, Operation, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A barrier: its name, and the host if it is for one only.
type Place = (String, Option<String>);

/// A process that waits.
struct Waiting {
    ticket: u32,
    place: Place,
}

/// Barriers of plugins.
#[derive(Default)]
pub(super) struct Meetings {
    waiting: BTreeMap<ClientId, Waiting>,
    /// Who was there when a barrier was last passed in this generation.
    passed: BTreeMap<Place, BTreeSet<ClientId>>,
    last_news: Option<Instant>,
    /// Who came back from the last restart, and from which generation.
    restored: Option<(u64, BTreeSet<ClientId>)>,
}

impl Meetings {
    /// A generation or a restart begins.
    pub(super) fn begin(&mut self) {
        self.passed.clear();
        self.restored = None;
    }

    /// A restart is over: its RUNNING hooks may still meet.
    pub(super) fn restored(&mut self, generation: u64, members: impl Iterator<Item = ClientId>) {
        self.restored = Some((generation, members.collect()));
    }
}

/// Who takes part, and how far.
struct Party {
    /// Each, and whether it has gone on past all hooks that could come to a barrier now.
    members: BTreeMap<ClientId, bool>,
    /// Whether all who take part are there already.
    complete: bool,
}

impl Computation {
    pub(super) fn work_on_name(
        &mut self,
        client: ClientId,
        ticket: u32,
        computation: ComputationId,
        database: &str,
        key: &[u8],
        operation: &Operation,
    ) {
        let answer = if self.id == Some(computation) && !self.workers.is_empty() {
            self.names.carry_out(database, key, operation)
        } else {
            Answer::Invalid(format!("computation {computation} is not active here"))
        };
        self.send(client, FromCoordinator::Named { ticket, answer });
    }

    pub(super) fn meet(
        &mut self,
        client: ClientId,
        ticket: u32,
        number: u64,
        name: String,
        scope: Scope,
        now: Instant,
    ) {
        let failure = if name.len() > LONGEST_NAME {
            Some(format!("a barrier's name is {} bytes long; the limit is {LONGEST_NAME}", name.len()))
        } else if self.meetings.waiting.contains_key(&client) {
            Some("the process waits at another barrier already".into())
        } else if self.generation_of_hooks() != Some(number) {
            Some(format!("the checkpoint or restart of generation {number}, which the barrier is in, is over"))
        } else if !self.party().members.contains_key(&client) {
            Some("the process takes no part in the checkpoint or restart under way".into())
        } else {
            None
        };
        if failure.is_some() {
            return self.send(client, FromCoordinator::Met { ticket, failure });
        }
        self.heard_of_generation(now);
        let host = match scope {
            Scope::Computation => None,
            Scope::Host => self.workers.get(&client).map(|worker| worker.join.host.clone()),
        };
        let place = (name, host);
        // Who was not there when it was passed has joined since.
        if let Some(there) = self.meetings.passed.get_mut(&place)
            && there.insert(client)
        {
            return self.send(client, FromCoordinator::Met { ticket, failure: None });
        }
        self.meetings.last_news = Some(now);
        self.meetings.waiting.insert(client, Waiting { ticket, place });
        self.check_meetings(now);
    }

    /// The generation whose hooks may meet now.
    fn generation_of_hooks(&self) -> Option<u64> {
        match &self.activity {
            Activity::Generation(generation) => Some(generation.number()),
            Activity::Restart(restart) => Some(restart.generation()),
            Activity::Running => self.meetings.restored.as_ref().map(|(generation, _)| *generation),
            Activity::Ending(_) => None,
        }
    }

    fn party(&self) -> Party {
        match &self.activity {
            Activity::Generation(generation) => Party { members: generation.progress_of_hooks(), complete: true },
            Activity::Restart(restart) => {
                Party { members: restart.progress_of_hooks(), complete: restart.is_complete() }
            }
            Activity::Running | Activity::Ending(_) => {
                let restored = self.meetings.restored.iter().flat_map(|(_, members)| members);
                let members = restored.filter(|client| self.workers.contains_key(client));
                Party { members: members.map(|client| (*client, false)).collect(), complete: true }
            }
        }
    }

    /// Lets those go on who have all come, and those who wait for somebody who will not.
    pub(super) fn check_meetings(&mut self, now: Instant) {
        if self.meetings.waiting.is_empty() {
            return;
        }
        let party = self.party();
        self.meetings.waiting.retain(|client, _| party.members.contains_key(client));
        let places: BTreeSet<Place> = self.meetings.waiting.values().map(|waiting| waiting.place.clone()).collect();
        for place in places {
            let invited: BTreeSet<ClientId> =
                party.members.keys().copied().filter(|client| self.is_invited(*client, &place)).collect();
            let come = |client: &ClientId| self.meetings.waiting.get(client).is_some_and(|w| w.place == place);
            if party.complete && invited.iter().all(come) {
                self.let_go(|waiting| waiting.place == place, None);
                self.meetings.passed.insert(place, invited);
            }
        }
        let stuck = |(client, past): (&ClientId, &bool)| *past || self.meetings.waiting.contains_key(client);
        if !self.meetings.waiting.is_empty() && party.complete && party.members.iter().all(stuck) {
            self.fail_meetings("not every process comes to the same barriers", now);
        }
    }

    fn is_invited(&self, client: ClientId, place: &Place) -> bool {
        let host = self.workers.get(&client).map(|worker| &worker.join.host);
        place.1.is_none() || place.1.as_ref() == host
    }

    fn let_go(&mut self, which: impl Fn(&Waiting) -> bool, failure: Option<&str>) {
        let going: Vec<(ClientId, u32)> =
            self.meetings.waiting.iter().filter(|(_, w)| which(w)).map(|(client, w)| (*client, w.ticket)).collect();
        for (client, ticket) in going {
            self.meetings.waiting.remove(&client);
            self.send(client, FromCoordinator::Met { ticket, failure: failure.map(Into::into) });
        }
    }

    /// Whoever waits at a barrier of what is over waits no longer.
    pub(super) fn end_meetings(&mut self, reason: &str) {
        self.let_go(|_| true, Some(reason));
    }

    /// When a barrier is given up for want of news.
    pub(super) fn meeting_deadline(&self) -> Option<Instant> {
        let waits = !self.meetings.waiting.is_empty();
        self.meetings.last_news.filter(|_| waits).map(|news| news + self.settings.limits.meet)
    }

    pub(super) fn check_meeting_limit(&mut self, now: Instant) {
        if self.meeting_deadline().is_some_and(|deadline| now >= deadline) {
            let seconds = self.settings.limits.meet.as_secs();
            self.fail_meetings(&format!("waited {seconds} s"), now);
        }
    }

    /// Who waits where for whom, in one sentence.
    fn fail_meetings(&mut self, why: &str, now: Instant) {
        let party = self.party();
        let names = |clients: &mut dyn Iterator<Item = &ClientId>| {
            let names: Vec<String> = clients.filter_map(|client| Some(self.workers.get(client)?.describe())).collect();
            names.join(", ")
        };
        let mut at: BTreeMap<&Place, Vec<&ClientId>> = BTreeMap::new();
        for (client, waiting) in &self.meetings.waiting {
            at.entry(&waiting.place).or_default().push(client);
        }
        let places: Vec<String> = at
            .iter()
            .map(|(place, here)| {
                let mut missing =
                    party.members.keys().filter(|client| self.is_invited(**client, place) && !here.contains(client));
                let here = names(&mut here.iter().copied());
                format!("at barrier '{}' {here} waits for {}", place.0, names(&mut missing))
            })
            .collect();
        let reason = format!(
            "{why}: {}; each process must come to each barrier: load the plugin in all of them",
            places.join("; ")
        );
        self.journal.warn("barrier_failed", serde_json::json!({"reason": reason}), &reason);
        match &self.activity {
            Activity::Generation(generation) if generation.holds_hooks() => self.abort_generation(&reason, now),
            Activity::Restart(_) => self.abort_restart(&reason, now),
            _ => self.end_meetings(&reason),
        }
    }
}
