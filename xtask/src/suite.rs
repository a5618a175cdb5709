//! `cargo xtask test` and `cargo xtask bench`: prepare the machine, build, build_dist, hand over to the tests or benchmarks.

use crate::packages;
use crate::workspace::{build, build_dist, cargo, command, release, run};
use anyhow::{Context, Result};
use std::time::Instant;

/// How many cases run at a time: they wait more than they compute.
const AT_A_TIME: usize = 3;

/// Run the sample of the tests, or all.
pub fn test(full: bool, filter: Option<&str>) -> Result<String> {
    packages::ensure_installed(packages::SAMPLE)?;
    if full {
        packages::ensure_installed(packages::FULL)?;
    }
    build()?;
    let start = Instant::now();
    if filter.is_none() {
        println!("Unit tests ...");
        run(cargo().args(["test", "--quiet", "--release", "--workspace", "--exclude", "dmtcp-tests"]))?;
    }
    println!("Launch, checkpoint, SIGKILL and restart of real programs ({}) ...", if full { "all" } else { "sample" });
    let mut tests = cargo();
    tests.args(["test", "--release", "--no-fail-fast", "-p", "dmtcp-tests"]).args(filter);
    tests.args(["--", "--test-threads", &AT_A_TIME.to_string()]);
    if full {
        tests.arg("--include-ignored");
    }
    run(tests.env("DMTCP_TEST_BIN", release())).context("some tests failed; their reports are above")?;
    Ok(format!(
        "All tests of the {} passed ({} s).",
        if full { "full suite" } else { "sample" },
        start.elapsed().as_secs()
    ))
}

/// Run the benchmarks.
pub fn bench(arguments: &[String]) -> Result<String> {
    packages::ensure_installed(packages::DEMO)?;
    run(command(build_dist()?.join("dmtcp-benches")).args(arguments))?;
    Ok("Benchmarks done.".into())
}
