//! Runs cases, each in a process of its own, under the usual command line of `cargo test`.
//!
//! The process of a case adopts all orphans below it, has a time limit, and kills whatever it started before it ends.
//! Threads of one test process could not do that: they could not tell their descendants apart.
//!
//! Environment: `DMTCP_TEST_BIN` names the directory of the programs under test, `DMTCP_TEST_KEEP` keeps the
//! directories of cases that passed, `DMTCP_TEST_NATIVE` runs the programs without the tool (only cases that follow
//! the common flow), `DMTCP_TEST_PATIENCE` stretches all limits. `DMTCP_TEST_FORBID` is what `DMTCP_FORBID` is for all cases.

use crate::case::Case;
use crate::identity::RunAs;
use crate::process::{self, Pids};
use crate::scenario::{Scenario, stage};
use crate::wait;
use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

/// Names the case that this process is to run.
const CASE: &str = "DMTCP_TEST_CASE";

/// Exit status of the process of a case that was to restart with translated ids, and has restarted nothing.
const NOTHING_RESTARTED: u8 = 77;

/// The whole of a test file's main function.
pub fn main(cases: Vec<Case>) -> ExitCode {
    if let Ok(wanted) = std::env::var(CASE) {
        return run_alone(&cases, &wanted);
    }
    let trials = cases.iter().flat_map(variants).map(|variant| {
        let (name, limit) = (variant.name(), variant.case.limit);
        let obstacle = variant.obstacle();
        let trial = Trial::ignorable_test(name.clone(), move || match obstacle {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => supervise(&name, limit),
        });
        trial.with_ignored_flag(!variant.is_sampled())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// A case, who runs it, and whether its restarts translate ids whatever else is possible.
struct Variant<'a> {
    case: &'a Case,
    user: RunAs,
    translates: bool,
}

impl Variant<'_> {
    fn name(&self) -> String {
        format!("{}::{}{}", self.case.name, self.user.name(), if self.translates { "::translated" } else { "" })
    }

    fn is_sampled(&self) -> bool {
        let sample = if self.translates { &self.case.sample_translated } else { &self.case.sample };
        sample.contains(&self.user)
    }

    /// Why it cannot be run.
    fn obstacle(&self) -> Option<String> {
        let not_translated = || {
            let who = self.case.not_translated.iter().find(|(user, _)| *user == self.user);
            who.filter(|_| self.translates || self.user.always_translates()).map(|(_, reason)| *reason)
        };
        let general = self.user.obstacle().or_else(not_translated);
        general.map(str::to_owned).or_else(|| self.case.needs.iter().find_map(|need| need.obstacle()))
    }
}

fn variants(case: &Case) -> impl Iterator<Item = Variant<'_>> {
    let users = move |translates| case.users.iter().map(move |&user| Variant { case, user, translates });
    [false, true].into_iter().flat_map(users)
}

/// Run one case in a child process and report what it says.
fn supervise(name: &str, limit: u64) -> Result<Completion, Failed> {
    let report =
        std::env::temp_dir().join(format!("dmtcp-test-report.{}.{}", std::process::id(), name.replace("::", ".")));
    let ended = run_child(name, limit, &report);
    let text = fs::read(&report).map(|x| String::from_utf8_lossy(&x).into_owned()).unwrap_or_default();
    let _ = fs::remove_file(&report);
    match ended {
        Ok(status) if status.success() => Ok(Completion::Completed),
        Ok(status) if status.code() == Some(NOTHING_RESTARTED.into()) => {
            Ok(Completion::ignored_with("passes, and restarts nothing: how ids come back is nothing to it"))
        }
        Ok(_) => Err(text.into()),
        Err(error) => Err(format!("{error:#}\n{text}").into()),
    }
}

fn run_child(name: &str, limit: u64, report: &PathBuf) -> Result<ExitStatus> {
    let output = fs::File::create(report)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.env(CASE, name).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    // A group of its own: what is typed at a terminal goes to the runner, and the case ends because its parent did.
    let mut child = command.process_group(0).spawn().context("cannot start the process of the case")?;
    // The child keeps the limit itself; this is for one that cannot.
    let waited = wait::until(limit + 60, "the process of the case", || Ok(child.try_wait()?));
    if waited.is_err() {
        child.kill()?;
        child.wait()?;
    }
    waited
}

/// The process of a case.
fn run_alone(cases: &[Case], wanted: &str) -> ExitCode {
    let Some(Variant { case, user, translates }) = cases.iter().flat_map(variants).find(|v| v.name() == wanted) else {
        eprintln!("no case {wanted}");
        return ExitCode::FAILURE;
    };
    let root = std::env::temp_dir().join(format!("dmtcp-test.{}.{}", std::process::id(), wanted.replace("::", ".")));
    if let Err(error) = process::adopt().and_then(|()| process::keep_descriptors_private()) {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    // Process numbers come again, and a failure's directory was kept.
    if let Err(error) = std::fs::remove_dir_all(&root).or_else(|e| if root.exists() { Err(e) } else { Ok(()) }) {
        eprintln!("cannot remove {}: {error}", root.display());
        return ExitCode::FAILURE;
    }
    watch(Arc::new(root.clone()), case.limit);
    let made = Scenario::new(&root, user, case.program.clone(), case.streams, &case.options);
    let mut has_restarted = false;
    let outcome = made.and_then(|mut scenario| {
        if translates {
            scenario.set_env("DMTCP_PID_RESTORE", "translate");
        }
        case.run(&mut scenario)?;
        has_restarted = scenario.has_restarted();
        Ok(())
    });
    match conclude(&root, outcome) {
        true if translates && !has_restarted => NOTHING_RESTARTED.into(),
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Fail the case when it takes too long, or when whoever runs the tests is gone.
fn watch(root: Arc<PathBuf>, limit: u64) {
    let parent = std::os::unix::process::parent_id();
    thread::spawn(move || {
        let deadline = Instant::now() + wait::limit(limit);
        while Instant::now() < deadline && std::os::unix::process::parent_id() == parent {
            thread::sleep(Duration::from_millis(200));
        }
        conclude(&root, Err(anyhow::anyhow!("the case ran past {:?}, at: {}", wait::limit(limit), stage())));
        std::process::exit(1);
    });
}

/// Say how it went, kill what is left, and clean up after a success. Whether it was one.
fn conclude(root: &PathBuf, outcome: Result<()>) -> bool {
    if let Err(error) = &outcome {
        println!("{error:#}\n{}\nkept: {}", Scenario::evidence(root), root.display());
    }
    let killed = process::kill_all(&Pids::new(), &Pids::new());
    if let Err(error) = &killed {
        println!("{error:#}");
    }
    if outcome.is_err() || killed.is_err() {
        return false;
    }
    if std::env::var_os("DMTCP_TEST_KEEP").is_none() {
        let _ = fs::remove_dir_all(root);
    }
    true
}
