//! The common flow of a case, and its end.

use super::{PATIENCE, Scenario, enter, stage, text};
use crate::progress::Bounds;
use crate::restart::Restart;
use crate::wait;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Instant;

impl Scenario {
    /// From now on, standard input is this file, which the test opens, for reading and appending.
    pub fn input_from(&mut self, file: &Path) {
        self.input = Some(file.into());
    }

    /// Three generations: each is checkpointed, works on, is killed, and is restarted in another way.
    pub fn three_generations(&mut self, steps: u64) -> Result<()> {
        self.generations(&[Restart::images(), Restart::script(), Restart::images().moved()], steps)
    }

    /// One generation for each way to restart, with `steps` steps to see before and after each action.
    pub fn generations(&mut self, ways: &[Restart], steps: u64) -> Result<()> {
        self.launch()?;
        self.see_steps(steps)?;
        for how in ways {
            self.checkpoint()?;
            self.see_steps(steps)?;
            self.kill_sparing(how.same_coordinator)?;
            self.restart(how)?;
            self.see_steps(steps)?;
        }
        Ok(())
    }

    /// A blocking checkpoint that is committed in so many seconds.
    pub fn checkpoint_within(&mut self, seconds: u64) -> Result<()> {
        let start = Instant::now();
        self.checkpoint()?;
        let took = start.elapsed();
        println!("{}: {took:?}", stage());
        ensure!(took < wait::limit(seconds), "{} took {took:?}, more than {seconds} s", stage());
        Ok(())
    }

    /// A checkpoint with which everything ends, the coordinator too.
    pub fn checkpoint_and_end(&mut self) -> Result<()> {
        enter(format!("checkpoint {} and end", self.generation + 1));
        self.healthy()?;
        let before = self.progress().last();
        let answer = self.ask(&["kc"])?;
        ensure!(answer.status.success(), "dmtcp_command kc: {}: {}", answer.status, text(&answer));
        self.wait_end()?;
        let after = self.progress().last();
        self.bounds.truncate(self.generation);
        self.bounds.push(Bounds { before, after });
        self.kill()
    }

    /// Go back to the first checkpoint, whose images are in `images`, so that it can be restarted once more. `log` is
    /// what the program had written when it was killed.
    pub fn rewind(&mut self, images: &Path, log: &[u8]) -> Result<()> {
        self.images = images.to_path_buf();
        self.generation = 0;
        self.bounds.truncate(1);
        if !self.steps_on_stdout {
            fs::write(self.log(), log)?;
        }
        Ok(())
    }

    /// Wait for the first process to end.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        self.wait_end_within(PATIENCE)
    }

    /// Wait that many seconds for the first process to end.
    pub fn wait_end_within(&mut self, seconds: u64) -> Result<ExitStatus> {
        let mut front = self.front.take().context("nothing runs")?;
        let ended = wait::until(seconds, &format!("the program to end ({})", stage()), || {
            self.progress().complaint()?;
            Ok(front.try_wait()?)
        });
        if ended.is_err() {
            self.front = Some(front);
        }
        ended
    }

    /// Tell the program to stop, and check its exit status, its own verdict, and all of its steps.
    pub fn finish(&mut self, status: i32) -> Result<()> {
        enter("finish".into());
        File::create(self.path("stop"))?;
        let ended = self.wait_end()?;
        self.progress().complaint()?;
        ensure!(ended.code() == Some(status), "the program ended with {ended}, not with exit status {status}");
        ensure!(!self.progress().find("DONE").is_empty(), "the program ended without its verdict (DONE)");
        let _ = fs::remove_file(self.path("stop"));
        self.prove()
    }

    /// Check all steps so far: none lost, none repeated, none out of order.
    pub fn prove(&self) -> Result<()> {
        self.progress().prove(&self.bounds)
    }
}
