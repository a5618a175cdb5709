//! Real programs, which nobody wrote for this: each survives three generations of checkpoint, SIGKILL and restart.

use dmtcp_tests::{Case, Program, RunAs, runner};
use std::process::ExitCode;

const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
const TCMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4";
const OPENBLAS: &str = "/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3";

fn python(script: &str) -> Program {
    Program::script(&["/usr/bin/python3"], script, "python3")
}

fn interpreters() -> Vec<Case> {
    let script = Program::script;
    let numpy = python("numpy_threads.py")
        .needs("/usr/lib/python3/dist-packages/numpy", "python3-numpy")
        .needs(OPENBLAS, "libopenblas0-pthread")
        .env("OPENBLAS_NUM_THREADS", "4");
    // What the shell wrapper /usr/bin/R executes in the end.
    let r = script(&["/usr/lib/R/bin/exec/R", "--no-echo", "--no-restore", "--no-save", "-f"], "r.R", "r-base-core")
        .env("R_HOME", "/usr/lib/R")
        .env("LD_LIBRARY_PATH", "/usr/lib/R/lib");
    let octave = script(&["/usr/bin/octave-cli", "--no-gui", "--norc", "--quiet"], "octave.m", "octave");
    let guile = script(&["/usr/bin/guile", "--no-auto-compile", "-s"], "guile.scm", "guile-3.0");
    let sbcl = script(
        &["/usr/bin/sbcl", "--noinform", "--no-userinit", "--eval", "(require :sb-posix)", "--load"],
        "sbcl.lisp",
        "sbcl",
    );
    vec![
        Case::new("python", python("plain.py")),
        Case::new("python_threads", python("threads.py")).streams(4),
        Case::new("python_numpy_with_openblas_threads", numpy).streams(2),
        Case::new("sqlite_inside_a_transaction", python("sqlite.py")),
        Case::new("perl_with_its_log_kept_open", script(&["/usr/bin/perl"], "perl.pl", "perl")),
        Case::new("ruby_threads_and_fiber", script(&["/usr/bin/ruby"], "ruby.rb", "ruby")).streams(2),
        Case::new("php", script(&["/usr/bin/php"], "php.php", "php-cli")),
        Case::new("lua", script(&["/usr/bin/lua5.4"], "lua.lua", "lua5.4")),
        Case::new("tclsh_event_loop", script(&["/usr/bin/tclsh"], "tcl.tcl", "tcl")),
        Case::new("bash_builtins", script(&["/bin/bash"], "shell.sh", "bash")),
        Case::new("dash_builtins", script(&["/bin/dash"], "shell.sh", "dash")),
        Case::new("guile", guile).sampled_as(RunAs::User),
        Case::new("sbcl", sbcl).sampled_as(RunAs::Root),
        Case::new("r", r).full_only(),
        Case::new("octave", octave).full_only(),
    ]
}

fn compiled() -> Vec<Case> {
    // Linked by path: the packages with the names for the linker are not needed.
    let heap = |library: &str, package: &str| Program::c("heap.c", &[library]).needs(library, package);
    vec![
        Case::new("java_default_collector", Program::java("Threads.java", &["-Xmx256m"])).streams(3).limit(180),
        Case::new("java_parallel_collector", Program::java("Threads.java", &["-Xmx256m", "-XX:+UseParallelGC"]))
            .streams(3)
            .limit(180)
            .sampled_as(RunAs::User),
        Case::new("ocaml_native", Program::ocaml("steps.ml", "ocamlopt")).sampled_as(RunAs::User),
        Case::new("ocaml_bytecode", Program::ocaml("steps.ml", "ocamlc")).sampled_as(RunAs::Root),
        Case::new("openmp", Program::c("openmp.c", &["-fopenmp"])),
        Case::new("rust_threads", Program::rust("threads.rs")).streams(3),
        Case::new("cxx_threads_and_exceptions", Program::cxx("exceptions.cpp", &[])).streams(4),
        Case::new("jemalloc", heap(JEMALLOC, "libjemalloc2")).streams(4),
        Case::new("tcmalloc", heap(TCMALLOC, "libgoogle-perftools4")).streams(4),
    ]
}

fn main() -> ExitCode {
    runner::main(interpreters().into_iter().chain(compiled()).collect())
}
