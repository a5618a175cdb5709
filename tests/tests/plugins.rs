//! Plugins that are loaded, switched off, listed, and that go wrong: as files, at the start, in their hooks.

use dmtcp_tests::examples::root;
use dmtcp_tests::library::{built, c_library};
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Program, Restart, Result, RunAs, Scenario, bail, ensure, runner, wait};
use serde_json::Value;
use std::fs;
use std::process::{ExitCode, Output};

/// Exit status of programs that make steps.
const STATUS: i32 = 7;

fn threads() -> Program {
    Program::c("threads.c", &[]).args(&["2", "10"])
}

/// `dmtcp_launch OPTIONS` in a computation of its own.
fn launch(s: &mut Scenario, options: &[&str], program: &[&str]) -> Result<Output> {
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port]).args(options).args(program);
    s.output(command)
}

/// The launch ends with 99 and a sentence that has all of these parts; the program has not run.
fn refused(s: &mut Scenario, options: &[&str], parts: &[&str]) -> Result<String> {
    let ended = launch(s, options, &["echo", "the program ran"])?;
    let said = text(&ended);
    ensure!(ended.status.code() == Some(99), "{options:?}: {}: {said}", ended.status);
    ensure!(!said.contains("the program ran"), "{options:?}: the program ran: {said}");
    for part in parts {
        ensure!(said.contains(part), "{options:?}: nothing of '{part}' in: {said}");
    }
    Ok(said)
}

/// As [`refused`], for one plugin, which the sentence names, and nothing else is said.
fn refused_plugin(s: &mut Scenario, path: &str, part: &str) -> Result<()> {
    let said = refused(s, &["--with-plugin", path], &[path, part])?;
    ensure!(said.lines().count() == 1, "more than one line: {said}");
    Ok(())
}

fn files_that_are_no_plugins(s: &mut Scenario) -> Result<()> {
    let name = |s: &Scenario, name: &str| s.path(name).display().to_string();
    refused_plugin(s, &name(s, "missing.so"), "No such file or directory")?;
    let directory = name(s, "directory.so");
    fs::create_dir(&directory)?;
    refused_plugin(s, &directory, "it is a directory")?;
    let plugin = fs::read(built(s, "libexample_sleep1.so")?)?;
    let mut other_machine = plugin.clone();
    other_machine[18] = 183;
    for (file, content, part) in [
        ("empty.so", &b""[..], "it is no ELF file"),
        ("text.so", &b"#!/bin/sh\n"[..], "it is no ELF file"),
        ("narrow.so", &b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0"[..], "32-bit"),
        ("cut.so", &plugin[..900], "not a shared library"),
        ("arm.so", &other_machine[..], "machine 183"),
    ] {
        fs::write(s.path(file), content)?;
        refused_plugin(s, &name(s, file), part)?;
    }
    let object = c_library(s, "object", "int nothing;\n", &["-r", "-nostdlib", "-no-pie"]);
    // A compiler that takes -shared and -r for a contradiction has made nothing.
    if let Ok(object) = object {
        refused_plugin(s, &object, "shared")?;
    }
    let plain = c_library(s, "plain", "int nothing;\n", &[])?;
    refused_plugin(s, &plain, "is no plugin: it exports neither")
}

/// Tables of a plugin as a compiler of another language makes them: ABI, size, size of the core's table.
fn tables(symbol: &str, abi: u32, core_size: u32) -> String {
    format!(
        "struct plugin {{ unsigned abi, size, core_size; int priority; const void *rest[8]; }};\n\
         const struct plugin {symbol} = {{ {abi}, sizeof(struct plugin), {core_size}, 0, {{ \"x\", \"1\", 0, 0, 0, 0, 0, 0 }} }};\n"
    )
}

fn plugins_of_other_interfaces(s: &mut Scenario) -> Result<()> {
    for (symbol, abi, core_size, part) in [
        ("dmtcp_plugin_v2", 2, 64, "it exports dmtcp_plugin_v2"),
        ("dmtcp_plugin_v0", 0, 64, "it exports dmtcp_plugin_v0"),
        ("dmtcp_plugin_v1", 2, 64, "is made for a newer DMTCP"),
        ("dmtcp_plugin_v1", 0, 64, "is made for an older DMTCP"),
        ("dmtcp_plugin_v1", 1, 1 << 20, "is made for a newer DMTCP"),
    ] {
        let plugin = c_library(s, &format!("{symbol}_{abi}_{core_size}"), &tables(symbol, abi, core_size), &[])?;
        refused_plugin(s, &plugin, part)?;
    }
    Ok(())
}

/// Replaces each occurrence of a text in a library by another one of the same length.
fn altered(s: &Scenario, from: &str, to: &str, old: &[u8], new: &[u8]) -> Result<String> {
    let mut bytes = fs::read(built(s, from)?)?;
    let places: Vec<usize> = (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    ensure!(!places.is_empty() && old.len() == new.len(), "{from} has no '{}'", String::from_utf8_lossy(old));
    for at in places {
        bytes[at..at + old.len()].copy_from_slice(new);
    }
    fs::write(s.path(to), bytes)?;
    Ok(s.path(to).display().to_string())
}

fn restart_halves_of_other_layouts(s: &mut Scenario) -> Result<()> {
    let file = "libexample_where_from.so";
    let version = altered(s, file, "version.so", b"1.0.0", b"2.0.0")?;
    refused_plugin(s, &version, "has a restart half for interface 2.0.0, and this program has 1.0.0")?;
    // Names of fields are a part of the layout.
    let layout = altered(s, file, "layout.so", b"name;check;,create;,place;", b"name;check;,create;,plant;")?;
    refused_plugin(s, &layout, "has a restart half with another layout")
}

fn libraries_that_are_missing(s: &mut Scenario) -> Result<()> {
    let directory = s.path("").display().to_string();
    c_library(s, "libgone", "int gone(void);\nint gone(void) { return 1; }\n", &[])?;
    let calls = "int gone(void);\nint calls(void);\nint calls(void) { return gone(); }\n";
    let flags = ["-Wl,--no-as-needed", "-L", &directory, "-lgone"];
    let ours = c_library(s, "ours", &format!("{}{calls}", tables("dmtcp_plugin_v1", 1, 64)), &flags)?;
    let c = fs::read_to_string(root().join("examples/c/event_printer.c"))?;
    let c = c_library(s, "of_c", &format!("{c}{calls}"), &flags)?;
    fs::remove_file(s.path("libgone.so"))?;
    refused_plugin(s, &ours, "libgone.so: cannot open shared object file")?;
    refused_plugin(s, &c, "libgone.so: cannot open shared object file")
}

fn names_that_are_taken(s: &mut Scenario) -> Result<()> {
    let first = built(s, "libexample_sleep1.so")?;
    let second = s.path("copy.so").display().to_string();
    fs::copy(&first, &second)?;
    let both = format!("{first}:{second}");
    refused(s, &["--with-plugin", &both], &["two plugins are named sleep1", &first, &second])?;
    // The same file twice is one plugin.
    let twice = format!("{first}:{first}");
    ensure!(launch(s, &["--with-plugin", &twice], &["true"])?.status.success(), "one plugin named twice");
    let taken = altered(s, "libexample_sleep2.so", "taken.so", b"sleep2\0", b"timer\0\0")?;
    refused(s, &["--with-plugin", &taken], &["two plugins are named timer", &taken, "libdmtcp_timer.so"])?;
    let replaced = launch(s, &["--with-plugin", &taken, "--disable-plugin", "timer"], &["true"])?;
    ensure!(replaced.status.success(), "a plugin in the place of one of ours: {}", text(&replaced));
    let c = fs::read_to_string(root().join("examples/c/event_printer.c"))?;
    let (one, two) = (c_library(s, "one", &c, &[])?, c_library(s, "two", &c, &[])?);
    refused(
        s,
        &["--with-plugin", &format!("{one}:{two}")],
        &["two plugins with the C interface are named event_printer"],
    )?;
    refused(s, &["--disable-plugin", "ipc"], &["the service 'descriptors'", "libdmtcp_file.so", "libdmtcp_event.so"])?;
    Ok(())
}

fn initialisers_that_fail(s: &mut Scenario) -> Result<()> {
    let plugin = built(s, "libtest_faulty.so")?;
    for place in ["init", "INIT"] {
        for (how, part) in [("fail", "it was told to fail"), ("panic", "lib.rs")] {
            s.set_env("FAULTY", &format!("{how} {place}"));
            let said = refused(s, &["--with-plugin", &plugin], &["the plugin faulty", &plugin, part, "leave it out"]);
            let said = match (said, how, place) {
                // What `fail` says at INIT is the whole sentence.
                (Err(_), "fail", "INIT") => refused(s, &["--with-plugin", &plugin], &[part])?,
                (said, ..) => said?,
            };
            ensure!(said.lines().count() == 1, "more than one line: {said}");
        }
    }
    Ok(())
}

/// Launches the program with the plugin that goes wrong where it is told to.
fn launch_faulty(s: &mut Scenario, told: &str) -> Result<String> {
    let plugin = built(s, "libtest_faulty.so")?;
    s.set_env("DMTCP_PLUGIN", &plugin);
    s.set_env("FAULTY", told);
    s.output_in_pipe();
    s.launch()?;
    s.see_steps(3)?;
    Ok(plugin)
}

/// `dmtcp_command -bc` fails and says all of this.
fn no_checkpoint(s: &mut Scenario, parts: &[&str]) -> Result<()> {
    let answer = s.ask(&["bc"])?;
    let said = text(&answer);
    ensure!(!answer.status.success(), "there was a checkpoint: {said}");
    for part in parts {
        ensure!(said.contains(part), "nothing of '{part}' in: {said}");
    }
    Ok(())
}

/// The checkpoint fails by name, each time, and the program runs on.
fn no_checkpoint_and_no_harm(s: &mut Scenario, told: &str, parts: &[&str]) -> Result<()> {
    let plugin = launch_faulty(s, told)?;
    for _ in 0..2 {
        let parts: Vec<&str> = parts.iter().copied().map(|part| if part == "PATH" { &plugin } else { part }).collect();
        no_checkpoint(s, &parts)?;
        s.see_steps(3)?;
    }
    s.finish(STATUS)
}

/// What has been printed, once it has a line with this.
fn see(s: &Scenario, what: &str) -> Result<String> {
    wait::until(30, &format!("'{what}' to be printed"), || {
        let said = String::from_utf8_lossy(&fs::read(s.output_file())?).into_owned();
        Ok(said.contains(what).then_some(said))
    })
}

/// The checkpoint is taken; the user is told; from then on there are no more with this plugin.
fn panic_after_a_checkpoint(s: &mut Scenario, event: &str) -> Result<()> {
    let plugin = launch_faulty(s, &format!("panic {event}"))?;
    s.checkpoint()?;
    see(s, &format!("the plugin faulty ({plugin}) has failed at {event}: a hook panicked"))?;
    s.see_steps(3)?;
    no_checkpoint(s, &["the plugin faulty", &plugin, "panicked"])?;
    s.see_steps(3)?;
    s.kill()?;
    // The image is good: its plugin had not panicked when it was written.
    s.set_env("FAULTY", "");
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn panic_at_the_end(s: &mut Scenario) -> Result<()> {
    launch_faulty(s, "panic EXIT")?;
    s.finish(STATUS)?;
    see(s, "has failed at EXIT: a hook panicked")?;
    Ok(())
}

/// A restart with something undone ends, and names the plugin; the image stays for the next try.
fn failed_restart(s: &mut Scenario, how: &str, part: &str) -> Result<()> {
    let plugin = launch_faulty(s, &format!("{how} RESTART"))?;
    s.checkpoint()?;
    s.kill()?;
    s.restart(&Restart::images())?;
    let said = see(s, part)?;
    ensure!(said.contains("the process could not be restarted"), "it said: {said}");
    ensure!(how == "fail" || said.contains(&plugin), "nothing of {plugin} in: {said}");
    let ended = s.wait_end()?;
    ensure!(ended.code() == Some(99), "dmtcp_restart ended with {ended}");
    Ok(())
}

/// What `--list-plugins --json` shows.
fn listed(s: &Scenario, options: &[&str], variables: &[(&str, &str)]) -> Result<Vec<Value>> {
    let mut command = s.tool("dmtcp_launch");
    command.args(["--list-plugins", "--json"]).args(options).envs(variables.iter().copied());
    let ended = s.output(command)?;
    ensure!(ended.status.success(), "--list-plugins: {}", text(&ended));
    Ok(serde_json::from_slice(&ended.stdout)?)
}

fn loaded(list: &[Value]) -> Vec<&str> {
    list.iter().filter(|plugin| !plugin["order"].is_null()).filter_map(|plugin| plugin["name"].as_str()).collect()
}

fn plugins_are_listed(s: &mut Scenario) -> Result<()> {
    let (one, early) = (built(s, "libexample_sleep1.so")?, built(s, "libtest_early.so")?);
    let c = fs::read_to_string(root().join("examples/c/event_printer.c"))?;
    let c = c_library(s, "printer", &c, &[])?;
    let all = format!("{one}:{c}");
    let list = listed(s, &["--with-plugin", &all], &[("DMTCP_PLUGIN", &early)])?;
    let find = |name: &str| list.iter().find(|plugin| plugin["name"] == name);
    let (Some(file), Some(early)) = (find("file"), find("early")) else { bail!("not listed: {list:?}") };
    ensure!(file["requires"] == serde_json::json!(["descriptors"]) && file["restart_half"] == true, "{file}");
    ensure!(file["events"].as_array().is_some_and(|e| e.contains(&"RESTART".into())), "{file}");
    ensure!(early["version"] == "0.1.0" && early["priority"] == 50 && early["origin"] == "given", "{early}");
    ensure!(early["wrappers"].as_array().is_some_and(|w| w.contains(&"sleep".into())), "{early}");
    // Hooks of plugins in C are first.
    ensure!(list[0]["interface"] == "c" && list[0]["path"] == c.as_str() && list[0]["order"] == 1, "{}", list[0]);
    // By priority: 50, and 300 of those that ids belong to.
    ensure!(loaded(&list).ends_with(&["early", "pid-virt"]), "{:?}", loaded(&list));
    ensure!(find("modify-env").is_some_and(|plugin| plugin["order"].is_null()), "modify-env is loaded unasked");
    let mut command = s.tool("dmtcp_launch");
    command.args(["--list-plugins", "--with-plugin", &all]);
    let said = text(&s.output(command)?);
    for part in ["sleep1 0.1.0", "wraps     sleep", "requires  descriptors", "modify-env 0.1.0 (not loaded)", &c] {
        ensure!(said.contains(part), "nothing of '{part}' in: {said}");
    }
    Ok(())
}

/// Every way to switch a plugin off, or on.
fn switches(s: &mut Scenario) -> Result<()> {
    let all = listed(s, &[], &[])?;
    let all = loaded(&all);
    type Switch<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
    let table: [Switch; 14] = [
        (&["--disable-plugin", "timer"], &[], &["timer"]),
        (&["--disable-plugin", "timer", "--disable-plugin", "process"], &[], &["process", "timer"]),
        (&["--disable-event-plugin"], &[], &["event"]),
        (&["--disable-file-plugin"], &[], &["file"]),
        (&["--disable-timer-plugin"], &[], &["timer"]),
        (&["--disable-pid-plugin"], &[], &["pid-virt"]),
        (&["--disable-ipc-plugin"], &[], &["event", "file", "ipc", "pty", "socket", "ssh"]),
        (&["--disable-alloc-plugin", "--disable-dl-plugin"], &[], &[]),
        (&[], &[("DMTCP_EVENT_PLUGIN", "0")], &["event"]),
        (&[], &[("DMTCP_FILE_PLUGIN", "0")], &["file"]),
        (&[], &[("DMTCP_TIMER_PLUGIN", "0"), ("DMTCP_ALLOC_PLUGIN", "0"), ("DMTCP_DL_PLUGIN", "0")], &["timer"]),
        (&[], &[("DMTCP_PID_PLUGIN", "0"), ("DMTCP_FILE_PLUGIN", "1")], &["pid-virt"]),
        (&["--disable-all-plugins", "--pathvirt", "--modify-env"], &[], &all),
        (&[], &[("DMTCP_DISABLE_ALL_PLUGINS", "1")], &all),
    ];
    for (options, variables, off) in table {
        let now = listed(s, options, variables)?;
        let expected: Vec<&str> = all.iter().copied().filter(|name| !off.contains(name)).collect();
        ensure!(loaded(&now) == expected, "{options:?} {variables:?}: {:?}", loaded(&now));
    }
    for (options, variables, on) in [
        (&["--pathvirt"][..], &[][..], "path-virt"),
        (&["--modify-env"], &[], "modify-env"),
        (&[], &[("DMTCP_UNIQUE_CKPT_PLUGIN", "1")], "unique-ckpt"),
        (&[], &[("DMTCP_PATHVIRT_PLUGIN", "1")], "path-virt"),
    ] {
        let now = listed(s, options, variables)?;
        ensure!(loaded(&now).contains(&on), "{options:?} {variables:?}: {:?}", loaded(&now));
    }
    let known = "there are modify-env, path-virt, program-events, unique-ckpt, ";
    refused(s, &["--disable-plugin", "nosuch"], &["--disable-plugin: there is no plugin nosuch", known])?;
    refused(s, &["--disable-wrapper", "nosuch:open"], &["--disable-wrapper: there is no plugin nosuch", known])?;
    let sleep = built(s, "libexample_sleep1.so")?;
    let given = ["--with-plugin", &sleep, "--disable-wrapper", "sleep1:usleep"];
    refused(s, &given, &["the plugin sleep1 does not wrap usleep; it wraps sleep"])?;
    let given = listed(s, &["--disable-plugin", "sleep1"], &[("DMTCP_PLUGIN", &sleep)])?;
    // What finds out events for plugins of the user's comes as soon as one is named.
    let given: Vec<&str> = loaded(&given).into_iter().filter(|name| *name != "program-events").collect();
    ensure!(given == all, "a plugin of DMTCP_PLUGIN that is switched off: {given:?}");
    Ok(())
}

/// A plugin of the first version of the interface, as it was built then. See tests/golden/README.md.
fn golden_plugin(s: &mut Scenario) -> Result<()> {
    let plugin = s.path("libgolden.so").display().to_string();
    fs::copy(root().join("tests/golden/plugin-1/libgolden.so"), &plugin)?;
    let list = listed(s, &["--with-plugin", &plugin], &[])?;
    let Some(golden) = list.iter().find(|listed| listed["name"] == "golden") else { bail!("not listed: {list:?}") };
    let expected = serde_json::json!(["INIT", "EXIT", "PRESUSPEND", "PRECHECKPOINT", "RESUME", "RESTART", "RUNNING"]);
    ensure!(golden["version"] == "1.2.3" && golden["events"] == expected, "{golden}");
    let wrapped = launch(s, &["--with-plugin", &plugin], &["perl", "-e", "sleep 1"])?;
    ensure!(text(&wrapped).contains("golden: before\n"), "its wrapper: {}", text(&wrapped));
    s.set_env("DMTCP_PLUGIN", &plugin);
    s.output_in_pipe();
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let said = see(s, "plugin golden: RUNNING")?;
    for event in ["INIT", "PRESUSPEND", "PRECHECKPOINT", "RESUME"] {
        ensure!(said.contains(&format!("plugin golden: {event}\n")), "no {event} in: {said}");
    }
    let mut inspect = s.tool("dmtcp_inspect");
    inspect.args(s.image_files()?);
    let explained = text(&s.output(inspect)?);
    ensure!(explained.contains("golden: gold of generation 1"), "dmtcp_inspect says: {explained}");
    s.see_steps(3)?;
    s.kill()?;
    s.set_env("GOLDEN", "treasure");
    s.restart(&Restart::images())?;
    let said = see(s, "plugin golden: RUNNING")?;
    for part in ["golden: create for 1 processes", "golden: place in a process with pid", "RESTART with treasure\n"] {
        ensure!(said.contains(part), "nothing of '{part}' in: {said}");
    }
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.finish(STATUS)?;
    see(s, "plugin golden: EXIT")?;
    Ok(())
}

/// Without any plugin anything is launched, checkpointed twice and goes on.
fn safe_mode(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    for _ in 0..2 {
        s.see_steps(3)?;
        s.checkpoint()?;
    }
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let case = |name, flow: fn(&mut Scenario) -> Result<()>| Case::flow(name, threads(), flow).sampled_as(RunAs::User);
    let failing = |told: &'static str, parts: &'static [&'static str]| {
        let name = format!("hook_that_fails_spares_the_program ({told})");
        let flow = move |s: &mut Scenario| no_checkpoint_and_no_harm(s, told, parts);
        Case::flow(&name.replace([' ', '(', ')'], "_"), threads(), flow).sampled_as(RunAs::User)
    };
    let safe = |case: Case| case.options(&["--disable-all-plugins"]);
    let python = Program::script(&["/usr/bin/python3"], "threads.py", "python3");
    let pipeline = Program::script(&["/bin/bash"], "pipeline.sh", "bash");
    let java = Program::java("Threads.java", &["-Xmx256m"]);
    runner::main(vec![
        case("files_that_are_no_plugins_are_refused", files_that_are_no_plugins),
        case("plugins_of_other_interfaces_are_refused", plugins_of_other_interfaces),
        case("restart_halves_of_other_layouts_are_refused", restart_halves_of_other_layouts),
        case("plugins_that_need_missing_libraries_are_refused", libraries_that_are_missing),
        case("names_and_requirements_are_checked", names_that_are_taken),
        case("initialisers_that_fail_end_the_launch", initialisers_that_fail),
        failing("panic PRESUSPEND", &["the plugin faulty", "PATH", "panicked"]),
        failing("panic PRECHECKPOINT", &["the plugin faulty", "PATH", "panicked"]),
        failing("fail PRESUSPEND", &["it was told to fail"]).full_only(),
        failing("fail PRECHECKPOINT", &["it was told to fail"]).full_only(),
        case("panic_at_resume_spares_the_program", |s| panic_after_a_checkpoint(s, "RESUME")),
        case("panic_when_the_program_runs_again_spares_it", |s| panic_after_a_checkpoint(s, "RUNNING")).full_only(),
        case("panic_at_exit_spares_the_exit_status", panic_at_the_end),
        case("panic_at_restart_ends_the_restart", |s| failed_restart(s, "panic", "a hook panicked")),
        case("hook_that_fails_at_restart_ends_the_restart", |s| failed_restart(s, "fail", "it was told to fail"))
            .full_only(),
        // What needs no plugin comes back, too.
        safe(Case::new("safe_mode_restarts_memory_and_threads", threads()).streams(2)).sampled_as(RunAs::User),
        safe(Case::flow("safe_mode_python_threads", python, safe_mode)).sampled_as(RunAs::User),
        safe(Case::flow("safe_mode_bash_pipeline", pipeline, safe_mode)).sampled_as(RunAs::User),
        safe(Case::flow("safe_mode_java", java, safe_mode)).streams(3).limit(180).full_only(),
        case("plugin_of_the_first_interface_works_for_ever", golden_plugin),
        case("plugins_are_listed", plugins_are_listed).only(RunAs::User),
        case("plugins_are_switched_by_flag_and_variable", switches).only(RunAs::User),
    ])
}
