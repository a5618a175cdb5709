//! The interfaces for other people's code: dmtcp.h and its functions, plugins in C and Rust, what examples/ shows.

use dmtcp_tests::examples::{C99, c_plugin, compile, cxx_example, example, launch, root, rust_plugin, see};
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner};
use std::fs;
use std::process::ExitCode;

/// Exit status of programs that make steps.
const STATUS: i32 = 7;

/// Where `dmtcp.h` is.
const INCLUDE: &str = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../include");

fn threads() -> Program {
    Program::c("threads.c", &[]).args(&["2", "10"])
}

/// The last words of the lines that start with a word.
fn last_words(said: &str, prefix: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| line.starts_with(prefix));
    lines.filter_map(|line| line.split(' ').next_back()).map(str::to_owned).collect()
}

const ONE_CHECKPOINT: [&str; 4] = ["PRESUSPEND", "PRECHECKPOINT", "RESUME", "RUNNING"];

/// Events of a life with two checkpoints and a restart, as a plugin prints them.
fn events(s: &mut Scenario, plugin: &str, prefix: &str) -> Result<()> {
    s.set_env("DMTCP_PLUGIN", plugin);
    s.output_in_pipe();
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let before = last_words(&see(s, "RUNNING")?, prefix);
    s.see_steps(3)?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.finish(STATUS)?;
    let after = last_words(&see(s, "EXIT")?, prefix);
    let first: Vec<&str> = ["INIT"].into_iter().chain(ONE_CHECKPOINT).collect();
    let second: Vec<&str> = ["RESTART", "RUNNING"].into_iter().chain(ONE_CHECKPOINT).chain(["EXIT"]).collect();
    ensure!(before == first, "events before the restart: {before:?}");
    ensure!(after == second, "events after the restart: {after:?}");
    Ok(())
}

fn c_plugin_gets_events(s: &mut Scenario) -> Result<()> {
    let plugin = c_plugin(s, "event_printer")?;
    events(s, &plugin, "event_printer: ")
}

fn rust_plugin_gets_events(s: &mut Scenario) -> Result<()> {
    let plugin = rust_plugin(s, "event_printer")?;
    events(s, &plugin, "dmtcp: plugin event-printer: ")
}

/// A plugin in C++ in the manner of the original's, through two generations.
fn third_party_plugin_works(s: &mut Scenario) -> Result<()> {
    let source = root().join("tests/programs/third_party.cpp");
    let plugin = compile(s, &["g++", "-std=c++11", "-Wall", "-shared", "-fPIC"], &source, "third_party.so")?;
    s.set_env("DMTCP_PLUGIN", &plugin.display().to_string());
    s.set_env("THIRD_PARTY", "love");
    s.output_in_pipe();
    s.launch()?;
    let mut said = String::new();
    for _ in 0..2 {
        s.see_steps(3)?;
        s.checkpoint()?;
        s.see_steps(3)?;
        said += &see(s, "resumed")?;
        s.kill()?;
        s.restart(&Restart::images())?;
    }
    s.see_steps(3)?;
    s.finish(STATUS)?;
    said += &see(s, "files were opened")?;
    let all: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("third_party: ")).collect();
    let one = ["resumed", "restarted with love"];
    let expected = [&["the plugin is there"], &one[..], &one, &["some files were opened"]].concat();
    ensure!(all == expected, "it said: {said}");
    Ok(())
}

fn c_plugins_are_outermost(s: &mut Scenario) -> Result<()> {
    let plugins = format!("{}:{}", rust_plugin(s, "event_printer")?, c_plugin(s, "event_printer")?);
    s.set_env("DMTCP_PLUGIN", &plugins);
    s.output_in_pipe();
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let said = see(s, "RUNNING")?;
    for (event, c_is_first) in [("PRECHECKPOINT", true), ("RESUME", false)] {
        let lines: Vec<&str> = said.lines().filter(|line| line.ends_with(event)).collect();
        ensure!(lines.len() == 2 && lines[0].starts_with("event_printer") == c_is_first, "{event}: {lines:?}");
    }
    s.finish(STATUS)
}

fn wrappers_stack(s: &mut Scenario) -> Result<()> {
    let (one, two, c) = (rust_plugin(s, "sleep1")?, rust_plugin(s, "sleep2")?, c_plugin(s, "sleep_c")?);
    let port = s.port()?;
    let orders: [(Vec<&str>, &[&str]); 4] = [
        (vec![&one, &two], &["sleep1", "sleep2"]),
        (vec![&two, &one], &["sleep2", "sleep1"]),
        (vec![&two, &c, &one], &["sleep2", "sleep1", "sleep_c"]),
        (vec![&c], &["sleep_c"]),
    ];
    for (plugins, expected) in &orders {
        for options in [&[][..], &["--disable-all-plugins"]] {
            let mut command = s.tool("dmtcp_launch");
            command.args(["-j", "-p", &port, "--with-plugin", &plugins.join(":")]).args(options);
            command.args(["perl", "-e", "sleep 1; print \"slept\\n\""]);
            let said = text(&s.output(command)?);
            let order: Vec<&str> = said.lines().filter_map(|line| line.strip_suffix(": before")).collect();
            ensure!(said.contains("slept") && order == *expected, "{plugins:?} {options:?}: {said}");
        }
    }
    Ok(())
}

fn another_interface_version_is_refused(s: &mut Scenario) -> Result<()> {
    let source = s.path("old.c");
    let plugin = root().join("examples/c/event_printer.c");
    fs::write(
        &source,
        format!(
            "#include \"dmtcp.h\"\n#undef DMTCP_PLUGIN_API_VERSION\n#define DMTCP_PLUGIN_API_VERSION \"3\"\n#include \"{}\"\n",
            plugin.display()
        ),
    )?;
    let compiler: Vec<&str> = C99.iter().copied().chain(["-shared", "-fPIC"]).collect();
    let plugin = compile(s, &compiler, &source, "old.so")?;
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--with-plugin"]).arg(plugin).arg("true");
    let ended = s.output(command)?;
    let said = text(&ended);
    ensure!(ended.status.code() == Some(99), "{}: {said}", ended.status);
    ensure!(said.contains("event_printer is made for plugin interface 3, and this is 4"), "it said: {said}");
    Ok(())
}

/// A program that takes its own checkpoint is killed and restarted twice.
fn takes_its_own_checkpoint(s: &mut Scenario, program: &[&str], taken: &str) -> Result<()> {
    s.output_in_pipe();
    // The harness wants to cut the log of steps; this program makes none.
    fs::write(s.log(), "")?;
    launch(s, &[], program)?;
    see(s, taken)?;
    see(s, "step 12")?;
    let said = see(s, "step 10\n")?;
    ensure!(said.matches("step 10\n").count() == 1 && !said.contains("restarted"), "it said: {said}");
    for _ in 0..2 {
        s.kill()?;
        s.restart(&Restart::images())?;
        let said = see(s, "step 11")?;
        ensure!(said.starts_with("restarted\n"), "after the restart it said: {said}");
        let images = s.image_directory().to_path_buf();
        ensure!(s.image_files()?.is_empty(), "a restart took a checkpoint in {}", images.display());
        see(s, "step 12")?;
        // The same images again: restarts write into a directory of their own.
        let first = images.with_file_name("images.0");
        s.rewind(&first, &[])?;
    }
    Ok(())
}

fn c_program_takes_its_own_checkpoint(s: &mut Scenario) -> Result<()> {
    let program = example(s, "self_checkpoint")?.display().to_string();
    takes_its_own_checkpoint(s, &[&program], "the image is ")
}

fn cxx_program_takes_its_own_checkpoint(s: &mut Scenario) -> Result<()> {
    let program = cxx_example(s, "self_checkpoint")?.display().to_string();
    takes_its_own_checkpoint(s, &[&program], "the image is ")
}

fn python_program_takes_its_own_checkpoint(s: &mut Scenario) -> Result<()> {
    for name in ["dmtcp.py", "self_checkpoint.py"] {
        fs::copy(root().join("examples/python").join(name), s.path(name))?;
    }
    takes_its_own_checkpoint(s, &["/usr/bin/python3", "self_checkpoint.py"], "checkpoint taken")
}

fn examples_run_without_us(s: &mut Scenario) -> Result<()> {
    let program = example(s, "self_checkpoint")?;
    let mut command = s.command("/usr/bin/timeout");
    command.arg("1").arg(program);
    let said = text(&s.output(command)?);
    ensure!(said.contains("step 10\nno checkpoint: run me under dmtcp_launch\nstep 11\n"), "it said: {said}");
    fs::copy(root().join("examples/python/dmtcp.py"), s.path("dmtcp.py"))?;
    let mut command = s.command("/usr/bin/python3");
    command.args(["-c", "import dmtcp; print(dmtcp.is_enabled(), dmtcp.checkpoint(), dmtcp.local_status())"]);
    let said = text(&s.output(command)?);
    ensure!(said == "False 3 None\n", "it said: {said}");
    Ok(())
}

fn sections_of_c_are_whole(s: &mut Scenario) -> Result<()> {
    let program = example(s, "critical_section")?.display().to_string();
    sections_are_whole(s, &[&program])
}

fn sections_of_cxx_are_whole(s: &mut Scenario) -> Result<()> {
    let program = cxx_example(s, "critical_section")?.display().to_string();
    sections_are_whole(s, &[&program])
}

fn sections_of_python_are_whole(s: &mut Scenario) -> Result<()> {
    for name in ["dmtcp.py", "critical_section.py"] {
        fs::copy(root().join("examples/python").join(name), s.path(name))?;
    }
    sections_are_whole(s, &["/usr/bin/python3", "critical_section.py"])
}

fn sections_are_whole(s: &mut Scenario, program: &[&str]) -> Result<()> {
    s.output_in_pipe();
    fs::write(s.log(), "")?;
    launch(s, &[], program)?;
    see(s, "round 1: ")?;
    for _ in 0..4 {
        s.checkpoint()?;
    }
    s.kill()?;
    s.restart(&Restart::images())?;
    see(s, "round ")?;
    s.checkpoint()?;
    let said = see(s, "whole")?;
    ensure!(!said.contains("cut"), "it said: {said}");
    Ok(())
}

/// Functions that answer questions, and a checkpoint that cannot be.
fn questions_are_answered(s: &mut Scenario) -> Result<()> {
    fs::copy(root().join("examples/python/dmtcp.py"), s.path("dmtcp.py"))?;
    let port = s.port()?;
    let script = "import dmtcp, os\n\
                  first = dmtcp.checkpoint_filename()\n\
                  dmtcp.set_checkpoint_directory('chosen/by/me')\n\
                  print(dmtcp.coordinator_status(), dmtcp.local_status(), first != dmtcp.checkpoint_filename())\n\
                  print(dmtcp.checkpoint(), os.path.exists(dmtcp.checkpoint_filename()), dmtcp.local_status())\n\
                  with dmtcp.uncut():\n\
                  \x20   try: dmtcp.checkpoint()\n\
                  \x20   except RuntimeError: print('refused')\n";
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "/usr/bin/python3", "-c", script]);
    let said = text(&s.output(command)?);
    ensure!(said.starts_with("(1, True) (0, 0) True\n1 True (1, 0)\nrefused\n"), "it said: {said}");
    ensure!(s.path("chosen/by/me").is_dir(), "the chosen directory was not created");
    Ok(())
}

fn environment() -> Program {
    Program::c("environment.c", &[]).env("FIRST", "one").env("SECOND", "two")
}

fn environment_is_changed_by_a_file(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    fs::write(s.image_directory().join("dmtcp_env.txt"), "# a comment\nFIRST=\"one and\thalf\" # more\nSECOND\n")?;
    // A restart takes its images, and this file, from where they are.
    s.set_env("DMTCP_ENV_FILE", &s.image_directory().join("dmtcp_env.txt").display().to_string());
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    fs::write(s.path("again.txt"), "SECOND=$STEPS_LOG:$FIRST\n")?;
    s.set_env("DMTCP_ENV_FILE", &s.path("again.txt").display().to_string());
    s.set_env("FIRST", "outer");
    s.restart(&Restart::script())?;
    s.see_steps(3)?;
    s.finish(STATUS)?;
    let log = s.progress();
    let expanded = format!("value SECOND {}:outer", s.log().display());
    let expected =
        vec!["value FIRST one", "value SECOND two", "value FIRST one and\thalf", "value SECOND (unset)", &expanded];
    ensure!(log.find("value") == expected, "{:?}", log.find("value"));
    Ok(())
}

/// Hooks in C use libc although a stop catches threads inside it nearly every time.
fn hooks_use_libc(s: &mut Scenario) -> Result<()> {
    let compiler: Vec<&str> = C99.iter().copied().chain(["-shared", "-fPIC"]).collect();
    let source = root().join("tests/programs/libc_hook.c");
    let plugin = compile(s, &compiler, &source, "libc_hook.so")?;
    s.set_env("DMTCP_PLUGIN", &plugin.display().to_string());
    s.launch()?;
    s.see_steps(3)?;
    for _ in 0..5 {
        s.checkpoint()?;
    }
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.finish(STATUS)
}

/// A file that has one name for the program and another for the file system: after a restart, yet another.
fn paths_are_translated(s: &mut Scenario) -> Result<()> {
    for name in ["first", "second"] {
        let directory = s.path(name);
        fs::create_dir(&directory)?;
        s.run_as().own(&directory)?;
        fs::write(directory.join("data"), format!("{name}\n"))?;
    }
    let mapping = |s: &Scenario, name: &str| format!("/unused:/x;/nowhere:{}", s.path(name).display());
    s.set_env("DMTCP_PATH_MAPPING", &mapping(s, "first"));
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    // The working directory was the first one: that has a new name, too.
    let both = format!("{};{}:{}", mapping(s, "second"), s.path("first").display(), s.path("second").display());
    s.set_env("DMTCP_PATH_MAPPING", &both);
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)?;
    ensure!(s.progress().find("value") == ["value first", "value second"], "{:?}", s.progress().find("value"));
    Ok(())
}

/// A plugin gives files another place, outside of the list of names, and the program sees its own.
fn plugin_translates_paths(s: &mut Scenario, plugin: &str) -> Result<()> {
    let directory = s.path("place");
    fs::create_dir(&directory)?;
    s.run_as().own(&directory)?;
    fs::write(directory.join("data"), "found\n")?;
    s.set_env("DMTCP_PLUGIN", plugin);
    // The plugin's name of the directory is the list's own.
    s.set_env("TRANSLATED", "/listed");
    s.set_env("DMTCP_PATH_MAPPING", &format!("/listed:{}", directory.display()));
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)?;
    ensure!(s.progress().find("value") == ["value found"], "{:?}", s.progress().find("value"));
    Ok(())
}

fn c_plugin_translates_paths(s: &mut Scenario) -> Result<()> {
    let plugin = c_plugin(s, "path_translator")?;
    plugin_translates_paths(s, &plugin)
}

fn rust_plugin_translates_paths(s: &mut Scenario) -> Result<()> {
    let plugin = rust_plugin(s, "path_translator")?;
    plugin_translates_paths(s, &plugin)
}

/// Each checkpoint stays, and the older one can be restarted.
fn every_checkpoint_is_kept(s: &mut Scenario) -> Result<()> {
    let checkpoint = |s: &mut Scenario| {
        s.see_steps(3)?;
        let answer = s.ask(&["bc"])?;
        ensure!(answer.status.success(), "dmtcp_command bc: {}", text(&answer));
        s.see_steps(3)
    };
    s.launch()?;
    checkpoint(s)?;
    let log = fs::read(s.log())?;
    checkpoint(s)?;
    s.kill()?;
    let base = s.image_directory().to_path_buf();
    let script = fs::read_to_string(base.join("dmtcp_restart_script.sh"))?;
    ensure!(script.contains("/generation-00002/ckpt_threads_"), "the script does not restart the newest: {script}");
    for generation in ["generation-00002", "generation-00001"] {
        s.rewind(&base.join(generation), &log)?;
        s.restart(&Restart::images())?;
        checkpoint(s)?;
        let directory = s.image_directory().to_path_buf();
        let new =
            fs::read_dir(&directory)?.flatten().any(|x| x.file_name().to_string_lossy().starts_with("generation-"));
        ensure!(new, "the checkpoint after the restart is not in a directory of its own in {}", directory.display());
        s.kill()?;
    }
    Ok(())
}

/// Files that the tutorial shows are the examples, word for word.
fn tutorial_shows_the_examples(_: &mut Scenario) -> Result<()> {
    let tutorial = fs::read_to_string(root().join("docs/plugin-tutorial.md"))?;
    let mut shown = 0;
    for part in tutorial.split("\n`examples/").skip(1) {
        let Some((name, rest)) = part.split_once('`') else { continue };
        let Some(rest) = rest.strip_prefix(":\n\n```") else { continue };
        let head = format!("examples/{name}");
        let Some(code) = rest.split_once('\n').and_then(|(_, code)| code.split_once("\n```")) else { continue };
        let file = fs::read_to_string(root().join(&head)).with_context(|| format!("the tutorial shows {head}"))?;
        ensure!(file.trim_end() == code.0, "docs/plugin-tutorial.md shows another {head} than there is");
        shown += 1;
    }
    ensure!(shown >= 9, "the tutorial shows only {shown} files");
    Ok(())
}

/// What a plugin's restart half says of its section.
fn section_is_explained(s: &mut Scenario) -> Result<()> {
    let plugin = rust_plugin(s, "where_from")?;
    s.set_env("DMTCP_PLUGIN", &plugin);
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let mut inspect = s.tool("dmtcp_inspect");
    inspect.args(s.image_files()?);
    let said = text(&s.output(inspect)?);
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    ensure!(said.contains(&format!("checkpointed on {}", host.trim())), "dmtcp_inspect says: {said}");
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// UDP sockets, which no plugin of ours knows: without the example a checkpoint names them.
fn rust_plugin_claims_descriptors(s: &mut Scenario) -> Result<()> {
    s.set_env("DMTCP_PLUGIN", &rust_plugin(s, "datagrams")?);
    s.three_generations(5)?;
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let case = |name, flow: fn(&mut Scenario) -> Result<()>| Case::flow(name, threads(), flow).sampled_as(RunAs::User);
    let shown = |name, flow: fn(&mut Scenario) -> Result<()>| {
        Case::flow(name, Program::c("renamed.c", &[]).env("NAMED", "/shown"), flow).sampled_as(RunAs::User)
    };
    runner::main(vec![
        case("c_plugin_gets_its_events_in_order", c_plugin_gets_events),
        case("rust_plugin_gets_its_events_in_order", rust_plugin_gets_events),
        case("plugin_of_somebody_else_in_cxx_works_unchanged", third_party_plugin_works),
        case("c_plugins_are_first_before_and_last_after_a_checkpoint", c_plugins_are_outermost),
        case("wrappers_of_rust_and_c_plugins_stack", wrappers_stack),
        case("c_plugin_for_another_interface_is_refused", another_interface_version_is_refused),
        case("c_program_takes_its_own_checkpoint", c_program_takes_its_own_checkpoint),
        case("cxx_program_takes_its_own_checkpoint", cxx_program_takes_its_own_checkpoint),
        case("python_program_takes_its_own_checkpoint", python_program_takes_its_own_checkpoint),
        case("examples_run_without_us", examples_run_without_us).only(RunAs::User),
        case("no_checkpoint_cuts_a_section", sections_of_c_are_whole),
        case("no_checkpoint_cuts_a_section_in_cxx", sections_of_cxx_are_whole),
        case("no_checkpoint_cuts_a_section_in_python", sections_of_python_are_whole),
        case("program_asks_how_things_stand", questions_are_answered),
        // One arena for all threads, the one for hooks included.
        Case::flow(
            "hooks_in_c_use_libc_that_stopped_threads_were_in",
            Program::c("libc_busy.c", &[]).env("MALLOC_ARENA_MAX", "1"),
            hooks_use_libc,
        )
        .sampled_as(RunAs::User),
        Case::new("locks_of_plugins_are_fought_for_over_restarts", Program::c("plugin_locks.c", &[INCLUDE]))
            .streams(9)
            .sampled_as(RunAs::User),
        Case::flow(
            "rust_plugin_claims_descriptors_that_nobody_knows",
            Program::c("datagrams.c", &[]),
            rust_plugin_claims_descriptors,
        )
        .sampled_as(RunAs::User),
        case("section_of_a_plugin_is_explained", section_is_explained),
        case("tutorial_shows_the_examples", tutorial_shows_the_examples).only(RunAs::User),
        case("every_checkpoint_is_kept", every_checkpoint_is_kept).options(&["--enable-unique-checkpoint-filenames"]),
        Case::flow("paths_are_translated", Program::c("renamed.c", &[]), paths_are_translated).sampled_as(RunAs::User),
        shown("c_plugin_translates_paths", c_plugin_translates_paths),
        shown("rust_plugin_translates_paths", rust_plugin_translates_paths),
        Case::flow("modify_env_changes_variables_at_restart", environment(), environment_is_changed_by_a_file)
            .options(&["--modify-env"])
            .sampled_as(RunAs::User),
    ])
}
