//! A case: a name that says what must hold, a program, who runs it, and the flow that it goes through.
//!
//! Whatever restarts does so in both id modes, once for each user: `NAME::root`, and `NAME::root::translated`.

use crate::identity::RunAs;
use crate::need::Need;
use crate::program::Program;
use crate::scenario::Scenario;
use anyhow::Result;

type Flow = Box<dyn Fn(&mut Scenario) -> Result<()> + Send + Sync>;

/// A case of the suite; it runs once for each user.
pub struct Case {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) streams: usize,
    pub(crate) options: Vec<String>,
    pub(crate) users: Vec<RunAs>,
    pub(crate) sample: Vec<RunAs>,
    /// Who runs it with translated ids in the sample; with `--include-ignored` all do.
    pub(crate) sample_translated: Vec<RunAs>,
    /// Who does not, and why.
    pub(crate) not_translated: Vec<(RunAs, &'static str)>,
    pub(crate) limit: u64,
    pub(crate) needs: Vec<Need>,
    status: i32,
    steps: u64,
    flow: Option<Flow>,
}

impl Case {
    /// A program that must survive three generations.
    pub fn new(name: &str, program: Program) -> Case {
        Case {
            name: name.into(),
            program,
            streams: 1,
            options: Vec::new(),
            users: RunAs::ALL.to_vec(),
            sample: RunAs::ALL.to_vec(),
            sample_translated: Vec::new(),
            not_translated: Vec::new(),
            limit: 120,
            needs: Vec::new(),
            status: 7,
            steps: 3,
            flow: None,
        }
    }

    /// A case with a flow of its own.
    pub fn flow(
        name: &str,
        program: Program,
        flow: impl Fn(&mut Scenario) -> Result<()> + Send + Sync + 'static,
    ) -> Case {
        Case { flow: Some(Box::new(flow)), ..Case::new(name, program) }
    }

    /// How many streams of steps must advance.
    pub fn streams(mut self, streams: usize) -> Case {
        self.streams = streams;
        self
    }

    /// Further options of `dmtcp_launch`.
    pub fn options(mut self, options: &[&str]) -> Case {
        self.options.extend(options.iter().map(|x| x.to_string()));
        self
    }

    /// How many steps to see between two actions.
    pub fn steps(mut self, steps: u64) -> Case {
        self.steps = steps;
        self
    }

    /// The exit status that the program ends with, if not 7.
    pub fn status(mut self, status: i32) -> Case {
        self.status = status;
        self
    }

    /// Only this user runs it.
    pub fn only(mut self, user: RunAs) -> Case {
        self.users = vec![user];
        self.sample.retain(|x| *x == user);
        self
    }

    /// In the sample only this user runs it; with `--include-ignored` all do.
    pub fn sampled_as(mut self, user: RunAs) -> Case {
        self.sample = vec![user];
        self
    }

    /// Not in the sample: it runs with `--include-ignored` only.
    pub fn full_only(mut self) -> Case {
        self.sample.clear();
        self
    }

    /// This user runs it with translated ids in the sample, too.
    pub fn sampled_translated_as(mut self, user: RunAs) -> Case {
        self.sample_translated.push(user);
        self
    }

    /// What it shows cannot hold, or means nothing, with translated ids, for this reason. It is not run either where the kernel
    /// is not to bring ids back.
    pub fn not_translated(self, reason: &'static str) -> Case {
        RunAs::ALL.into_iter().fold(self, |case, user| case.not_translated_as(user, reason))
    }

    /// As [`Case::not_translated`], for this user.
    pub fn not_translated_as(mut self, user: RunAs, reason: &'static str) -> Case {
        self.not_translated.push((user, reason));
        self
    }

    /// Seconds that the whole case may take.
    pub fn limit(mut self, seconds: u64) -> Case {
        self.limit = seconds;
        self
    }

    /// What the case cannot do without.
    pub fn needs(mut self, need: Need) -> Case {
        self.needs.push(need);
        self
    }

    /// Take a scenario through the case's flow.
    pub(crate) fn run(&self, scenario: &mut Scenario) -> Result<()> {
        match &self.flow {
            Some(flow) => flow(scenario),
            None => self.three_generations(scenario),
        }
    }

    /// The common flow.
    fn three_generations(&self, scenario: &mut Scenario) -> Result<()> {
        if std::env::var_os("DMTCP_TEST_NATIVE").is_some() {
            scenario.launch_native()?;
            scenario.see_steps(self.steps)?;
        } else {
            scenario.three_generations(self.steps)?;
        }
        scenario.finish(self.status)
    }
}
