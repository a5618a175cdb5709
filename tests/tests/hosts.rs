//! Hosts that are hard: allocators that are in the middle of something at every stop, and programs under sanitizers, which
//! bring shadow memory, allocators and signal handling of their own.

use dmtcp_tests::library::built;
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Program, Restart, Result, RunAs, Scenario, ensure, runner};
use std::process::ExitCode;

const STATUS: i32 = 7;
const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
const TCMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4";
const MIMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2";

fn sanitized(name: &str, program: Program) -> Case {
    Case::new(name, program).streams(4).limit(240).full_only()
}

/// A program that is ended before it begins, with a sentence that names what is in the way.
fn refused(name: &str, program: Program, says: &'static str) -> Case {
    let flow = move |s: &mut Scenario| {
        let mut launch = s.tool("dmtcp_launch");
        let port = s.port()?;
        launch.args(["-j", "-p", &port]).args(s.prepared()?);
        let ended = s.output(launch)?;
        let said = text(&ended);
        ensure!(ended.status.code() == Some(99), "{}: {said}", ended.status);
        ensure!(said.contains(says), "it does not say '{says}' but: {said}");
        Ok(())
    };
    Case::flow(name, program, flow).full_only()
}

fn sanitizers() -> Vec<Case> {
    let (heap, forks) = ("heap.c", "forking_threads.c");
    let runtime = ("/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.asan-x86_64.a", "libclang-rt-14-dev");
    let clang = |flags: &[&str]| Program::clang(heap, flags).needs(runtime.0, runtime.1);
    vec![
        // At its end it lists the threads of its process, by calls past libc.
        sanitized("address_sanitizer_of_gcc", Program::c(heap, &["-fsanitize=address"]))
            .sampled_translated_as(RunAs::User),
        sanitized("address_sanitizer_of_gcc_linked_in", Program::c(heap, &["-fsanitize=address", "-static-libasan"])),
        // Its run time looks whether it comes first, as ours does.
        sanitized(
            "address_sanitizer_of_gcc_in_a_child_of_a_shell",
            Program::c(heap, &["-fsanitize=address"]).under(&["/bin/sh", "-c", r#""$0" "$@"; exit $?"#]),
        ),
        sanitized("address_sanitizer_of_clang", clang(&["-fsanitize=address"])),
        sanitized("undefined_behaviour_sanitizer_of_gcc", Program::c(heap, &["-fsanitize=undefined"])),
        sanitized("undefined_behaviour_sanitizer_of_clang", clang(&["-fsanitize=undefined"])),
        // A race that it sees in what we do ends the program with status 66.
        sanitized("thread_sanitizer_of_gcc", Program::c(heap, &["-fsanitize=thread"])),
        sanitized("thread_sanitizer_of_clang", clang(&["-fsanitize=thread"])),
        // It ends a child that makes a thread, if it has seen several in the parent.
        sanitized("children_under_thread_sanitizer_of_gcc", Program::c(forks, &["-fsanitize=thread"])),
        sanitized(
            "children_under_thread_sanitizer_of_clang",
            Program::clang(forks, &["-fsanitize=thread"]).needs(runtime.0, runtime.1),
        ),
    ]
}

/// Checkpoints in a row, before a restart and after it.
fn many_checkpoints(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(1)?;
    for _ in 0..50 {
        s.checkpoint()?;
    }
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(1)?;
    for _ in 0..10 {
        s.checkpoint()?;
    }
    s.see_steps(1)?;
    s.finish(STATUS)
}

/// Threads that do nothing but allocate and free: a stop finds them inside the allocator.
fn allocators() -> Vec<Case> {
    let busy = |name: &str, library: Option<(&str, &str)>| {
        let program = match library {
            Some((path, package)) => Program::c("allocating.c", &[path]).needs(path, package),
            None => Program::c("allocating.c", &[]).env("MALLOC_ARENA_MAX", "1"),
        };
        Case::flow(name, program, many_checkpoints).streams(4).limit(240)
    };
    vec![
        busy("fifty_checkpoints_inside_malloc_of_glibc", None).sampled_as(RunAs::User),
        busy("fifty_checkpoints_inside_jemalloc", Some((JEMALLOC, "libjemalloc2"))).full_only(),
        busy("fifty_checkpoints_inside_tcmalloc", Some((TCMALLOC, "libgoogle-perftools4"))).full_only(),
        busy("fifty_checkpoints_inside_mimalloc", Some((MIMALLOC, "libmimalloc2.0"))).full_only(),
    ]
}

/// The same for the allocator of plugins, whose users signals interrupt as well; some of their handlers jump out of it.
fn in_plugins() -> Vec<Case> {
    let case = |name: &str, how: &str| {
        let flow = |s: &mut Scenario| {
            let plugin = built(s, "libtest_hungry.so")?;
            s.set_env("DMTCP_PLUGIN", &plugin);
            many_checkpoints(s)
        };
        Case::flow(name, Program::c("interrupted.c", &[]).args(&[how]), flow).streams(4).limit(240)
    };
    vec![
        case("fifty_checkpoints_inside_the_allocator_of_plugins", "returning").sampled_as(RunAs::User),
        case("fifty_checkpoints_with_jumps_out_of_the_allocator_of_plugins", "jumping").full_only(),
    ]
}

fn main() -> ExitCode {
    let valgrind = Program::script(&["/usr/bin/valgrind", "-q", "/bin/sh"], "shell.sh", "valgrind");
    let valgrind = refused("valgrind_is_refused", valgrind, "runs under valgrind");
    runner::main(allocators().into_iter().chain(in_plugins()).chain(sanitizers()).chain([valgrind]).collect())
}
