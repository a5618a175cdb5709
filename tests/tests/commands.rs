//! What the four commands promise: exit statuses, options, variables, and what they print.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, process, runner, wait};
use std::process::{ExitCode, Output};

/// Exit status of `threads.c`.
const STATUS: i32 = 7;

fn threads() -> Program {
    Program::c("threads.c", &[]).args(&["2", "10"])
}

/// Run `name` with `args`; the exit status must be `status`.
fn expect(s: &Scenario, name: &str, args: &[&str], status: i32) -> Result<String> {
    let mut command = s.tool(name);
    command.args(args);
    ended_with(&s.output(command)?, status).with_context(|| format!("{name} {}", args.join(" ")))
}

fn ended_with(output: &Output, status: i32) -> Result<String> {
    let said = text(output);
    ensure!(output.status.code() == Some(status), "{}, not exit status {status}; it said: {said}", output.status);
    Ok(said)
}

/// A port that nobody listens on.
fn free_port() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string())
}

fn exit_status_of_a_launch(s: &mut Scenario) -> Result<()> {
    let port = s.port()?;
    for status in [0, 1, 77, 255] {
        expect(s, "dmtcp_launch", &["-j", "-p", &port, "sh", "-c", &format!("exit {status}")], status)?;
    }
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "sh", "-c", "kill -TERM $$"]);
    let ended = s.output(command)?.status;
    use std::os::unix::process::ExitStatusExt;
    ensure!(ended.signal() == Some(15), "death by SIGTERM is seen as {ended}");
    Ok(())
}

fn exit_status_after_a_restart(s: &mut Scenario) -> Result<()> {
    s.generations(&[Restart::images()], 3)?;
    s.finish(STATUS)
}

fn our_failures_end_with_99(s: &mut Scenario) -> Result<()> {
    let nobody = free_port()?;
    let cases: [(&str, Vec<&str>); 6] = [
        ("dmtcp_launch", vec!["--no-such-option", "true"]),
        ("dmtcp_launch", vec![]),
        ("dmtcp_restart", vec!["--no-such-option"]),
        ("dmtcp_restart", vec![]),
        ("dmtcp_restart", vec!["no-such-image.dmtcp"]),
        ("dmtcp_launch", vec!["-j", "-p", &nobody, "true"]),
    ];
    for (name, args) in &cases {
        let said = expect(s, name, args, 99)?;
        ensure!(!said.trim().is_empty(), "{name} {args:?} fails without a word");
        let mut command = s.tool(name);
        command.args(args).env("DMTCP_FAIL_RC", "55");
        ended_with(&s.output(command)?, 55).with_context(|| format!("DMTCP_FAIL_RC=55 {name} {args:?}"))?;
    }
    Ok(())
}

fn a_program_that_is_not_there(s: &mut Scenario) -> Result<()> {
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "./no-such-program"]);
    let output = s.output(command)?;
    ensure!(output.status.code().is_some_and(|x| x > 0), "it ended with {}", output.status);
    ensure!(text(&output).contains("no-such-program"), "the message does not name the program: {}", text(&output));
    Ok(())
}

fn help_and_version(s: &mut Scenario) -> Result<()> {
    for name in ["dmtcp_launch", "dmtcp_command", "dmtcp_restart", "dmtcp_coordinator"] {
        // dmtcp_command has always ended with 1 here.
        let status = if name == "dmtcp_command" { 1 } else { 0 };
        let mut command = s.tool(name);
        command.arg("--help");
        let help = s.output(command)?;
        ensure!(text(&help).contains("--coord-port"), "{name} --help does not tell of --coord-port: {}", text(&help));
        ensure!([0, status].contains(&help.status.code().unwrap_or(-1)), "{name} --help: {}", help.status);
        let mut command = s.tool(name);
        command.arg("--version");
        let version = text(&s.output(command)?);
        ensure!(version.contains(char::is_numeric), "{name} --version shows no version: {version}");
    }
    Ok(())
}

fn status_and_list(s: &mut Scenario) -> Result<()> {
    let port = s.port()?;
    let idle = ended_with(&s.ask(&["--status"])?, 0)?;
    for word in ["NUM_PEERS=0", "RUNNING=no", &format!("Port: {port}")] {
        ensure!(idle.contains(word), "status without a program lacks {word}: {idle}");
    }
    s.launch()?;
    s.see_steps(3)?;
    let busy = ended_with(&s.ask(&["s"])?, 0)?;
    ensure!(busy.contains("NUM_PEERS=1") && busy.contains("RUNNING=yes"), "status of a program: {busy}");
    let list = ended_with(&s.ask(&["l"])?, 0)?;
    ensure!(list.contains("threads"), "the list does not name the program: {list}");
    let json = ended_with(&s.ask(&["--json", "status"])?, 0)?;
    ensure!(json.contains("\"num_peers\"") && json.contains("\"schema_version\""), "JSON status: {json}");
    s.finish(STATUS)?;
    wait::until(10, "NUM_PEERS=0 after the end", || Ok(text(&s.ask(&["s"])?).contains("NUM_PEERS=0").then_some(())))?;
    let nobody = free_port()?;
    expect(s, "dmtcp_command", &["-p", &nobody, "s"], 2)?;
    expect(s, "dmtcp_command", &["-p", &port, "no-such-command"], 1)?;
    Ok(())
}

fn nothing_to_checkpoint(s: &mut Scenario) -> Result<()> {
    let answer = s.ask(&["bc"])?;
    ended_with(&answer, 2)?;
    Ok(())
}

fn kill_and_quit(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    ended_with(&s.ask(&["k"])?, 0)?;
    let ended = s.wait_end()?;
    ensure!(ended.code() == Some(0), "a program killed by command ends with {ended}, not with exit status 0");
    wait::until(10, "NUM_PEERS=0 after kill", || Ok(text(&s.ask(&["s"])?).contains("NUM_PEERS=0").then_some(())))?;
    std::fs::remove_file(s.log())?;
    s.launch()?;
    s.see_steps(3)?;
    s.ask(&["q"])?;
    s.wait_end()?;
    let coordinator = s.coordinator()?;
    wait::until(10, "the coordinator to quit", || Ok((!coordinator.is_alive()).then_some(())))
}

fn checkpoint_and_kill(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    ended_with(&s.ask(&["kc"])?, 0)?;
    s.wait_end()?;
    ensure!(s.image_files()?.len() == 1, "kc has left {:?}", s.image_files()?);
    Ok(())
}

/// What ends with its checkpoint does nothing behind it: the next step is that after the last one, for each thread.
fn nothing_happens_behind_a_checkpoint_that_ends_all(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(20)?;
    ended_with(&s.ask(&["kc"])?, 0)?;
    s.wait_end()?;
    let last = s.progress().last();
    let length = std::fs::metadata(s.log())?.len() as usize;
    s.restart(&Restart::images())?;
    for (stream, step) in last {
        let prefix = format!("p {stream} ");
        // The restart may cut the log back, its mark included: what counts is what stands behind these steps.
        let next = wait::until(10, &format!("{stream} to go on"), || {
            let log = std::fs::read_to_string(s.log())?;
            let behind = log.get(length..).unwrap_or_default();
            let whole = behind.rfind('\n').map_or("", |end| &behind[..end]);
            Ok(whole.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned))
        })?;
        ensure!(next == (step + 1).to_string(), "{stream} goes on with {next} behind {step}");
    }
    s.ask(&["k"])?;
    s.wait_end().map(drop)
}

/// The console of the coordinator understands the same words.
fn console(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.coordinator()?.console("c")?;
    wait::until(10, "an image after 'c' at the console", || Ok(s.image_files()?.first().map(|_| ())))?;
    s.coordinator()?.console("l")?;
    s.coordinator()?.console("s")?;
    let coordinator = s.coordinator()?;
    wait::until(10, "list and status at the console", || {
        let shown = coordinator.output();
        Ok((shown.contains("NUM_PEERS=1") && shown.contains("threads")).then_some(()))
    })?;
    s.finish(STATUS)
}

/// Times at which images were seen to be written.
fn image_times(s: &Scenario) -> Result<Vec<std::time::SystemTime>> {
    s.image_files()?.iter().map(|x| Ok(x.metadata()?.modified()?)).collect()
}

fn interval(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    ended_with(&s.ask(&["-i1"])?, 0)?;
    let mut seen = std::collections::BTreeSet::new();
    wait::until(15, "3 checkpoints by themselves", || {
        seen.extend(image_times(s)?);
        Ok((seen.len() >= 3).then_some(()))
    })?;
    let status = text(&s.ask(&["s"])?);
    ensure!(status.contains("CKPT_INTERVAL=1"), "status: {status}");
    ended_with(&s.ask(&["i", "0"])?, 0)?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// A launch without a coordinator starts one, on the port asked for, and says which.
fn launch_starts_a_coordinator(s: &mut Scenario) -> Result<()> {
    let file = s.path("port");
    let mut command = s.tool("dmtcp_launch");
    command.args(["--new-coordinator", "-p", "0", "--port-file"]).arg(&file);
    command.args(["--no-gzip", "--ckptdir"]).arg(s.image_directory()).args(s.prepared()?);
    s.launch_command(command)?;
    s.see_steps(3)?;
    let port = std::fs::read_to_string(&file).context("no port file")?.trim().to_string();
    let status = expect(s, "dmtcp_command", &["-p", &port, "s"], 0)?;
    ensure!(status.contains("NUM_PEERS=1"), "status: {status}");
    expect(s, "dmtcp_command", &["-p", &port, "bc"], 0)?;
    ensure!(s.image_files()?.len() == 1, "images: {:?}", s.image_files()?);
    s.finish(STATUS)?;
    // Started for one computation, it ends with it.
    wait::until(10, "the coordinator to end with its computation", || {
        let mut command = s.tool("dmtcp_command");
        command.args(["-p", &port, "s"]);
        Ok((s.output(command)?.status.code() == Some(2)).then_some(()))
    })
}

/// A program that the loader cannot start: what was started for it ends with it, not some time later.
fn a_coordinator_that_nobody_has_joined(s: &mut Scenario) -> Result<()> {
    let (library, program, file) = (s.path("libgone.so"), s.path("program"), s.path("port"));
    let source = s.path("main.c");
    std::fs::write(&source, "int main(void) { return 0; }\n")?;
    for (flags, to) in [(&["-shared", "-fPIC"][..], &library), (&["-Wl,--no-as-needed"], &program)] {
        let mut gcc = std::process::Command::new("gcc");
        gcc.args(flags).arg("-o").arg(to).arg(&source).args(Some(&library).filter(|x| x.exists()));
        ensure!(gcc.status()?.success(), "{gcc:?} fails");
    }
    std::fs::remove_file(&library)?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-p", "0", "--port-file"]).arg(&file).arg(&program);
    let said = ended_with(&s.output(command)?, 127)?;
    ensure!(said.contains("libgone.so"), "it said: {said}");
    let port = std::fs::read_to_string(&file).context("no port file")?.trim().to_string();
    wait::until(30, "the coordinator to end", || {
        let mut command = s.tool("dmtcp_command");
        command.args(["-p", &port, "s"]);
        Ok((s.output(command)?.status.code() == Some(2)).then_some(()))
    })
}

fn what_is_no_interval(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    for words in [&["i", "-1"][..], &["--interval", "-1"], &["--interval=-1"], &["i"], &["i", "soon"]] {
        let said = ended_with(&s.ask(words)?, 1)?;
        ensure!(said.contains("wants a number of seconds, 0 or more"), "{words:?}: it said: {said}");
    }
    let status = ended_with(&s.ask(&["s"])?, 0)?;
    ensure!(status.contains("CKPT_INTERVAL=0"), "status: {status}");
    s.finish(STATUS)
}

fn two_computations(s: &mut Scenario) -> Result<()> {
    s.steps_on_stdout();
    s.launch()?;
    s.see_steps(3)?;
    let first = s.port()?;
    s.leave_running()?;
    s.launch()?;
    s.see_steps(3)?;
    let second = s.port()?;
    ensure!(first != second, "both coordinators listen on {first}");
    for port in [&first, &second] {
        let status = expect(s, "dmtcp_command", &["-p", port, "s"], 0)?;
        ensure!(status.contains("NUM_PEERS=1"), "status at {port}: {status}");
    }
    expect(s, "dmtcp_command", &["-p", &first, "k"], 0)?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// A program under the tool sees nothing that it would not see without.
fn nothing_to_notice(s: &mut Scenario) -> Result<()> {
    s.launch_native()?;
    s.wait_end()?;
    let native = s.progress().tail(1000);
    std::fs::remove_file(s.log())?;
    s.launch()?;
    let ended = s.wait_end()?;
    ensure!(ended.code() == Some(STATUS), "it ended with {ended}");
    let ours = s.progress().tail(1000);
    ensure!(native == ours, "without the tool:\n{native}\nwith it:\n{ours}");
    Ok(())
}

/// When its coordinator dies, the program goes on.
fn coordinator_dies(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    let pid = s.coordinator()?.pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    let coordinator = s.coordinator()?;
    wait::until(10, "the coordinator to die", || Ok((!coordinator.is_alive()).then_some(())))?;
    s.see_steps(20)?;
    ensure!(process::descendants(false).len() == 1, "processes: {:?}", process::descendants(false));
    s.finish(STATUS)
}

fn main() -> ExitCode {
    runner::main(vec![
        Case::flow("exit_status_of_a_launch", threads(), exit_status_of_a_launch),
        Case::flow("exit_status_after_a_restart", threads(), exit_status_after_a_restart),
        Case::flow("our_failures_end_with_99", threads(), our_failures_end_with_99),
        Case::flow("a_program_that_is_not_there", threads(), a_program_that_is_not_there),
        Case::flow("help_and_version", threads(), help_and_version).sampled_as(RunAs::User),
        Case::flow("status_and_list", threads(), status_and_list).streams(2),
        Case::flow("nothing_to_checkpoint", threads(), nothing_to_checkpoint).sampled_as(RunAs::User),
        Case::flow("kill_and_quit", threads(), kill_and_quit).streams(2),
        Case::flow(
            "nothing_happens_behind_a_checkpoint_that_ends_all",
            Program::c("threads.c", &[]).args(&["8", "0"]),
            nothing_happens_behind_a_checkpoint_that_ends_all,
        )
        .streams(8)
        .sampled_as(RunAs::User),
        Case::flow("checkpoint_and_kill", threads(), checkpoint_and_kill).streams(2).sampled_as(RunAs::User),
        Case::flow("console", threads(), console).streams(2).sampled_as(RunAs::Root),
        Case::flow("interval", threads(), interval).streams(2).sampled_as(RunAs::User),
        Case::flow("what_is_no_interval_is_refused", threads(), what_is_no_interval).sampled_as(RunAs::User),
        Case::flow("a_coordinator_that_nobody_has_joined_ends", threads(), a_coordinator_that_nobody_has_joined)
            .sampled_as(RunAs::User),
        Case::flow("launch_starts_a_coordinator", threads(), launch_starts_a_coordinator).streams(2),
        Case::flow("two_computations", threads(), two_computations).streams(2),
        Case::flow("nothing_to_notice", Program::c("onlooker.c", &[]), nothing_to_notice),
        Case::flow("coordinator_dies", threads(), coordinator_dies).streams(2),
    ])
}
