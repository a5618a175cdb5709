//! What is left of a family that works together through pipes when any of its processes, its coordinator or dmtcp_restart
//! is killed at a random moment of a checkpoint or of a restart. Always: the checkpoint ends one way or the other, a
//! complete generation is there, it comes back, and nothing is left hanging.

use dmtcp_tests::process::{self, Pids};
use dmtcp_tests::progress::{Bounds, Progress, Steps, marker};
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Result, RunAs, Scenario, ensure, runner, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

/// Numbers that look random; the seed is printed, and `DMTCP_TEST_SEED` repeats it.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("DMTCP_TEST_SEED").ok().and_then(|x| x.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("DMTCP_TEST_SEED={seed}");
        Self(seed)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides.max(1)
    }

    /// A moment of something that takes so long, or shortly after it.
    fn moment(&mut self, length: Duration) -> Instant {
        Instant::now() + Duration::from_micros(self.roll(length.as_micros() as usize * 5 / 4) as u64)
    }
}

fn pass(moment: Instant) {
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}

fn slay(pid: i32) {
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// A complete generation: its number, and the images with the pids of their processes.
#[derive(Clone, Debug)]
struct Generation {
    number: u64,
    images: BTreeMap<i32, PathBuf>,
}

/// All decided generations below a directory, the oldest first.
fn generations(directory: &Path) -> Result<Vec<Generation>> {
    let mut found = Vec::new();
    for computation in fs::read_dir(directory)?.flatten().filter(|x| x.path().is_dir()) {
        for entry in fs::read_dir(computation.path())?.flatten() {
            let Ok(told) = fs::read_to_string(entry.path().join("MANIFEST")) else { continue };
            let told: serde_json::Value = serde_json::from_str(&told)?;
            let images = told["images"].as_array().context("a manifest without images")?;
            let image = |x: &serde_json::Value| Some((x["virtual_pid"].as_i64()? as i32, x["path"].as_str()?.into()));
            let images = images.iter().filter_map(image).collect();
            found.push(Generation { number: told["generation"].as_u64().unwrap_or(0), images });
        }
    }
    found.sort_by_key(|generation| generation.number);
    Ok(found)
}

/// A family under a coordinator of its own, whose log and images belong to one round.
struct Family {
    round: PathBuf,
    port: String,
    coordinator: Child,
    front: Child,
    /// What the front has said.
    said: PathBuf,
}

impl Family {
    fn images(&self) -> PathBuf {
        self.round.join("images")
    }

    fn log(&self) -> PathBuf {
        self.round.join("log")
    }

    /// A coordinator, and then the front: what `command` makes of the port.
    fn begin(s: &Scenario, round: &Path, command: impl FnOnce(&str) -> Result<Command>) -> Result<Self> {
        let number = fs::read_dir(round)?.count();
        let file = round.join(format!("port.{number}"));
        let mut coordinator = s.tool("dmtcp_coordinator");
        coordinator.args(["-p", "0", "--port-file"]).arg(&file).arg("--ckptdir").arg(round.join("images"));
        let log = File::create(round.join(format!("coordinator.{number}")))?;
        let coordinator = coordinator.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let port = wait::until(10, "the coordinator to write its port", || {
            Ok(fs::read_to_string(&file).ok().map(|x| x.trim().to_owned()).filter(|x| !x.is_empty()))
        })?;
        let said = round.join(format!("said.{number}"));
        let mut command = command(&port)?;
        command.env("STEPS_LOG", round.join("log")).env("STEPS_STOP", round.join("stop"));
        let output = File::create(&said)?;
        s.run_as().own(&said)?;
        let front = command.stdout(output.try_clone()?).stderr(output).spawn()?;
        Ok(Self { round: round.into(), port, coordinator, front, said })
    }

    fn launch(s: &Scenario, number: usize) -> Result<Self> {
        let round = s.path(&format!("round.{number}"));
        for directory in [round.clone(), round.join("images")] {
            fs::create_dir(&directory)?;
            s.run_as().own(&directory)?;
        }
        let images = round.join("images");
        let family = Self::begin(s, &round, |port| {
            let mut command = s.tool("dmtcp_launch");
            command.args(["-j", "-p", port, "-q", "-q", "--no-gzip", "--keep", "9", "--ckptdir"]).arg(&images);
            command.args(s.prepared()?);
            Ok(command)
        })?;
        family.see_steps(&["main", "sink", "nursery"])?;
        Ok(family)
    }

    /// Starts the restart of a generation.
    fn restart(s: &Scenario, round: &Path, generation: &Generation) -> Result<Self> {
        let mut log = OpenOptions::new().append(true).open(round.join("log"))?;
        writeln!(log, "{}", marker(1))?;
        Self::begin(s, round, |port| {
            let mut command = s.tool("dmtcp_restart");
            command.args(["-j", "-p", port, "-q", "-q"]).args(generation.images.values());
            Ok(command)
        })
    }

    fn ask(&self, s: &Scenario, args: &[&str]) -> Result<Output> {
        let mut command = s.tool("dmtcp_command");
        command.args(["-p", &self.port]).args(args);
        s.output(command)
    }

    fn checkpoint_starts(&self, s: &Scenario) -> Result<Child> {
        let mut command = s.tool("dmtcp_command");
        command.args(["-p", &self.port, "bc"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command.spawn()?)
    }

    /// All its processes, dmtcp_restart among them.
    fn members(&self) -> Vec<i32> {
        process::descendants(false).into_iter().filter(|pid| *pid != self.coordinator.id() as i32).collect()
    }

    fn progress(&self) -> Progress {
        Progress::read(&self.log())
    }

    /// How many steps each stream has made since it was launched or restarted.
    fn steps(&self) -> Result<Steps> {
        let log = self.progress();
        log.complaint()?;
        Ok(log.since_restart(1).unwrap_or_else(|| log.last()))
    }

    /// Which of these streams have gone on by two steps.
    fn moving<'a>(&self, before: &Steps, streams: &[&'a str]) -> Result<Vec<&'a str>> {
        let now = self.steps()?;
        let count = |steps: &Steps, stream: &str| steps.get(stream).copied().unwrap_or(0);
        Ok(streams.iter().copied().filter(|stream| count(&now, stream) > count(before, stream) + 1).collect())
    }

    /// Waits until each of these streams has made two more steps.
    fn see_steps(&self, streams: &[&str]) -> Result<()> {
        let before = self.steps()?;
        wait::until(30, &format!("steps of {streams:?}"), || {
            Ok((self.moving(&before, streams)?.len() == streams.len()).then_some(()))
        })
        .with_context(|| fs::read_to_string(&self.said).unwrap_or_default())
    }

    /// The streams that go on when these processes are there.
    fn streams(&self, there: &Generation) -> Vec<&'static str> {
        let log = self.progress();
        let roles = log.find("who");
        let pid = |name: &str| {
            let mut words = roles.iter().map(|line| line.split(' ').collect::<Vec<_>>());
            words.find(|words| words.get(1) == Some(&name)).and_then(|words| words.get(2)?.parse::<i32>().ok())
        };
        let is_there = |name: &&str| pid(name).is_some_and(|pid| there.images.contains_key(&pid));
        let needs: [(&str, &[&str]); 3] =
            [("main", &["main"]), ("sink", &["source", "filter", "sink"]), ("nursery", &["nursery"])];
        needs.into_iter().filter(|(_, roles)| roles.iter().all(&is_there)).map(|x| x.0).collect()
    }

    /// Kills what is left of it.
    fn end(mut self) -> Result<()> {
        process::freeze(&Pids::new());
        process::kill_all(&Pids::new(), &[self.front.id() as i32, self.coordinator.id() as i32].into())?;
        self.front.wait()?;
        self.coordinator.wait()?;
        Ok(())
    }
}

/// A generation is whole, and comes back: all its processes join, and what they do goes on from the checkpoint.
fn comes_back(s: &Scenario, round: &Path, generation: &Generation) -> Result<()> {
    for (tool, option) in [("dmtcp_restart", "--verify"), ("dmtcp_inspect", "--check")] {
        let mut check = s.tool(tool);
        check.arg(option).args(generation.images.values());
        let checked = s.output(check)?;
        ensure!(checked.status.success(), "{tool} {option}: {}: {}", checked.status, text(&checked));
    }
    let family = Family::restart(s, round, generation)?;
    family.see_steps(&family.streams(generation))?;
    family.end()
}

/// Rounds of: a family, a complete checkpoint, another one under way, and at a random moment of it random processes of
/// the family are killed, sometimes the coordinator too. Who is left can be checkpointed. All generations come back.
fn killed_in_a_checkpoint(s: &mut Scenario, rounds: usize) -> Result<()> {
    let mut dice = Dice::new();
    for number in 0..rounds {
        let mut family = Family::launch(s, number)?;
        let mut bounds: BTreeMap<u64, Bounds> = BTreeMap::new();
        let before = family.progress().last();
        let start = Instant::now();
        let first = family.ask(s, &["bc"])?;
        ensure!(first.status.success(), "round {number}: {}", text(&first));
        let length = start.elapsed();
        let older = generations(&family.images())?.pop().context("no generation")?.number;
        bounds.insert(older, Bounds { before, after: family.progress().last() });
        let before = family.progress().last();
        let mut second = family.checkpoint_starts(s)?;
        pass(dice.moment(length));
        let with_coordinator = dice.roll(5) == 0;
        let members: Vec<i32> = family.members().into_iter().filter(|pid| *pid != second.id() as i32).collect();
        let victims: Vec<i32> = (0..1 + dice.roll(3)).map(|_| members[dice.roll(members.len())]).collect();
        victims.iter().for_each(|pid| slay(*pid));
        if with_coordinator {
            slay(family.coordinator.id() as i32);
            family.coordinator.wait()?;
        }
        let outcome = wait::until(20, "the second checkpoint to end", || Ok(second.try_wait()?))?;
        let mut context = format!(
            "round {number}, victims {victims:?}, coordinator {with_coordinator}, bc after {length:?}: {outcome}"
        );
        let decided = generations(&family.images())?;
        ensure!(decided.first().is_some_and(|g| g.number == older), "{context}: the older generation is lost");
        ensure!(!outcome.success() || decided.len() == 2, "{context}: bc says yes, and there are {decided:?}");
        if let Some(second) = decided.get(1) {
            bounds.insert(second.number, Bounds { before, after: family.progress().last() });
        }
        if !with_coordinator {
            context += "; ";
            context += &survivors(s, &family, &mut bounds).with_context(|| context.clone())?;
        }
        let decided = generations(&family.images())?;
        let (round, log) = (family.round.clone(), family.log());
        family.end()?;
        let so_far = fs::read(&log)?;
        for generation in decided {
            let context = || format!("{context}; generation {generation:?}");
            comes_back(s, &round, &generation).with_context(context)?;
            let known = bounds.get(&generation.number).context("an unknown generation").with_context(context)?;
            Progress::read(&log).prove(std::slice::from_ref(known)).with_context(context)?;
            fs::write(&log, &so_far)?;
        }
        fs::remove_dir_all(&round)?;
    }
    Ok(())
}

/// Who is left is checkpointed, unless nobody is.
fn survivors(s: &Scenario, family: &Family, bounds: &mut BTreeMap<u64, Bounds>) -> Result<String> {
    wait::until(20, "who is left to be checkpointed", || {
        let before = family.progress().last();
        let answer = family.ask(s, &["bc"])?;
        let said = text(&answer);
        // Those who have lost their partners may be ending.
        if !answer.status.success() {
            let peers = text(&family.ask(s, &["s"])?);
            let nobody = peers.contains("NUM_PEERS=0");
            ensure!(nobody || said.contains(" ended "), "who is left cannot be checkpointed: {said}\n{peers}");
            return Ok(nobody.then(|| "nobody is left".to_owned()));
        }
        let decided = generations(&family.images())?;
        let last = decided.last().context("no generation")?;
        bounds.insert(last.number, Bounds { before, after: family.progress().last() });
        Ok(Some(format!("{} are left", last.images.len())))
    })
}

/// Rounds of: the family comes back, and at a random moment of that dmtcp_restart, the coordinator or one of the processes
/// is killed. Either all are back, or none is left; the images are as they were.
fn killed_in_a_restart(s: &mut Scenario, rounds: usize) -> Result<()> {
    let mut dice = Dice::new();
    let family = Family::launch(s, 0)?;
    let before = family.progress().last();
    let answer = family.ask(s, &["bc"])?;
    ensure!(answer.status.success(), "{}", text(&answer));
    let bounds = [Bounds { before, after: family.progress().last() }];
    let generation = generations(&family.images())?.pop().context("no generation")?;
    let (round, log) = (family.round.clone(), family.log());
    family.end()?;
    let so_far = fs::read(&log)?;
    let streams = ["main", "sink", "nursery"];
    let mut length = Duration::from_millis(300);
    for number in 0..rounds {
        let start = Instant::now();
        let mut family = Family::restart(s, &round, &generation)?;
        pass(dice.moment(length));
        let members = family.members();
        let (whom, pid) = match dice.roll(3) {
            0 => ("dmtcp_restart", family.front.id() as i32),
            1 => ("the coordinator", family.coordinator.id() as i32),
            _ => ("a process", members[dice.roll(members.len())]),
        };
        slay(pid);
        let context = format!("round {number}: {whom} ({pid} of {members:?}) killed after {:?}", start.elapsed());
        let outcome = settles(s, &mut family, &streams, whom == "a process").with_context(|| context.clone())?;
        println!("{context}: {outcome}");
        family.end()?;
        fs::write(&log, &so_far)?;
        let start = Instant::now();
        comes_back(s, &round, &generation).with_context(|| context.clone())?;
        length = start.elapsed().min(Duration::from_millis(400));
        Progress::read(&log).prove(&bounds).with_context(|| context.clone())?;
        fs::write(&log, &so_far)?;
    }
    Ok(())
}

/// Waits until a family works, or all its processes have ended. If one of them was killed, those that do not need it work.
fn settles(s: &Scenario, family: &mut Family, streams: &[&str], lacks_one: bool) -> Result<&'static str> {
    let before = family.steps()?;
    let enough = if lacks_one { 1 } else { streams.len() };
    let outcome = wait::until(40, "the family to be back, or gone", || {
        let works = family.moving(&before, streams)?.len() >= enough;
        let is_gone = family.front.try_wait()?.is_some() && family.members().is_empty();
        let status = match family.coordinator.try_wait()? {
            None => text(&family.ask(s, &["s"])?),
            Some(_) => String::new(),
        };
        let agrees = |word: &str| status.is_empty() || status.contains(word);
        Ok(match (works, is_gone) {
            (_, true) if agrees("NUM_PEERS=0") => Some("gone"),
            (true, false) if agrees("RUNNING=yes") => Some("back"),
            _ => None,
        })
    });
    outcome.map_err(|error| {
        let left = family.members();
        let lines: Vec<String> = left.iter().map(|pid| format!("{pid}: {}", process::command_line(*pid))).collect();
        let said = fs::read_to_string(&family.said).unwrap_or_default();
        error.context(format!("left: {lines:#?}; steps: {:?}; said: {said}", family.progress().last()))
    })
}

fn main() -> ExitCode {
    let kin = || Program::c("kin.c", &[]);
    runner::main(vec![
        Case::flow("family_killed_at_random", kin(), |s| killed_in_a_checkpoint(s, 5)).sampled_as(RunAs::User),
        Case::flow("family_killed_at_random_200_times", kin(), |s| killed_in_a_checkpoint(s, 200))
            .full_only()
            .limit(1800),
        Case::flow("family_killed_while_it_comes_back", kin(), |s| killed_in_a_restart(s, 5)).sampled_as(RunAs::Root),
        Case::flow("family_killed_while_it_comes_back_200_times", kin(), |s| killed_in_a_restart(s, 200))
            .full_only()
            .limit(1800),
    ])
}
