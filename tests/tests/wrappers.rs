//! Wrappers: what they wrap, in which order, and what programs may do to them.

use dmtcp_tests::examples::{compile, root};
use dmtcp_tests::library::{built, c_library};
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Program, Restart, Result, RunAs, Scenario, ensure, runner};
use std::fs;
use std::process::ExitCode;

/// Exit status of programs that make steps.
const STATUS: i32 = 7;

/// What a program prints under these plugins.
fn run(s: &mut Scenario, plugins: &[&str], options: &[&str], program: &[&str]) -> Result<String> {
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--with-plugin", &plugins.join(":")]).args(options).args(program);
    let ended = s.output(command)?;
    ensure!(ended.status.success(), "{program:?}: {}: {}", ended.status, text(&ended));
    Ok(text(&ended))
}

/// The wrappers that were called, in their order.
fn called(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.strip_suffix(": before")).collect()
}

fn priorities(s: &mut Scenario) -> Result<()> {
    let (one, faulty, early) =
        (built(s, "libexample_sleep1.so")?, built(s, "libtest_faulty.so")?, built(s, "libtest_early.so")?);
    let c = compile(s, &["gcc", "-shared", "-fPIC"], &root().join("examples/c/sleep_c.c"), "sleep_c.so")?;
    let c = c.display().to_string();
    // The wrapper's priority, then the plugin's, then the command line; C last.
    let all = [&c[..], &one, &faulty, &early];
    for (off, expected) in [
        (&[][..], &["early", "faulty", "sleep1", "sleep_c"][..]),
        (&["--disable-wrapper", "early:sleep"], &["faulty", "sleep1", "sleep_c"]),
        (&["--disable-wrapper", "early:sleep", "--disable-wrapper", "sleep1:sleep"], &["faulty", "sleep_c"]),
        (&["--disable-plugin", "faulty"], &["early", "sleep1", "sleep_c"]),
    ] {
        let said = run(s, &all, off, &["perl", "-e", "sleep 1"])?;
        ensure!(called(&said) == expected, "{off:?}: {said}");
    }
    // A program that is executed gets the same.
    let said = run(s, &all, &["--disable-wrapper", "early:sleep"], &["env", "-i", "/usr/bin/perl", "-e", "sleep 1"])?;
    ensure!(called(&said) == ["faulty", "sleep1", "sleep_c"], "after an exec: {said}");
    Ok(())
}

/// A library with two versions of each function.
const VERSIONED: &str = "int old_one(void); int old_two(void); int new_one(void); int new_two(void);\n\
    int old_one(void) { return 1; }\nint new_one(void) { return 2; }\n\
    int old_two(void) { return 1; }\nint new_two(void) { return 2; }\n\
    __asm__(\".symver old_one, answer_of_a_version@OLD_1.0\");\n\
    __asm__(\".symver new_one, answer_of_a_version@@NEW_1.0\");\n\
    __asm__(\".symver old_two, answer_by_default@OLD_1.0\");\n\
    __asm__(\".symver new_two, answer_by_default@@NEW_1.0\");\n";

fn versions(s: &mut Scenario) -> Result<()> {
    fs::write(s.path("versions"), "OLD_1.0 { global: answer_*; local: *; }; NEW_1.0 { global: answer_*; } OLD_1.0;\n")?;
    let script = format!("-Wl,--version-script={}", s.path("versions").display());
    let library = c_library(s, "libversioned", VERSIONED, &[&script])?;
    let source = s.path("asks.c");
    fs::write(
        &source,
        "#include <stdio.h>\nint answer_of_a_version(void);\nint answer_by_default(void);\n\
         int main(void) { return printf(\"%d %d\\n\", answer_of_a_version(), answer_by_default()) < 0; }\n",
    )?;
    let path = compile(s, &["gcc", "-Wl,--no-as-needed", &library], &source, "asks")?;
    let early = built(s, "libtest_early.so")?;
    let said = run(s, &[&early], &[], &[&path.display().to_string()])?;
    ensure!(said == "1001 1002\n", "it said: {said}");
    Ok(())
}

/// SQLite in C, linked or loaded as the macro says.
const SQLITE: &str = r#"
#include <dlfcn.h>
#include <sqlite3.h>
int main(void)
{
  int (*open_it)(const char *, sqlite3 **) = 0;
  int (*prepare)(sqlite3 *, const char *, int, sqlite3_stmt **, const char **) = 0;
  sqlite3 *base;
  sqlite3_stmt *statement;
#ifdef LOADED
  void *library = dlopen("libsqlite3.so.0", RTLD_NOW | RTLD_LOCAL);
  *(void **)&open_it = dlsym(library, "sqlite3_open");
  *(void **)&prepare = dlsym(library, "sqlite3_prepare_v2");
#else
  open_it = sqlite3_open;
  prepare = sqlite3_prepare_v2;
#endif
  return open_it(":memory:", &base) | prepare(base, "select 42", -1, &statement, 0);
}
"#;

fn third_party(s: &mut Scenario) -> Result<()> {
    let plugin = built(s, "libexample_query_log.so")?;
    let source = s.path("sqlite.c");
    fs::write(&source, SQLITE)?;
    let mut programs = Vec::new();
    for (name, flags) in [("linked", "-lsqlite3"), ("loaded", "-DLOADED")] {
        let path = compile(s, &["gcc", "-Wl,--no-as-needed", flags], &source, name)?;
        programs.push(vec![path.display().to_string()]);
    }
    let python = "import sqlite3; sqlite3.connect(':memory:').execute('select 42')";
    programs.push(["/usr/bin/python3", "-c", python].map(str::to_owned).to_vec());
    for program in &programs {
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let said = run(s, &[&plugin], &[], &program)?;
        ensure!(said == "query-log: open :memory:\nquery-log: statement select 42\n", "{program:?}: {said}");
        let off = ["--disable-wrapper", "query-log:sqlite3_prepare_v2"];
        let said = run(s, &[&plugin], &off, &program)?;
        ensure!(said == "query-log: open :memory:\n", "{program:?} {off:?}: {said}");
    }
    Ok(())
}

/// A function with arguments in all registers and on the stack, and one that returns twice on one stack.
const PASSED: &str = r#"
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
  volatile int left = 0;
  int status;
  dprintf(2, "%d %d %d %d %d %g %g %g %g %g %g %g %g %g %s\n", 1, 2, 3, 4, 5, .1, .2, .3, .4, .5, .6, .7, .8, .9, "end");
  pid_t parent = getpid(), child = vfork();
  if (child == 0) {
    left = getppid() == parent;
    _exit(3);
  }
  return !(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3 && left == 1);
}
"#;

fn calls_that_pass(s: &mut Scenario) -> Result<()> {
    let source = s.path("passed.c");
    fs::write(&source, PASSED)?;
    let program = compile(s, &["gcc", "-O1", "-U_FORTIFY_SOURCE"], &source, "passed")?.display().to_string();
    let early = built(s, "libtest_early.so")?;
    let printed = "1 2 3 4 5 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 end\n";
    let said = run(s, &[&early], &[], &[&program])?;
    ensure!(said == format!("early: dprintf to 2\n{printed}early: vfork\n"), "it said: {said}");
    let said = run(s, &[&early], &["--disable-wrapper", "early:dprintf"], &[&program])?;
    ensure!(said == format!("{printed}early: vfork\n"), "it said: {said}");
    Ok(())
}

/// The program prints, and so do the wrappers, in a library's constructor, before anything of ours was initialised.
fn constructors(s: &mut Scenario) -> Result<()> {
    let text = "#include <unistd.h>\n__attribute__((constructor)) static void first(void)\n\
                { sleep(0); ssize_t n = write(2, \"constructor\\n\", 12); (void)n; }\n";
    let library = c_library(s, "libconstructor", text, &[])?;
    let source = s.path("main.c");
    fs::write(&source, "#include <unistd.h>\nint main(void) { return write(2, \"main\\n\", 5) != 5; }\n")?;
    let program = compile(s, &["gcc", "-Wl,--no-as-needed", &library], &source, "main")?.display().to_string();
    let (one, early) = (built(s, "libexample_sleep1.so")?, built(s, "libtest_early.so")?);
    let said = run(s, &[&one, &early], &[], &[&program])?;
    ensure!(said == "early: before\nsleep1: before\nconstructor\nmain\n", "it said: {said}");
    let c = compile(s, &["gcc", "-shared", "-fPIC"], &root().join("examples/c/sleep_c.c"), "sleep_c.so")?;
    let c = c.display().to_string();
    let said = run(s, &[&one, &c, &early], &[], &[&program])?;
    ensure!(said == "early: before\nsleep1: before\nsleep_c: before\nconstructor\nmain\n", "with C it said: {said}");
    Ok(())
}

/// The program's tickets are good with each server that a restart brings, whose numbers for them are others.
fn handles_are_renewed(s: &mut Scenario) -> Result<()> {
    let library = fs::read_to_string(root().join("tests/programs/ticket_library.c"))?;
    c_library(s, "libticket", &library, &[])?;
    let plugin = built(s, "libexample_tickets.so")?;
    s.set_env("DMTCP_PLUGIN", &plugin);
    s.set_env("TICKET_SERVER", &s.path("server").display().to_string());
    let serve = |s: &Scenario, name: &str, first: usize| -> Result<()> {
        let directory = s.path(name);
        fs::create_dir(&directory)?;
        // These have been taken by others.
        for taken in 0..first {
            fs::write(directory.join(taken.to_string()), "")?;
        }
        s.run_as().own(&directory)?;
        Ok(fs::write(s.path("server"), format!("{}\n", directory.display()))?)
    };
    serve(s, "first", 40)?;
    s.launch()?;
    s.see_steps(5)?;
    for (name, first) in [("second", 0), ("third", 20)] {
        s.checkpoint()?;
        s.see_steps(5)?;
        s.kill()?;
        serve(s, name, first)?;
        s.restart(&Restart::images())?;
        s.see_steps(5)?;
    }
    s.finish(STATUS)
}

/// Three generations with wrappers of two plugins in Rust and one in C around everything.
fn unwinding(s: &mut Scenario) -> Result<()> {
    let source = s.path("callback.cpp");
    fs::write(
        &source,
        "extern \"C\" int call_back(int (*function)(int), int argument) { return function(argument); }\n",
    )?;
    compile(s, &["g++", "-shared", "-fPIC"], &source, "libcallback.so")?;
    let (one, early) = (built(s, "libexample_sleep1.so")?, built(s, "libtest_early.so")?);
    let c = compile(s, &["gcc", "-shared", "-fPIC"], &root().join("examples/c/sleep_c.c"), "sleep_c.so")?;
    s.set_env("DMTCP_PLUGIN", &format!("{one}:{}:{early}", c.display()));
    s.set_env("WRAPPED", "1");
    s.three_generations(3)?;
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let case = |name, flow: fn(&mut Scenario) -> Result<()>| {
        Case::flow(name, Program::c("threads.c", &[]), flow).sampled_as(RunAs::User)
    };
    let through = Program::cxx("through_wrappers.cpp", &["-ldl"]);
    let tickets = Program::c("tickets.c", &[concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../include"), "-ldl"]);
    runner::main(vec![
        Case::flow("handles_of_a_server_are_renewed_after_restarts", tickets, handles_are_renewed)
            .sampled_as(RunAs::User),
        case("wrappers_follow_their_priorities", priorities),
        case("wrappers_call_the_version_that_they_ask_for", versions),
        case("wrappers_let_calls_pass_whose_arguments_nobody_knows", calls_that_pass),
        case("wrappers_work_in_constructors_of_libraries", constructors),
        Case::flow("wrappers_are_left_by_exception_cancellation_and_jump", through, unwinding).streams(3),
        case("functions_of_a_library_are_wrapped_however_it_comes", third_party),
    ])
}
