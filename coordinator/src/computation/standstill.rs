//! Who is waited for and may stand still (SIGSTOP): a process that does can neither stop its threads nor end itself as asked.

use super::{Activity, ClientId, Computation, Effect};
use std::time::{Duration, Instant};

/// Who has not done within this time what was asked may stand still.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at that.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Computation {
    /// Something was asked of processes: whoever does not do it will be looked at.
    pub(super) fn look_soon(&mut self, now: Instant) {
        self.look = Some(now + LOOK);
    }

    /// Has those looked at who are waited for.
    pub(super) fn look_for_the_stopped(&mut self, now: Instant) {
        let waited_for: Vec<ClientId> = match &self.activity {
            Activity::Running | Activity::Restart(_) => return self.look = None,
            Activity::Generation(generation) => generation.late(),
            Activity::Ending(_) => self.workers.keys().copied().collect(),
        };
        self.look = Some(now + LOOK_AGAIN);
        if !waited_for.is_empty() {
            self.effects.push(Effect::Awaken(waited_for));
        }
    }
}
