//! Who is waited for and may stand still (SIGSTOP): a process that does can neither stop its threads nor end itself as asked.
//!
//! Such a process is continued, and stands still again when it has done its part. Somebody who continues it meanwhile is
//! not noticed: so a member of the computation is first given time to stop, after which it continues nobody. Behind the
//! image the others run on and may have stopped the process themselves: it is left alone, for nobody needs it any more.

use super::{Activity, ClientId, Computation, Effect};
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
}
