//! Run times that bring schedulers, collectors and compilers of their own: each survives three generations of checkpoint,
//! SIGKILL and restart.

use dmtcp_tests::{Case, Program, RunAs, runner};
use std::process::ExitCode;

/// Java with one collector, its compilers under load.
fn java(name: &str, options: &[&str]) -> Case {
    let options: Vec<&str> = ["-Xmx256m"].iter().chain(options).copied().collect();
    Case::new(name, Program::java("Threads.java", &options)).streams(3).limit(180).full_only()
}

fn virtual_machines() -> Vec<Case> {
    let script = Program::script;
    vec![
        java("java_serial_collector", &["-XX:+UseSerialGC"]),
        java("java_g1_collector", &["-XX:+UseG1GC"]),
        java("java_z_collector", &["-XX:+UseZGC"]),
        java("java_shenandoah_collector", &["-XX:+UseShenandoahGC"]),
        java("java_that_compiles_everything", &["-Xcomp", "-XX:TieredStopAtLevel=4"]).limit(300),
        Case::new("mono", Program::mono("Steps.cs")).streams(3).full_only(),
        Case::new("erlang", script(&["/usr/bin/escript"], "erlang.erl", "erlang-base")).streams(2).full_only(),
        Case::new("elixir", script(&["/usr/bin/elixir"], "elixir.exs", "elixir")).streams(2).full_only(),
        Case::new("node_workers_and_timers", script(&["/usr/bin/node"], "node.js", "nodejs"))
            .streams(4)
            .sampled_as(RunAs::User),
        Case::new("python_asyncio", script(&["/usr/bin/python3"], "asyncio_loop.py", "python3"))
            .streams(2)
            .sampled_as(RunAs::Root),
        Case::new("perl_threads", script(&["/usr/bin/perl"], "threads.pl", "perl")).streams(3).sampled_as(RunAs::User),
    ]
}

fn compiled() -> Vec<Case> {
    let tbb = Program::cxx("nested.cpp", &["-fopenmp", "-ltbb"]).needs("/usr/include/tbb/tbb.h", "libtbb-dev");
    vec![
        Case::new("go_with_c", Program::go("goroutines.go")).streams(4).full_only(),
        Case::new("haskell_threads", Program::haskell("threaded.hs")).streams(3).full_only(),
        Case::new("tbb_in_openmp_in_threads", tbb).streams(2).full_only(),
    ]
}

fn main() -> ExitCode {
    runner::main(virtual_machines().into_iter().chain(compiled()).collect())
}
