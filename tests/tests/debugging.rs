//! What helps to find out what is in an image and in a restarted process: dmtcp_inspect, gdb on images and on live
//! processes, restarts that pause for a debugger.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, process, runner, wait};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Exit status of `threads.c`.
const STATUS: i32 = 7;

fn threads() -> Program {
    Program::c("threads.c", &[]).args(&["3", "10"])
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../restart/gdb/dmtcp.py")
}

/// Runs gdb on a process, as whoever runs the tests, who may look into every process.
fn gdb_on(s: &Scenario, pid: i32, commands: &[&str]) -> Result<String> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-p", &pid.to_string(), "-x"]).arg(script()).stdin(Stdio::null());
    for command in commands {
        gdb.args(["-ex", command]);
    }
    Ok(text(&s.output(gdb)?))
}

/// Waits for the sentence that a paused restart says; the pid in it, as it is seen from here.
fn paused(s: &Scenario, stage: u32) -> Result<i32> {
    let file = s.output_file();
    let word = format!(" pauses at stage {stage}:");
    let told = wait::until(30, &format!("the restart to pause at stage {stage}"), || {
        let said = fs::read(&file).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ok(said.lines().rev().find_map(|line| line.split_once(&word)?.0.rsplit(' ').next()?.parse::<i32>().ok()))
    })?;
    let innermost = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        ids.and_then(|ids| ids.split_whitespace().next_back()?.parse().ok()) == Some(told)
    };
    process::descendants(false).into_iter().find(innermost).with_context(|| format!("no process {told} is there"))
}

/// A restart pauses at each stage that can be asked for, each way that it can be asked for, and goes on.
fn pauses(s: &mut Scenario) -> Result<()> {
    s.output_in_pipe();
    s.launch()?;
    s.see_steps(3)?;
    for stage in 1..=7u32 {
        s.checkpoint()?;
        s.see_steps(3)?;
        s.kill()?;
        let options = ["--debug-restart-pause", &stage.to_string()].map(str::to_owned);
        let how = if stage % 2 == 0 {
            s.set_env("DMTCP_RESTART_PAUSE", &stage.to_string());
            Restart::images()
        } else {
            Restart::images().options(&options.each_ref().map(String::as_str))
        };
        s.restart(&how)?;
        let pid = paused(s, stage)?;
        let commands = ["thread apply all bt 30", "dmtcp-continue"];
        let said = gdb_on(s, pid, if stage < 4 { &commands[1..] } else { &commands })?;
        // In restored memory the application's threads are where they were stopped.
        let stacks = said.matches(" work (").count();
        ensure!(stage < 4 || stacks == 3, "stage {stage}: gdb shows {stacks} stacks with work(), not 3: {said}");
        s.see_steps(3)?;
    }
    s.set_env("DMTCP_RESTART_PAUSE", "");
    s.finish(STATUS)
}

/// dmtcp_restart brings gdb along, which finds the program as it was stopped and lets it go on.
fn attaches(s: &mut Scenario, variable: &[(&str, &str)], flag: &[&str]) -> Result<()> {
    s.output_in_pipe();
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    // gdb reads its commands from the terminal of dmtcp_restart, which a test does not have.
    let (real, marks) = (s.path("gdb"), s.path("marks"));
    let body = format!(
        "#!/bin/sh\n/usr/bin/gdb -nx -batch -x {} \"$@\" -ex 'thread apply all bt 30' -ex dmtcp-continue >{} 2>&1\n",
        script().display(),
        marks.display()
    );
    fs::write(&real, body)?;
    fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let path = s.command("true").get_envs().find_map(|(name, value)| (name == "PATH").then_some(value?.to_owned()));
    let path = path.context("no PATH")?;
    s.set_env("PATH", &format!("{}:{}", s.path("").display(), path.to_string_lossy()));
    for (name, value) in variable {
        s.set_env(name, value);
    }
    s.restart(&Restart::images().options(flag))?;
    s.see_steps(3)?;
    let said = fs::read_to_string(&marks)?;
    ensure!(said.matches(" work (").count() == 3, "gdb has not seen three stacks with work(): {said}");
    s.finish(STATUS)
}

/// gdb reads all symbols of a process that was restarted, without being told its program or its libraries.
fn symbols(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    let program = s.prepared()?[0].clone();
    let restored = |pid: &i32| process::command_line(*pid).starts_with(&program);
    let pid = process::descendants(false).into_iter().find(restored).context("the program does not run")?;
    // As if gdb found nothing by itself.
    let forget = ["symbol-file", "nosharedlibrary", "info symbol rest", "dmtcp-symbols", "info line work"];
    let all = [&forget[..], &["info symbol malloc", "thread apply all bt 30", "detach"]].concat();
    let said = gdb_on(s, pid, &all)?;
    ensure!(said.contains("threads.c"), "gdb does not know the program's lines: {said}");
    ensure!(said.contains("malloc in section .text of") && said.contains("libc"), "gdb does not know libc: {said}");
    ensure!(said.matches(" work (").count() >= 3, "gdb does not show three stacks with work(): {said}");
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// Runs one of the programs that look into images.
fn inspect(s: &Scenario, program: &str, arguments: &[&str], images: &[&Path]) -> Result<String> {
    let mut command = s.tool(program);
    command.args(arguments).args(images);
    let answer = s.output(command)?;
    ensure!(answer.status.success(), "{program} {arguments:?}: {}: {}", answer.status, text(&answer));
    Ok(text(&answer))
}

/// Every way of looking into an image says what is in it.
fn inspected(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let image = s.image_files()?.pop().context("no image")?;
    let older = s.path("older.dmtcp");
    fs::copy(&image, &older)?;
    s.run_as().own(&older)?;
    s.see_steps(3)?;
    s.checkpoint()?;

    let told = inspect(s, "dmtcp_inspect", &["--check"], &[&image])?;
    for words in ["threads.c", "threads      ", "checksums    right", "private file", "plugins      ", "process"] {
        ensure!(told.contains(words.trim_end_matches(".c")), "the summary lacks '{words}': {told}");
    }
    let json = inspect(s, "dmtcp_inspect", &["--json", "--check"], &[&image, &older])?;
    ensure!(json.lines().count() == 2, "not one line of JSON for each image: {json}");
    for words in
        ["\"generation\":2,", "\"generation\":1,", "\"memory\":{", "\"sections\":{", "\"checkpoint_thread\":true"]
    {
        ensure!(json.contains(words), "the JSON lacks {words}: {json}");
    }
    let maps = inspect(s, "dmtcp_inspect", &["--maps"], &[&image])?;
    let program = s.prepared()?[0].clone();
    ensure!(maps.lines().any(|x| x.contains(" r-xp ") && x.ends_with(&program)), "no text of the program: {maps}");
    ensure!(maps.contains("[heap]") && maps.contains("[stack]"), "no heap or stack: {maps}");
    ensure!(inspect(s, "readdmtcp", &[], &[&image])? == maps, "readdmtcp shows another list");
    let differs = inspect(s, "dmtcp_inspect", &["--diff"], &[&older, &image])?;
    for words in ["  generation: 1, then 2", "  memory: ", " rw-p"] {
        ensure!(differs.contains(words), "the difference lacks '{words}': {differs}");
    }
    ensure!(!differs.contains("thread new") && !differs.contains("program:"), "what is alike differs: {differs}");
    let json = inspect(s, "dmtcp_inspect", &["--diff", "--json"], &[&older, &image])?;
    ensure!(json.contains("\"generation\":[1,2]") && json.contains("\"memory\":[{"), "the difference as JSON: {json}");
    let same = inspect(s, "dmtcp_inspect", &["--diff"], &[&image, &image])?;
    ensure!(same.lines().count() == 2, "an image differs from itself: {same}");
    let core = s.path("core");
    inspect(s, "dmtcp_inspect", &["--to-core", &core.display().to_string()], &[&image])?;
    let expanded = inspect(s, "dmtcp_inspect", &["--diff"], &[&image, &core])?;
    ensure!(expanded.lines().count() == 2, "the core differs from the image: {expanded}");

    let mut wrong = s.tool("dmtcp_inspect");
    wrong.arg("--diff").arg(&image);
    let answer = s.output(wrong)?;
    ensure!(answer.status.code() == Some(99), "--diff with one image: {}: {}", answer.status, text(&answer));
    s.finish(STATUS)
}

/// gdb opens a core that a compressed image was expanded to, and shows every thread's own frames.
fn expanded_core(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    let image = s.image_files()?.pop().context("no image")?;
    let core = s.path("core");
    inspect(s, "dmtcp_inspect", &["--to-core", &core.display().to_string()], &[&image])?;
    let mut gdb = s.command("gdb");
    gdb.args(["-nx", "-batch", "-ex", "thread apply all bt"]).arg(&s.prepared()?[0]).arg(&core);
    let stacks = text(&s.output(gdb)?);
    ensure!(stacks.matches(" work (").count() == 3, "gdb does not show 3 stacks with work(): {stacks}");
    ensure!(stacks.matches(" main (").count() == 1, "gdb does not show main(): {stacks}");
    Ok(())
}

fn main() -> ExitCode {
    let case = |name: &str, flow: fn(&mut Scenario) -> Result<()>| Case::flow(name, threads(), flow).streams(3);
    runner::main(vec![
        case("a_restart_pauses_at_each_stage", pauses).sampled_as(RunAs::User),
        case("gdb_attached_by_the_restart", |s| attaches(s, &[("DMTCP_GDB_ATTACH_ON_RESTART", "1")], &[]))
            .sampled_as(RunAs::Root),
        case("gdb_attached_at_a_stage", |s| attaches(s, &[], &["--gdb", "5"])).sampled_as(RunAs::User),
        case("symbols_after_a_live_restart", symbols).sampled_as(RunAs::User),
        case("images_are_inspected", inspected).sampled_as(RunAs::User),
        case("compressed_image_as_a_core", expanded_core).options(&["--compress", "zstd"]).sampled_as(RunAs::Root),
    ])
}
