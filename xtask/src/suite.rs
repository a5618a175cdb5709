//! `cargo xtask test` and `cargo xtask bench`: prepare the machine, build, build_dist, hand over to the tests or benchmarks.

use crate::distro;
use crate::packages;
use crate::workspace::{build, build_dist, cargo, command, release, run};
use anyhow::{Context, Result};
use std::time::Instant;

/// The files of tests about what is below the tool: kernel, libc, interpreters. The others are about the tool itself.
pub const SUITES: &[&str] = &[
    "single_process",
    "timers",
    "clocks",
    "ids",
    "resources",
    "memory",
    "restarts",
    "attributes",
    "families",
    "pipelines",
    "jobs",
    "forests",
    "programs",
];

/// The variable by which tests forbid kernel features.
pub const FORBID: &str = "DMTCP_TEST_FORBID";

/// How many cases run at a time: they wait more than they compute.
pub const AT_A_TIME: usize = 3;

/// Which tests to run, and how.
pub struct Choice {
    /// All instead of the sample.
    pub full: bool,
    /// Under another release of Debian.
    pub distro: Option<String>,
    /// Without these kernel features.
    pub forbid: Vec<String>,
    /// Only those whose names contain this.
    pub filter: Option<String>,
}

impl Choice {
    /// The arguments of a test executable.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--test-threads".to_owned(), AT_A_TIME.to_string()];
        arguments.extend(self.filter.clone());
        if self.full {
            arguments.push("--include-ignored".to_owned());
        }
        arguments
    }

    /// The names of kernel features that are not to be used, as tests and tool read them.
    fn forbidden(&self) -> String {
        self.forbid.join(",")
    }

    fn name(&self) -> &'static str {
        if self.full { "full suite" } else { "sample" }
    }
}

/// Run the sample of the tests, or all.
pub fn test(choice: &Choice) -> Result<String> {
    let start = Instant::now();
    match &choice.distro {
        Some(distro) => {
            let (arguments, forbidden) = (choice.arguments(), choice.forbidden());
            let needs = [packages::DISTRO, if choice.full { packages::DISTRO_FULL } else { &[] }].concat();
            let (suites, needs) = (SUITES, &needs);
            distro::test(&distro::Run { distro, suites, needs, arguments: &arguments, forbidden: &forbidden })?;
        }
        None => here(choice)?,
    }
    Ok(format!("All tests of the {} passed ({} s).", choice.name(), start.elapsed().as_secs()))
}

/// With the libc of this machine.
fn here(choice: &Choice) -> Result<()> {
    packages::ensure_installed(packages::SAMPLE)?;
    if choice.full {
        packages::ensure_installed(packages::FULL)?;
    }
    build()?;
    if choice.filter.is_none() && choice.forbid.is_empty() {
        println!("Unit tests ...");
        run(cargo().args(["test", "--quiet", "--release", "--workspace", "--exclude", "dmtcp-tests"]))?;
    }
    println!("Launch, checkpoint, SIGKILL and restart of real programs ({}) ...", choice.name());
    let mut tests = cargo();
    tests.args(["test", "--release", "--no-fail-fast", "-p", "dmtcp-tests"]);
    // Features of the kernel do not matter to the tests of what has nothing to do with them.
    if !choice.forbid.is_empty() {
        tests.args(SUITES.iter().flat_map(|suite| ["--test", suite]));
    }
    tests.arg("--").args(choice.arguments());
    tests.env("DMTCP_TEST_BIN", release()).env(FORBID, choice.forbidden());
    run(&mut tests).context("some tests failed; their reports are above")
}

/// Run the benchmarks.
pub fn bench(arguments: &[String]) -> Result<String> {
    packages::ensure_installed(packages::DEMO)?;
    run(command(build_dist()?.join("dmtcp-benches")).args(arguments))?;
    Ok("Benchmarks done.".into())
}
