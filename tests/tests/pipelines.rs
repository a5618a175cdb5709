//! Real programs of several processes that talk to each other through pipes, shared descriptors and shared memory.

use dmtcp_tests::{Case, Program, runner};
use std::process::ExitCode;

fn main() -> ExitCode {
    let script = |interpreter: &str, source: &str, package: &str| Program::script(&[interpreter], source, package);
    let bash = |source| script("/bin/bash", source, "bash");
    let python = |source| script("/usr/bin/python3", source, "python3");
    runner::main(vec![
        Case::new("pipeline_in_full_flow", bash("pipeline.sh")).streams(1),
        Case::new("dash_pipeline_in_full_flow", script("/bin/dash", "pipeline.sh", "dash")).streams(1),
        Case::new("background_job_coprocess_and_substitution", bash("jobs.sh")).streams(2),
        Case::new("xargs_runs_several_at_a_time", bash("xargs.sh")).streams(1),
        Case::new("python_multiprocessing", python("multiprocessing_pool.py")).streams(1),
        Case::new("python_subprocesses", python("subprocesses.py")).streams(1),
        Case::new("perl_forks", script("/usr/bin/perl", "forks.pl", "perl")).streams(1),
    ])
}
