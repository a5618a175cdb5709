//! What dmtcp_restart is for whoever started it: it takes the images by any name, passes signals on to the processes, and
//! stops and ends as the first of them does.

use dmtcp_tests::{Case, Context, Need, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

const STATUS: i32 = 7;

fn tree() -> Program {
    Program::c("families.c", &[]).args(&["tree"])
}

fn told() -> Program {
    Program::c("told.c", &[])
}

/// By name in any order, by a pattern that a shell expands, by their directory, and by the script.
fn images_by_every_name(s: &mut Scenario) -> Result<()> {
    let ways = [Restart::backwards(), Restart::pattern(), Restart::directory(), Restart::script()];
    s.generations(&ways, 3)?;
    s.finish(STATUS)
}

/// What the program's shell sees of it.
fn front(s: &Scenario) -> Result<Pid> {
    Ok(Pid::from_raw(s.front().context("nothing runs")?))
}

/// How often the first process says that it was sent a signal.
fn heard(s: &Scenario, signal: Signal) -> usize {
    let line = format!("heard {}", signal as i32);
    s.progress().find("heard").into_iter().filter(|found| **found == line).count()
}

/// Whether dmtcp_restart itself stands still.
fn stands_still(pid: Pid) -> Result<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

/// Every signal that a shell, a batch system or a user sends to dmtcp_restart reaches the first process, once; a stop of
/// the computation is one of dmtcp_restart.
fn signals_are_passed_on(s: &mut Scenario) -> Result<()> {
    const PASSED_ON: [Signal; 8] = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
        Signal::SIGCONT,
    ];
    s.launch()?;
    s.see_steps(3)?;
    for how in [Restart::images(), Restart::images().options(&["--pid-namespace", "force"])] {
        s.checkpoint()?;
        s.see_steps(3)?;
        s.kill()?;
        s.restart(&how)?;
        s.see_steps(3)?;
        for signal in PASSED_ON {
            let before = heard(s, signal);
            kill(front(s)?, signal)?;
            wait::until(10, &format!("{signal} to be passed on"), || Ok((heard(s, signal) > before).then_some(())))?;
            s.see_steps(2)?;
            ensure!(heard(s, signal) == before + 1, "{signal} came {} times", heard(s, signal) - before);
        }
        let (first, continued) = (front(s)?, heard(s, Signal::SIGCONT));
        kill(first, Signal::SIGTSTP)?;
        wait::until(10, "dmtcp_restart to stop as the program does", || Ok(stands_still(first)?.then_some(())))?;
        let steps = |s: &Scenario| s.progress().last().get("first").copied();
        let stopped = steps(s);
        let child = |s: &Scenario| s.progress().last().get("child").copied();
        let before = child(s);
        wait::until(10, "the child to go on", || Ok((child(s) > before).then_some(())))?;
        ensure!(steps(s) == stopped, "the first process goes on although it was told to stop");
        kill(first, Signal::SIGCONT)?;
        s.see_steps(3)?;
        let times = heard(s, Signal::SIGCONT) - continued;
        ensure!(times == 1, "the program was continued {times} times");
    }
    end_with(s, "7\n")?;
    let ended = s.wait_end()?;
    ensure!(ended.code() == Some(STATUS), "it ended with {ended}");
    s.prove()
}

/// Says how the first process is to end.
fn end_with(s: &Scenario, how: &str) -> Result<()> {
    fs::write(s.path("end"), how)?;
    s.run_as().own(&s.path("end"))
}

/// dmtcp_restart ends as the first process does: with its status, or by its signal, whatever ids it has.
fn ends_as_the_first_process(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()?;
    let (images, log) = (s.image_directory().to_path_buf(), fs::read(s.log())?);
    let ways = [Restart::images(), Restart::images().options(&["--pid-namespace", "force"]), Restart::script()];
    for (wanted, way) in [1, 254, -15, -9, -6, -34].into_iter().zip(ways.iter().cycle()) {
        s.restart(way)?;
        s.see_steps(3)?;
        end_with(s, &format!("{wanted}\n"))?;
        let ended = s.wait_end()?;
        let as_told = if wanted > 0 { ended.code() == Some(wanted) } else { ended.signal() == Some(-wanted) };
        ensure!(as_told, "{way:?}: told to end with {wanted}, it ended with {ended}");
        fs::remove_file(s.path("end"))?;
        s.prove()?;
        s.kill()?;
        s.rewind(&images, &log)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let both_ways = [
        Case::flow("signals_are_passed_on", told(), signals_are_passed_on).streams(2).sampled_as(RunAs::User),
        Case::flow("ends_as_the_first_process", told(), ends_as_the_first_process).streams(2).sampled_as(RunAs::Root),
    ];
    let both_ways = both_ways.into_iter().map(|case| case.needs(Need::CHOSEN_IDS).needs(Need::PID_NAMESPACE));
    let by_name = Case::flow("images_by_every_name", tree(), images_by_every_name).streams(7).sampled_as(RunAs::User);
    runner::main([by_name].into_iter().chain(both_ways).collect())
}
