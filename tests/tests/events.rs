//! Events of what the program does (descriptors, threads, forks, programs, restarts of threads), as example plugins in C and
//! in Rust are told of them.

use dmtcp_tests::examples::{C99, c_plugin, compile, root, rust_plugin};
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Program, Restart, Result, RunAs, Scenario, ensure, runner};
use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

/// Exit status of programs that make steps.
const STATUS: i32 = 7;
/// What begins the lines of the two plugins.
const WATCHERS: [&str; 2] = ["watcher.c: ", "watcher.rs: "];

fn watchers(s: &Scenario) -> Result<String> {
    Ok(format!("{}:{}", rust_plugin(s, "watcher")?, c_plugin(s, "watcher")?))
}

/// What the program did, without numbers, as a plugin told it.
fn told(said: &str, prefix: &str) -> Vec<String> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(prefix));
    let words = |line: &str| line.split(' ').filter(|word| word.parse::<i32>().is_err()).collect::<Vec<_>>().join(" ");
    let mut told: Vec<String> = lines.map(words).collect();
    if let Some(last) = told.iter().position(|line| line.starts_with("executed")) {
        // The shell does things of its own.
        told.truncate(last + 1);
    }
    told
}

/// Plugins that ask are told of descriptors, threads and programs, in C and in Rust, in their order.
fn plugins_are_told_what_the_program_does(s: &mut Scenario) -> Result<()> {
    let plugins = watchers(s)?;
    let program = s.prepared()?.remove(0);
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--with-plugin", &plugins, &program]);
    let said = text(&s.output(command)?);
    let both = [
        "open /dev/null",
        "dup",
        "dup",
        "close",
        "close",
        "open /dev/zero",
        "reopen /dev/null",
        "close",
        "thread starts",
        "thread returns",
        "thread starts",
        "thread exits",
        "fork begins",
        "forked",
        "fork begins",
        "fork failed",
        "exec /nowhere/at/all",
        "exec /nowhere/to/spawn",
        "exec /nowhere/to/search",
        "exec /nowhere/with/environment",
        "exec /nowhere/with/path",
        "exec /bin/sh",
    ];
    for (prefix, last) in
        [("watcher.c: ", "executed"), ("watcher.rs: ", "executed; there was word of watcher.c, word of watcher.rs, ")]
    {
        let expected: Vec<&str> = both.into_iter().chain([last]).collect();
        ensure!(told(&said, prefix) == expected, "{prefix}{:?}: {said}", told(&said, prefix));
    }
    // C plugins are outermost: first forward, last in reverse.
    for (event, c_is_first) in [
        ("open", true),
        ("thread starts", true),
        ("thread returns", false),
        ("thread exits", false),
        ("fork begins", true),
        ("forked", false),
        ("fork failed", false),
    ] {
        let first = said.lines().find(|line| line.contains(&format!(": {event}")));
        ensure!(first.is_some_and(|line| line.starts_with("watcher.c") == c_is_first), "{event}: {said}");
    }
    ensure!(said.contains("WATCHED is yes, state is gone"), "it said: {said}");
    Ok(())
}

/// A program that is spawned gets what plugins make of its environment, and its plugins what was left for them.
fn plugins_are_told_of_spawned_programs(s: &mut Scenario) -> Result<()> {
    let plugins = watchers(s)?;
    let port = s.port()?;
    let script = "import os\n\
                  shell = ['sh', '-c', 'echo \"WATCHED is $WATCHED, state is ${DMTCP_EXEC_STATE:-gone}\"']\n\
                  before = os.listdir('/proc/self/fd')\n\
                  os.waitpid(os.posix_spawn('/bin/sh', shell, os.environ), 0)\n\
                  print('same' if os.listdir('/proc/self/fd') == before else 'other', 'descriptors')\n";
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--with-plugin", &plugins, "/usr/bin/python3", "-c", script]);
    let said = text(&s.output(command)?);
    for expected in [
        "watcher.c: exec /bin/sh\n",
        "watcher.rs: executed; there was word of watcher.c, word of watcher.rs, \n",
        "WATCHED is yes, state is gone\n",
        "same descriptors\n",
    ] {
        ensure!(said.contains(expected), "'{expected}' is missing in: {said}");
    }
    Ok(())
}

/// A vfork that plugins are told of does what it does without them.
fn plugins_are_told_of_vforks(s: &mut Scenario) -> Result<()> {
    let program = s.prepared()?.remove(0);
    let ended = s.output(s.command(&program))?;
    ensure!(ended.status.code() == Some(STATUS), "alone: {}: {}", ended.status, text(&ended));
    let port = s.port()?;
    for (options, is_told) in [(&[][..], true), (&["--disable-wrapper", "program-events:vfork"], false)] {
        let mut command = s.tool("dmtcp_launch");
        command.args(["-j", "-p", &port, "--with-plugin", &watchers(s)?]).args(options).arg(&program);
        let ended = s.output(command)?;
        let said = text(&ended);
        let failed = s.progress().complaint();
        ensure!(ended.status.code() == Some(STATUS), "{options:?}: {}: {failed:?} {said}", ended.status);
        for who in WATCHERS {
            let count = |what: &str| said.lines().filter(|line| *line == format!("{who}{what}")).count();
            let seen = ["vfork begins", "vforked", "vfork's child", "vfork failed"].map(count);
            ensure!(seen == if is_told { [4, 3, 3, 1] } else { [0; 4] }, "{options:?}: {who}{seen:?}: {said}");
            // The child of the child is a fork's.
            let forks = ["fork begins", "forked", "fork failed"].map(count);
            ensure!(forks == if is_told { [1, 1, 0] } else { [0; 3] }, "{options:?}: {who}{forks:?}: {said}");
        }
        for (event, c_is_first) in [("vfork begins", true), ("vforked", false), ("vfork's child", false)] {
            let first = said.lines().find(|line| line.ends_with(event));
            ensure!(
                !is_told || first.is_some_and(|line| line.starts_with("watcher.c") == c_is_first),
                "{event}: {said}"
            );
        }
    }
    Ok(())
}

/// The parent of a child that stands for a vfork's waits on through checkpoints and restarts.
fn vfork_is_under_way(s: &mut Scenario) -> Result<()> {
    let plugins = watchers(s)?;
    s.set_env("DMTCP_PLUGIN", &plugins);
    s.three_generations(3)?;
    s.finish(STATUS)?;
    let progress = s.progress();
    let order: Vec<&str> = ["stopping", "vfork"].iter().flat_map(|word| progress.find(word)).collect();
    ensure!(order == ["stopping", "vfork is over"], "{order:?}");
    let tail = progress.tail(3);
    ensure!(tail.find("stopping") < tail.find("vfork is over"), "{tail}");
    Ok(())
}

/// How often each thread was told that it has come back, by its id.
fn resumes(s: &Scenario, who: &str) -> Result<BTreeMap<String, u32>> {
    let said = String::from_utf8_lossy(&fs::read(s.output_file())?).into_owned();
    let mut threads = BTreeMap::new();
    for line in said.lines().filter_map(|line| line.strip_prefix(who)?.strip_prefix("thread resumes ")) {
        *threads.entry(line.to_owned()).or_default() += 1;
    }
    Ok(threads)
}

/// Each thread of the program is told once after each restart, on itself, and never after a checkpoint.
fn threads_are_told_of_restarts(s: &mut Scenario) -> Result<()> {
    let plugins = watchers(s)?;
    s.set_env("DMTCP_PLUGIN", &plugins);
    s.output_in_pipe();
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    for who in WATCHERS {
        ensure!(resumes(s, who)?.is_empty(), "{who}threads were told after a checkpoint: {:?}", resumes(s, who)?);
    }
    for restarts in 1..=2 {
        s.kill()?;
        fs::write(s.output_file(), "")?;
        s.restart(&Restart::images())?;
        s.see_steps(3)?;
        s.checkpoint()?;
        s.see_steps(3)?;
        for who in WATCHERS {
            // The first thread waits for the others.
            let told = resumes(s, who)?;
            ensure!(told.len() == 2 && told.values().all(|count| *count == 1), "{who}restart {restarts}: {told:?}");
        }
    }
    s.finish(STATUS)?;
    for who in WATCHERS {
        let told = resumes(s, who)?;
        ensure!(told.len() == 3 && told.values().all(|count| *count == 1), "{who}{told:?}");
    }
    // In reverse: C is last, on each thread. (Ids may be translated in one of the two.)
    let said = String::from_utf8_lossy(&fs::read(s.output_file())?).into_owned();
    let mut ahead = 0;
    for line in said.lines().filter(|line| line.contains(": thread resumes ")) {
        ahead += if line.starts_with("watcher.rs") { 1 } else { -1 };
        ensure!(ahead >= 0, "a plugin in C was told first: {said}");
    }
    Ok(())
}

/// A thread that is stopped inside a hook of its own takes nothing from what plugins say of the process.
fn stopped_inside_a_hook(s: &mut Scenario) -> Result<()> {
    let compiler: Vec<&str> = C99.iter().copied().chain(["-shared", "-fPIC"]).collect();
    let plugin = compile(s, &compiler, &root().join("tests/programs/slow_exit.c"), "slow_exit.so")?;
    s.set_env("DMTCP_PLUGIN", &plugin.display().to_string());
    s.three_generations(3)?;
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let case = |name, program, flow: fn(&mut Scenario) -> Result<()>| {
        Case::flow(name, Program::c(program, &[]), flow).sampled_as(RunAs::User)
    };
    runner::main(vec![
        case("plugins_are_told_what_the_program_does", "watched.c", plugins_are_told_what_the_program_does),
        case("plugins_are_told_of_spawned_programs", "watched.c", plugins_are_told_of_spawned_programs),
        case("plugins_are_told_of_vforks", "vforks.c", plugins_are_told_of_vforks),
        case("programs_come_back_inside_the_hook_for_their_end", "leaves.c", stopped_inside_a_hook),
        case("a_vfork_waits_through_checkpoint_and_restart", "vfork_held.c", vfork_is_under_way),
        Case::flow(
            "threads_are_told_that_they_have_come_back",
            Program::c("threads.c", &[]).args(&["2", "10"]),
            threads_are_told_of_restarts,
        )
        .streams(2)
        .sampled_as(RunAs::User),
    ])
}
