//! People and programs that a coordinator does not know: another user, no host, clients that send something else.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Result, RunAs, Scenario, ensure, runner, wait};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Exit status of programs that make steps.
const STATUS: i32 = 7;
/// Somebody who is neither root nor who ordinary-user cases run as.
const STRANGER: u32 = 12_321;

fn threads() -> Program {
    Program::c("threads.c", &[]).args(&["2", "10"])
}

/// A command of the tool as another user, with a home directory of that user's.
fn as_another_user(s: &Scenario, name: &str) -> Result<Command> {
    let home = s.path("..").join("another");
    if !home.exists() {
        std::fs::create_dir(&home)?;
        std::os::unix::fs::chown(&home, Some(STRANGER), Some(STRANGER))?;
        for directory in [s.path(".."), s.path("")] {
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    let mut command = s.tool(name);
    command.current_dir(&home).env("HOME", &home).env("DMTCP_TMPDIR", &home).env("TMPDIR", &home);
    command.uid(STRANGER).gid(STRANGER);
    Ok(command)
}

/// Nobody without the key can look, checkpoint, kill, join or restart; the program does not notice.
fn another_user(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let port = s.port()?;
    let image = s.image_files()?.pop().context("no image")?.display().to_string();
    let table: [(&str, Vec<&str>, i32); 7] = [
        ("dmtcp_command", vec!["s"], 2),
        ("dmtcp_command", vec!["l"], 2),
        ("dmtcp_command", vec!["bc"], 2),
        ("dmtcp_command", vec!["k"], 2),
        ("dmtcp_command", vec!["q"], 2),
        ("dmtcp_launch", vec!["-j", "true"], 99),
        ("dmtcp_launch", vec!["true"], 99),
    ];
    for (name, args, status) in table {
        let mut command = as_another_user(s, name)?;
        command.args(["-p", &port]).args(&args);
        let ended = s.output(command)?;
        let said = text(&ended);
        ensure!(ended.status.code() == Some(status), "{name} {args:?} as another user: {}: {said}", ended.status);
        ensure!(said.contains("holds another key"), "{name} {args:?} as another user says: {said}");
    }
    let mut command = as_another_user(s, "dmtcp_restart")?;
    command.args(["-p", &port, &image]);
    let ended = s.output(command)?;
    ensure!(ended.status.code() == Some(99), "the image restarts as another user: {}", text(&ended));
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn unknown_host(s: &mut Scenario) -> Result<()> {
    let host = "no-such-host.invalid";
    for (name, args, status) in [
        ("dmtcp_command", &["-h", host, "s"][..], 2),
        ("dmtcp_launch", &["-h", host, "true"], 99),
        ("dmtcp_launch", &["-j", "-h", host, "true"], 99),
    ] {
        let mut command = s.tool(name);
        command.args(args);
        let ended = s.output(command)?;
        let said = text(&ended);
        ensure!(
            ended.status.code() == Some(status) && said.contains(host),
            "{name} {args:?}: {}: {said}",
            ended.status
        );
    }
    Ok(())
}

/// Clients that are silent, slow, or send something else cost the computation nothing.
fn strange_clients(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    let port: u16 = s.port()?.parse()?;
    let connect = || TcpStream::connect(("127.0.0.1", port));
    let silent: Vec<TcpStream> = (0..50).map(|_| connect()).collect::<std::io::Result<_>>()?;
    let mut junk = connect()?;
    // It is cut off on the way.
    let _ = junk.write_all(&vec![0x5a; 4 << 20]);
    let slow = connect()?;
    let writer = std::thread::spawn(move || {
        let mut slow = slow;
        // The beginning of a greeting, a byte at a time, for longer than the whole may take.
        for byte in b"DMTP\x02\x00\x00\x00\xff\x00\x00\x00".iter().chain([0; 200].iter()) {
            if slow.write_all(&[*byte]).is_err() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        false
    });
    for _ in 0..3 {
        s.checkpoint()?;
        s.see_steps(3)?;
    }
    wait::until(30, "the slow client to be cut off", || Ok(writer.is_finished().then_some(())))?;
    ensure!(writer.join().unwrap_or(false), "the slow client was never cut off");
    drop(silent);
    s.finish(STATUS)
}

fn main() -> ExitCode {
    runner::main(vec![
        Case::flow("another_user_is_kept_out", threads(), another_user).streams(2).only(RunAs::User),
        Case::flow("a_host_that_is_unknown", threads(), unknown_host).sampled_as(RunAs::User),
        Case::flow("silent_slow_and_hostile_clients", threads(), strange_clients).streams(2).sampled_as(RunAs::User),
    ])
}
