//! Who is waited for and may stand still (SIGSTOP): a process that does can neither stop its threads nor end itself as asked.
//!
//! Such a process is continued, and stands still again when it has done its part. Somebody who continues it meanwhile is
//! not noticed: so a member of the computation is first given time to stop, after which it continues nobody. Behind the
//! image the others run on and may have stopped the process themselves: it is left alone, for nobody needs it any more.
//!
//! One that was continued may execute a program before its threads are stopped, and the new program does not know that it
//! is to stand still: it is told so when it joins.

use super::{Activity, ClientId, Computation, DEPARTED, Effect};
use dmtcp_protocol::message::FromCoordinator;
use std::time::{Duration, Instant};

/// Who has not done within this time what was asked may stand still.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at that.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// So long those who do not stand still are given the time to stop first. Some cannot: they wait for one that stands still.
const STOP_FIRST: Duration = Duration::from_secs(2);

impl Computation {
    /// Something was asked of processes: whoever does not do it will be looked at.
    pub(super) fn look_soon(&mut self, now: Instant) {
        self.look = Some(now + LOOK);
    }

    /// Has those looked at who are waited for.
    pub(super) fn look_for_the_stopped(&mut self, now: Instant) {
        let mut others_may_run = false;
        let waited_for: Vec<ClientId> = match &self.activity {
            Activity::Running | Activity::Restart(_) => return self.look = None,
            Activity::Generation(generation) => {
                others_may_run = now < generation.begun() + STOP_FIRST;
                generation.late()
            }
            Activity::Ending(_) => self.workers.keys().copied().collect(),
        };
        self.look = Some(now + LOOK_AGAIN);
        if waited_for.is_empty() {
            return;
        }
        self.effects.push(match &self.activity {
            Activity::Generation(generation) if generation.lets_run_on() => Effect::LookForStopped(waited_for),
            _ => Effect::Awaken { clients: waited_for, unless_others_run: others_may_run },
        });
    }

    /// The server has continued a process that stood still.
    pub(crate) fn continued(&mut self, client: ClientId) {
        if let Some(worker) = self.workers.get_mut(&client) {
            worker.continued = true;
        }
    }

    /// A process has stopped its threads: it cannot execute a program before it stands still again.
    pub(super) fn stops_by_itself(&mut self, client: ClientId) {
        if let Some(worker) = self.workers.get_mut(&client) {
            worker.continued = false;
        }
    }

    /// A generation is over: who was continued for it has been told so, and stands still again.
    pub(super) fn all_stop_by_themselves(&mut self) {
        self.workers.values_mut().for_each(|worker| worker.continued = false);
    }

    /// Tells a process that joins that it is to stand still, if it was continued before it executed its program.
    pub(super) fn have_stand_still_again(&mut self, client: ClientId, now: Instant) {
        let asked = self.asks_joiners();
        let Some(worker) = self.workers.get_mut(&client) else { return };
        let before = self.departed.iter_mut().find(|departed| {
            departed.continued
                && now.duration_since(departed.at) < DEPARTED
                && departed.host == worker.join.host
                && departed.real_pid == worker.join.real_pid
        });
        let Some(before) = before else { return };
        before.continued = false;
        worker.continued = asked;
        self.send(client, FromCoordinator::Continued);
    }
}
