//! Real programs of several processes that talk to each other through pipes, shared descriptors and shared memory.

use dmtcp_tests::{Case, Program, Restart, Result, RunAs, Scenario, runner};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const STATUS: i32 = 7;

/// A hundred checkpoints of a pipeline in full flow; every tenth is restarted.
fn a_hundred_checkpoints(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for round in 1..=100 {
        s.checkpoint()?;
        if round % 10 == 0 {
            s.see_steps(3)?;
            s.kill()?;
            s.restart(&Restart::images())?;
            s.see_steps(1)?;
        }
    }
    s.finish(STATUS)
}

/// A checkpoint each second while processes come and go, and a restart at the end of each half minute.
fn a_checkpoint_each_second(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for _ in 0..2 {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) {
            let next = Instant::now() + Duration::from_secs(1);
            s.checkpoint()?;
            s.see_steps(1)?;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        s.kill()?;
        s.restart(&Restart::images())?;
        s.see_steps(3)?;
    }
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let script = |interpreter: &str, source: &str, package: &str| Program::script(&[interpreter], source, package);
    let bash = |source| script("/bin/bash", source, "bash");
    let python = |source| script("/usr/bin/python3", source, "python3");
    let gawk = Program::script(&["/usr/bin/gawk", "-f"], "coprocess.awk", "gawk");
    let cases = vec![
        Case::new("pipeline_in_full_flow", bash("pipeline.sh")).streams(1).sampled_translated_as(RunAs::User),
        Case::new("dash_pipeline_in_full_flow", script("/bin/dash", "pipeline.sh", "dash")).streams(1),
        Case::new("background_job_coprocess_and_substitution", bash("jobs.sh"))
            .streams(2)
            .sampled_translated_as(RunAs::Root),
        Case::new("xargs_runs_several_at_a_time", bash("xargs.sh")).streams(1),
        Case::new("python_multiprocessing", python("multiprocessing_pool.py")).streams(1),
        Case::new("python_subprocesses", python("subprocesses.py")).streams(1),
        Case::new("perl_forks", script("/usr/bin/perl", "forks.pl", "perl")).streams(1),
        Case::new("traps", bash("traps.sh")).sampled_as(RunAs::Root),
        Case::new("dash_traps", script("/bin/dash", "traps.sh", "dash")).sampled_as(RunAs::User),
        Case::new("background_jobs_with_traps", bash("background.sh")).streams(2).full_only(),
        Case::new("dash_background_jobs_with_traps", script("/bin/dash", "background.sh", "dash"))
            .streams(2)
            .sampled_as(RunAs::User),
        Case::new("process_substitution", bash("substitution.sh")).sampled_as(RunAs::User),
        Case::new("find_runs_programs", bash("find.sh")).full_only(),
        Case::new("gnu_parallel", bash("parallel.sh").needs("/usr/bin/parallel", "parallel")).full_only(),
        Case::new("gawk_coprocesses", gawk).sampled_as(RunAs::Root),
        Case::new("python_spawned_workers", python("multiprocessing_spawn.py")).sampled_as(RunAs::User),
        Case::new("python_futures", python("futures.py")).full_only(),
        Case::new("perl_fork_server", script("/usr/bin/perl", "fork_server.pl", "perl")).sampled_as(RunAs::Root),
        Case::new("ruby_fork_server", script("/usr/bin/ruby", "fork_server.rb", "ruby")).sampled_as(RunAs::User),
        Case::new("php_fork_server", script("/usr/bin/php", "fork_server.php", "php-cli")).full_only(),
        Case::flow("hundred_checkpoints_of_a_pipeline", bash("checksummed.sh"), a_hundred_checkpoints)
            .limit(600)
            .full_only(),
        Case::flow("short_processes_and_a_checkpoint_each_second", bash("brief.sh"), a_checkpoint_each_second)
            .streams(2)
            .limit(300)
            .full_only(),
    ];
    runner::main(cases)
}
