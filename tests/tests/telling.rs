//! What the tool tells: logs of processes, the last lines of them behind an error, bars on terminals.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

/// Exit status of programs that make steps.
const STATUS: i32 = 7;

fn threads() -> Program {
    Program::c("threads.c", &[]).args(&["2", "10"])
}

fn ballast() -> Program {
    Program::c("ballast.c", &[]).args(&["96"])
}

/// Logs that processes keep in the scratch directory.
fn logs(s: &Scenario) -> Vec<PathBuf> {
    let list = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let scratch = list(s.path("..").join("tmp")).filter(|path| path.to_string_lossy().contains("/dmtcp-"));
    let logs = scratch.flat_map(list);
    logs.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dmtcp-log."))).collect()
}

/// Levels and components of the lines of all logs.
fn lines(s: &Scenario) -> Result<Vec<(String, String, String)>> {
    let mut found = Vec::new();
    for path in logs(s) {
        for line in fs::read_to_string(&path)?.lines() {
            let parts = line.split_once("] ").and_then(|(_, rest)| {
                let (level, rest) = rest.split_once(' ')?;
                let (component, text) = rest.split_once(": ")?;
                Some((level.to_owned(), component.to_owned(), text.to_owned()))
            });
            found.push(parts.with_context(|| format!("a strange line in {}: {line}", path.display()))?);
        }
    }
    Ok(found)
}

/// Each process has a log of its own, before a restart and after it, with what was asked for and nothing else.
fn logs_by_process(s: &mut Scenario) -> Result<()> {
    s.set_env("DMTCP_LOG", "note");
    s.generations(&[Restart::images()], 3)?;
    s.finish(STATUS)?;
    let lines = lines(s)?;
    let has = |text: &str| lines.iter().any(|(_, component, line)| component == "core" && line.contains(text));
    for text in
        ["joined ", "is asked for", "all threads have stopped", "is written", "is committed", "back from the image"]
    {
        ensure!(has(text), "no line says '{text}': {lines:?}");
    }
    ensure!(lines.iter().all(|(level, ..)| level != "TRACE"), "there are lines of a level that nobody asked for");
    for path in logs(s) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path)?.permissions());
        ensure!(mode & 0o077 == 0, "{} has mode {mode:o}", path.display());
    }
    Ok(())
}

/// Components, the original's variables, one file for all.
fn logs_by_component(s: &mut Scenario) -> Result<()> {
    let port = s.port()?;
    let file = s.path("all.log");
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let table: [(Variables, bool, bool); 6] = [
        (&[], false, false),
        (&[("DMTCP_LOG", "core=note")], true, false),
        (&[("DMTCP_LOG", "file=trace")], false, false),
        (&[("DMTCP_LOG_LEVEL", "2")], true, false),
        (&[("DMTCP_LOG_LEVEL", "trace"), ("DMTCP_LOG_OVERRIDES", "core=error")], false, false),
        (&[("DMTCP_LOG", "note"), ("DMTCP_LOG_FILE", &file.display().to_string())], false, true),
    ];
    for (variables, expected, in_file) in table {
        for log in logs(s) {
            fs::remove_file(log)?;
        }
        let mut command = s.tool("dmtcp_launch");
        // A program joins before it executes another one.
        command.args(["-j", "-p", &port, "sh", "-c", "/bin/sh -c 'exec /bin/true'"]).envs(variables.iter().copied());
        ensure!(s.output(command)?.status.success(), "a launch with {variables:?} fails");
        let found = lines(s)?.iter().any(|(_, component, text)| component == "core" && text.starts_with("joined"));
        ensure!(found == expected, "{variables:?}: lines in the scratch directory: {:?}", lines(s)?);
        let joined = fs::read_to_string(&file).unwrap_or_default().matches("NOTE core: joined").count();
        ensure!((joined >= 2) == in_file, "{variables:?}: {joined} processes in one file");
    }
    Ok(())
}

/// An error from inside a program comes with what that has logged last.
fn last_lines_behind_an_error(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    fs::remove_dir_all(s.image_directory())?;
    let answer = s.ask(&["bc"])?;
    let said = text(&answer);
    let behind = said.split_once("the last lines of its log:").map(|(_, lines)| lines).unwrap_or_default();
    for words in ["core: joined", "is asked for", "all threads have stopped", "ERROR core: "] {
        ensure!(behind.contains(words), "'{words}' is not among the last lines: {said}");
    }
    let json = text(&s.ask(&["--json", "bc"])?);
    ensure!(json.contains("\"log\":[\"[") && json.contains("is gone"), "JSON: {json}");
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// A terminal's two ends.
fn terminal() -> Result<(OwnedFd, OwnedFd)> {
    let ends = nix::pty::openpty(None, None)?;
    Ok((ends.master, ends.slave))
}

/// Everything that is written to a terminal until its last writer has gone.
fn read_all(master: OwnedFd) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A terminal that nobody has open any more ends with an error.
        let _ = fs::File::from(master).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a command says on a standard error that is a terminal, and on one that is not.
fn on_both(s: &Scenario, make: impl Fn(&Scenario) -> Result<Command>) -> Result<(String, String)> {
    let (master, slave) = terminal()?;
    let mut command = make(s)?;
    let mut child = command.stdout(Stdio::null()).stderr(slave).spawn()?;
    drop(command);
    let reader = read_all(master);
    let ended = wait::until(60, "a command with a terminal to end", || Ok(child.try_wait()?))?;
    let shown = reader.join().unwrap_or_default();
    ensure!(ended.success(), "{ended}: {shown}");
    Ok((shown, text(&s.output(make(s)?)?)))
}

fn checkpoints_show_a_bar(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    let port = s.port()?;
    let (shown, piped) = on_both(s, |s| {
        let mut command = s.tool("dmtcp_command");
        command.args(["-p", &port, "bc"]);
        Ok(command)
    })?;
    ensure!(shown.contains("writing images [#") && shown.contains(" % of "), "on a terminal: {shown:?}");
    ensure!(shown.ends_with("\r\u{1b}[K"), "the bar stays: {shown:?}");
    ensure!(!piped.contains("writing images") && piped.contains("checkpoint complete"), "in a pipe: {piped:?}");
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// A processor that may be used here.
fn one_processor() -> Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).context("no list of processors")?;
    Ok(list.trim().chars().take_while(char::is_ascii_digit).collect())
}

/// The restarted program ends at once, since the stop file is there.
fn restarts_show_a_bar(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    let images = s.image_files()?;
    fs::File::create(s.path("stop"))?;
    let run = |s: &Scenario, error: Stdio| -> Result<std::process::Output> {
        // On one processor it takes its time.
        let mut command = s.command("taskset");
        command.args(["-c", &one_processor()?, "dmtcp_restart", "--new-coordinator", "-p", "0"]);
        command.args(&images).stdout(Stdio::null()).stderr(error);
        let mut child = command.spawn()?;
        drop(command);
        wait::until(60, "the restarted program to end", || Ok(child.try_wait()?))?;
        Ok(child.wait_with_output()?)
    };
    let (master, slave) = terminal()?;
    let reader = read_all(master);
    let ended = run(s, slave.into())?;
    ensure!(ended.status.code() == Some(STATUS), "the program ended with {}", ended.status);
    // What runs on in the background has the terminal open: only what is there by now counts.
    let shown = reader.join().unwrap_or_default();
    ensure!(shown.contains("restoring memory [") && shown.contains("\r\u{1b}[K"), "on a terminal: {shown:?}");
    let piped = text(&run(s, Stdio::piped())?);
    ensure!(!piped.contains("restoring memory"), "in a pipe: {piped:?}");
    Ok(())
}

/// Processes that share a pipe to somebody outside: what nobody restores is named once, not by each of them.
fn what_is_lost_is_said_once(s: &mut Scenario) -> Result<()> {
    let (argv, port) = (s.prepared()?, s.port()?);
    let mut launch = s.command("/bin/bash");
    launch
        .args(["-c", "exec \"$@\" 250> >(exec cat) 251>&250 63>&-", "bash"])
        .arg(s.tool("dmtcp_launch").get_program());
    launch.args(["-j", "-p", &port, "--ckptdir"]).arg(s.image_directory()).args(argv);
    s.launch_command(launch)?;
    s.see_steps(3)?;
    s.checkpoint()?;
    ensure!(s.image_files()?.len() > 2, "these are not the images of a family: {:?}", s.image_files()?);
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    let said = fs::read_to_string(s.path("..").join("logs").join("output.0"))? + &fs::read_to_string(s.output_file())?;
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("nothing restored it")).collect();
    ensure!(lines.len() == 1 && lines[0].contains("fd 250, 251 -> pipe:["), "it said: {said}");
    s.finish(STATUS)
}

fn main() -> ExitCode {
    runner::main(vec![
        Case::flow("logs_of_processes", threads(), logs_by_process).streams(2).sampled_as(RunAs::User),
        Case::flow("logs_of_components", threads(), logs_by_component).sampled_as(RunAs::User),
        Case::flow(
            "what_is_lost_is_said_once",
            Program::c("families.c", &[]).args(&["tree"]),
            what_is_lost_is_said_once,
        )
        .streams(7)
        .sampled_as(RunAs::User),
        Case::flow("the_last_lines_stand_behind_an_error", threads(), last_lines_behind_an_error)
            .streams(2)
            .sampled_as(RunAs::User),
        Case::flow("a_checkpoint_shows_a_bar_on_a_terminal", ballast(), checkpoints_show_a_bar)
            .options(&["--compress", "gzip:1"])
            .sampled_as(RunAs::User),
        Case::flow("a_restart_shows_a_bar_on_a_terminal", ballast(), restarts_show_a_bar)
            .options(&["--compress", "gzip:1"])
            .sampled_as(RunAs::User),
    ])
}
