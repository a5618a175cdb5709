//! What people ask: status, list, checkpoint, kill, quit, interval.

use super::generation::{Part, Phase};
use super::{Activity, Asker, Computation, Effect, Ending, Request, restart};
use dmtcp_protocol::message::{Barrier, Command, FromCoordinator, Outcome, Status, Worker as Row};
use std::time::Instant;

impl Computation {
    /// Carries a command out; the outcome goes to the asker, at once or when it is known.
    pub fn command(&mut self, asker: Asker, command: Command, now: Instant) {
        let done = Outcome::Done { generation: None, notes: Vec::new() };
        match command {
            Command::Status => self.answer(asker, Outcome::Status(Box::new(self.status()))),
            Command::List => self.answer(asker, Outcome::List(self.rows())),
            Command::Interval(seconds) => {
                self.settings.interval = seconds;
                self.interval = seconds;
                self.next_checkpoint = None;
                if !self.workers.is_empty() {
                    self.schedule(now);
                }
                self.answer(asker, done);
            }
            Command::Checkpoint { wait, kill } => self.ask_checkpoint(asker, wait, kill, now),
            Command::Kill => self.kill(Some(asker), None, now),
            Command::Quit => self.kill(Some(asker), Some(0), now),
        }
    }

    fn ask_checkpoint(&mut self, asker: Asker, wait: bool, kill: bool, now: Instant) {
        let restarting = matches!(self.activity, Activity::Restart(_) | Activity::Ending(_));
        let awaits = self.may_come_back(now);
        if restarting || (self.workers.is_empty() && awaits.is_none()) {
            return self.answer(asker, Outcome::NotRunning);
        }
        let waiting = if wait { vec![asker] } else { Vec::new() };
        match &mut self.activity {
            Activity::Generation(generation) => {
                // What is captured must not be older than the request: one that is past the first barrier is not joined.
                let request = match generation.phase {
                    Phase::Suspending => &mut generation.request,
                    Phase::Counting | Phase::Writing | Phase::Syncing => self.queued.get_or_insert_default(),
                };
                request.waiting.extend(waiting);
                request.kill |= kill;
            }
            _ if self.workers.is_empty() => {
                let request = self.queued.get_or_insert_default();
                request.waiting.extend(waiting);
                request.kill |= kill;
                self.awaited = awaits;
            }
            _ => self.begin_generation(Request { waiting, kill }, now),
        }
        if !wait {
            self.answer(asker, Outcome::Done { generation: None, notes: Vec::new() });
        }
    }

    /// Tells all processes to end. `exit`: the coordinator ends after them, with that code.
    pub(super) fn kill(&mut self, asker: Option<Asker>, exit: Option<i32>, now: Instant) {
        self.end_waiting();
        if let Activity::Generation(_) = self.activity {
            self.abort_generation("the computation was killed", now);
        }
        if let Activity::Ending(ending) = &mut self.activity {
            ending.askers.extend(asker);
            ending.exit = ending.exit.or(exit);
            return;
        }
        if let Activity::Restart(restart) = &self.activity {
            for restarter in restart.restarters() {
                self.refuse(restarter, "the computation was killed");
            }
        }
        self.send_to_workers(&FromCoordinator::Kill);
        self.look_soon(now);
        let outcome = Outcome::Done { generation: None, notes: Vec::new() };
        self.await_ends(asker.into_iter().collect(), outcome, exit, now);
    }

    /// Waits, for a limited time, until processes have ended that were told to.
    pub(super) fn await_ends(&mut self, askers: Vec<Asker>, outcome: Outcome, exit: Option<i32>, now: Instant) {
        for (client, _) in std::mem::take(&mut self.held) {
            self.refuse(client, "the computation is being killed");
        }
        if let Some(request) = self.queued.take() {
            self.answer_all(request.waiting, &Outcome::NotRunning);
        }
        let deadline = now + self.settings.limits.kill;
        self.activity = Activity::Ending(Ending { askers, outcome, deadline, exit });
        if self.workers.is_empty() {
            self.finish_ending(now);
        }
    }

    /// All have ended, or the time is up.
    pub(super) fn finish_ending(&mut self, now: Instant) {
        let Activity::Ending(ending) = std::mem::replace(&mut self.activity, Activity::Running) else { return };
        let outcome = if self.workers.is_empty() {
            self.departed.clear();
            ending.outcome
        } else {
            let names: Vec<String> = self.workers.values().map(super::Worker::describe).collect();
            Outcome::Failed(format!(
                "waited {} s for {} to end; they are told to end as soon as they can",
                self.settings.limits.kill.as_secs(),
                names.join(", ")
            ))
        };
        self.answer_all(ending.askers, &outcome);
        match ending.exit {
            Some(code) => self.effects.push(Effect::Exit(code)),
            None if self.workers.is_empty() => self.last_left(now),
            None => {}
        }
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        let stopped = match &self.activity {
            Activity::Running => false,
            Activity::Generation(generation) => generation.phase != Phase::Syncing,
            Activity::Restart(_) | Activity::Ending(_) => true,
        };
        let there = !self.workers.is_empty();
        Status {
            host: self.settings.host.clone(),
            port: self.settings.port,
            peers: self.workers.len() as u32,
            running: there && !stopped,
            interval: self.interval,
            computation: self.id.filter(|_| there),
            generation: if there { self.committed } else { 0 },
            checkpoint_dir: self.settings.checkpoint_dir.to_string_lossy().into_owned(),
            last: self.last_timings.clone().filter(|_| there),
            restart: self.restart_timings.clone().filter(|_| there),
        }
    }

    /// What only the person at the console is told: what the coordinator was started with.
    pub fn settings_text(&self, status: &Status) -> String {
        let word = |set: bool| if set { "yes" } else { "no" };
        format!(
            "Settings...\n  Exit on last client: {}\n  Kill after checkpoint: {}\n  Computation Id: {}\n  Checkpoint Dir: {}",
            word(self.settings.exit_on_last),
            word(self.settings.kill_after_checkpoint),
            status.computation.map_or_else(|| "none".into(), |id| id.to_string()),
            status.checkpoint_dir
        )
    }

    /// Who is there.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .workers
            .iter()
            .map(|(client, worker)| {
                let (state, barrier) = match &self.activity {
                    Activity::Running => ("RUNNING", None),
                    Activity::Ending(_) => ("ENDING", None),
                    Activity::Generation(generation) => match generation.members.get(client).map(|member| &member.part)
                    {
                        Some(Part::Asked) => ("PRESUSPEND", None),
                        Some(Part::Counted) if generation.phase == Phase::Writing => ("CHECKPOINTING", None),
                        Some(Part::Suspended | Part::Counted | Part::Missing) => {
                            ("SUSPENDED", Some(Barrier::Suspended))
                        }
                        Some(Part::Written(_)) if generation.phase == Phase::Writing => {
                            ("CHECKPOINTED", Some(Barrier::Written))
                        }
                        _ => ("RUNNING", None),
                    },
                    Activity::Restart(restart) => match restart.members.get(client) {
                        Some(restart::Part::Joined) | None => ("RESTARTING", None),
                        Some(restart::Part::Restarted) => ("RESTARTING", Some(Barrier::Restarted)),
                        Some(restart::Part::Resumed) => ("RESTARTING", Some(Barrier::Resumed)),
                    },
                };
                Row {
                    number: worker.number,
                    program: worker.join.program.clone(),
                    virtual_pid: worker.join.virtual_pid,
                    real_pid: worker.join.real_pid,
                    host: worker.join.host.clone(),
                    process: worker.join.process,
                    state: state.into(),
                    barrier,
                }
            })
            .collect();
        rows.sort_by_key(|row| row.number);
        rows
    }
}
