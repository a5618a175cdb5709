//! Job control and builds: a shell that is used at a terminal, and make with several jobs in the middle of a project.

use dmtcp_tests::terminal::StartedBy;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

const STATUS: i32 = 7;
const INTERRUPT: &str = "\x03";
const SUSPEND: &str = "\x1a";
/// The prompt of the shell at which the harness types.
const OUTER: &str = "OUTER> ";

/// A shell that is typed at.
#[derive(Clone, Copy)]
struct Interactive {
    words: &'static [&'static str],
    /// What it says of a job that has stopped.
    stopped: &'static str,
}

const BASH: Interactive = Interactive { words: &["/bin/bash", "--norc", "--noprofile", "-i"], stopped: "Stopped" };
const DASH: Interactive = Interactive { words: &["/bin/dash", "-i"], stopped: "Stopped" };
const ZSH: Interactive = Interactive { words: &["/usr/bin/zsh", "-f", "-i", "+Z"], stopped: "suspended" };

/// The job is in the foreground, in the background and stopped, and the shell at its prompt, at a checkpoint each; after
/// each restart on a new terminal everything that is typed goes to whom it belongs. The shell is launched in one way, and
/// restarted in these.
fn a_shell_at_a_terminal(
    s: &mut Scenario,
    shell: Interactive,
    launched: StartedBy,
    restarted: [StartedBy; 3],
) -> Result<()> {
    s.on_terminal(launched);
    // A short name: shells tell of long ones only in part.
    let program = PathBuf::from(s.prepared()?.remove(0));
    let job = format!("../bin/{}", program.file_name().context("no name")?.display());
    launch_shell(s, shell)?;
    s.terminal()?.keys(&format!("{job}\n"))?;
    s.see_steps(3)?;
    again(s, restarted[0])?;
    s.terminal()?.keys("first\n")?;
    s.terminal()?.shows("heard <first> 0")?;
    s.terminal()?.keys(INTERRUPT)?;
    s.terminal()?.shows("interrupted 1")?;
    s.terminal()?.keys(SUSPEND)?;
    s.terminal()?.shows(shell.stopped)?;
    s.terminal()?.shows("READY> ")?;
    s.terminal()?.keys("bg\n")?;
    s.see_steps(3)?;
    again(s, restarted[1])?;
    // For the shell, not for the job.
    s.terminal()?.keys("echo $((6 * 7)) answered\n")?;
    s.terminal()?.shows("42 answered")?;
    s.terminal()?.keys("fg\n")?;
    s.terminal()?.shows(&job)?;
    s.terminal()?.keys("second\n")?;
    s.terminal()?.shows("heard <second> 1")?;
    s.terminal()?.keys(SUSPEND)?;
    s.terminal()?.shows(shell.stopped)?;
    s.checkpoint()?;
    s.kill()?;
    s.on_terminal(restarted[2]);
    s.restart(&Restart::images())?;
    s.terminal()?.keys("jobs\n")?;
    s.terminal()?.shows(shell.stopped)?;
    s.terminal()?.keys("fg\n")?;
    s.terminal()?.shows(&job)?;
    s.terminal()?.keys("third\n")?;
    s.terminal()?.shows("heard <third> 1")?;
    s.see_steps(3)?;
    fs::write(s.path("stop"), "")?;
    wait::until(10, "the job to end", || Ok(s.progress().find("DONE").first().map(|_| ())))?;
    s.terminal()?.keys("exit $?\n")?;
    if restarted[2] == StartedBy::Shell {
        s.terminal()?.shows(OUTER)?;
        s.terminal()?.keys("exit $?\n")?;
    }
    s.finish(STATUS)
}

/// Launches an interactive shell with a prompt of its own, and waits for that.
fn launch_shell(s: &mut Scenario, interactive: Interactive) -> Result<()> {
    let port = s.port()?;
    let mut shell = s.tool("dmtcp_launch");
    shell.args(["-j", "-p", &port, "--ckptdir"]).arg(s.image_directory());
    shell.args(["/usr/bin/env", "PS1=READY> ", "HISTFILE=/dev/null"]).args(interactive.words);
    s.launch_command(shell)?;
    s.terminal()?.shows("READY> ")
}

fn again(s: &mut Scenario, by: StartedBy) -> Result<()> {
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()?;
    s.on_terminal(by);
    s.restart(&Restart::images())?;
    s.see_steps(3)
}

/// A restarted shell is itself a job of another one: whoever is stopped, the shell that waits for it has the terminal.
fn shells_in_shells(s: &mut Scenario) -> Result<()> {
    s.on_terminal(StartedBy::Terminal);
    let job = s.prepared()?.join(" ");
    launch_shell(s, BASH)?;
    s.terminal()?.keys(&format!("{job}\n"))?;
    s.see_steps(3)?;
    for _ in 0..2 {
        again(s, StartedBy::Shell)?;
        s.terminal()?.keys(SUSPEND)?;
        s.terminal()?.shows("Stopped")?;
        s.terminal()?.shows("READY> ")?;
        s.terminal()?.keys("suspend -f\n")?;
        s.terminal()?.shows("Stopped")?;
        s.terminal()?.shows(OUTER)?;
        s.terminal()?.keys("echo $((6 * 7)) outside\n")?;
        s.terminal()?.shows("42 outside")?;
        s.terminal()?.keys("fg\n")?;
        s.terminal()?.shows("dmtcp_restart")?;
        s.terminal()?.keys("echo $((7 * 7)) inside\n")?;
        s.terminal()?.shows("49 inside")?;
        s.terminal()?.keys("fg\n")?;
        s.terminal()?.shows(&job)?;
        s.see_steps(3)?;
    }
    fs::write(s.path("stop"), "")?;
    wait::until(10, "the job to end", || Ok(s.progress().find("DONE").first().map(|_| ())))?;
    s.terminal()?.keys("exit $?\n")?;
    s.terminal()?.shows(OUTER)?;
    s.terminal()?.keys("exit $?\n")?;
    s.finish(STATUS)
}

/// What is restarted is a job like any other of the shell in which dmtcp_restart was typed: in the foreground, stopped, in
/// the background, in the foreground again, and in the background when it ends. The shell always has its terminal.
fn a_job_of_another_shell(s: &mut Scenario) -> Result<()> {
    s.on_terminal(StartedBy::Shell);
    s.launch()?;
    s.see_steps(3)?;
    for round in 0..2 {
        again(s, StartedBy::Shell)?;
        let interrupts = 2 * round;
        s.terminal()?.keys("first\n")?;
        s.terminal()?.shows(&format!("heard <first> {interrupts}"))?;
        s.terminal()?.keys(INTERRUPT)?;
        s.terminal()?.shows(&format!("interrupted {}", interrupts + 1))?;
        s.terminal()?.keys(SUSPEND)?;
        s.terminal()?.shows("Stopped")?;
        s.terminal()?.shows(OUTER)?;
        s.terminal()?.keys("bg\n")?;
        s.see_steps(3)?;
        s.terminal()?.keys("echo $((6 * 7)) answered\n")?;
        s.terminal()?.shows("42 answered")?;
        // A shell sends nobody a signal when what it puts in the foreground is running.
        s.terminal()?.keys("fg\n")?;
        s.terminal()?.shows("dmtcp_restart")?;
        s.terminal()?.keys(INTERRUPT)?;
        s.terminal()?.shows(&format!("interrupted {}", interrupts + 2))?;
    }
    s.terminal()?.keys(SUSPEND)?;
    s.terminal()?.shows("Stopped")?;
    s.terminal()?.keys("bg\n")?;
    s.see_steps(3)?;
    s.terminal()?.keys("fg\n")?;
    s.terminal()?.shows("dmtcp_restart")?;
    // It is stopped for that, and our shell has given the foreground to dmtcp_restart.
    fs::write(s.path("read"), "")?;
    s.terminal()?.keys("second\n")?;
    s.terminal()?.shows("heard <second> 4")?;
    fs::remove_file(s.path("read"))?;
    s.terminal()?.keys("third\n")?;
    s.terminal()?.shows("heard <third> 4")?;
    s.terminal()?.keys(SUSPEND)?;
    s.terminal()?.shows("Stopped")?;
    s.terminal()?.keys("bg\n")?;
    s.see_steps(3)?;
    fs::write(s.path("stop"), "")?;
    wait::until(10, "the job to end", || Ok(s.progress().find("DONE").first().map(|_| ())))?;
    s.terminal()?.keys("wait %1; echo status $?; exit 7\n")?;
    s.terminal()?.shows("status 7")?;
    s.finish(STATUS)
}

const FILES: usize = 200;

/// A project of many C files; the program that it makes prints the returned number.
fn write_project(s: &Scenario) -> Result<(PathBuf, u64)> {
    let directory = s.path("project");
    fs::create_dir(&directory)?;
    s.run_as().own(&directory)?;
    let (mut sum, mut declared, mut called, mut objects) = (0, String::new(), String::new(), String::new());
    for n in 0..FILES {
        let mut body = format!("unsigned long f{n}(unsigned long x) {{\n  unsigned long y = x;\n");
        for step in 0..40 {
            writeln!(body, "  y = y * {} + {}; if (y % 5 == {}) y ^= x << {};", n + 3, step, step % 5, step % 9)?;
        }
        fs::write(directory.join(format!("f{n}.c")), body + "  return y;\n}\n")?;
        let mut y = n as u64;
        for step in 0..40 {
            y = y.wrapping_mul(n as u64 + 3).wrapping_add(step);
            if y % 5 == step % 5 {
                y ^= (n as u64) << (step % 9);
            }
        }
        sum = y.wrapping_add(sum);
        writeln!(declared, "unsigned long f{n}(unsigned long);")?;
        writeln!(called, "  sum += f{n}({n});")?;
        write!(objects, " f{n}.o")?;
    }
    let main = "#include <stdio.h>\n#include \"all.h\"\nint main(void) {\n  unsigned long sum = 0;\n";
    fs::write(directory.join("main.c"), format!("{main}{called}  printf(\"%lu\\n\", sum);\n  return 0;\n}}\n"))?;
    fs::write(directory.join("all.h"), declared)?;
    let rules = "program: main.o $(OBJECTS)\n\tgcc -o $@ $^\n%.o: %.c all.h\n\tgcc -O1 -pipe -c -o $@ $<\n";
    fs::write(directory.join("Makefile"), format!("OBJECTS ={objects}\n{rules}"))?;
    Ok((directory, sum))
}

fn make_with_three_jobs(s: &mut Scenario) -> Result<()> {
    let (directory, sum) = write_project(s)?;
    fs::write(s.log(), "")?;
    s.run_as().own(&s.log())?;
    let objects = || -> Result<BTreeSet<PathBuf>> {
        let files = fs::read_dir(&directory)?.flatten().map(|entry| entry.path());
        Ok(files.filter(|path| path.extension().is_some_and(|x| x == "o")).collect())
    };
    let made = |enough: usize| -> Result<()> {
        wait::until(200, &format!("{enough} object files"), || Ok((objects()?.len() >= enough).then_some(())))
    };
    let port = s.port()?;
    let mut make = s.tool("dmtcp_launch");
    make.args(["-j", "-p", &port, "--ckptdir"]).arg(s.image_directory());
    make.args(["/usr/bin/make", "-j3", "-C"]).arg(&directory);
    s.launch_command(make)?;
    for part in [30, 80, 130] {
        made(part)?;
        s.checkpoint()?;
        let then = objects()?;
        made(part + 10)?;
        s.kill()?;
        // Those half written now would look finished to make.
        for since in objects()?.difference(&then) {
            fs::remove_file(since)?;
        }
        s.restart(&Restart::images())?;
    }
    made(FILES)?;
    let ended = s.wait_end()?;
    ensure!(ended.success(), "make ended with {ended}");
    let said = s.output(s.command(&directory.join("program").display().to_string()))?;
    let said = String::from_utf8_lossy(&said.stdout).trim().to_string();
    ensure!(said == sum.to_string(), "the program says {said}, not {sum}");
    let mut check = s.command("/usr/bin/make");
    check.arg("-q").arg("-C").arg(&directory);
    ensure!(s.output(check)?.status.success(), "make has left something to be made");
    Ok(())
}

fn main() -> ExitCode {
    use StartedBy::{Script, Shell, Terminal};
    let job = || Program::c("foreground.c", &[]);
    let shell = |name: &str, launched: StartedBy, restarted: [StartedBy; 3]| {
        Case::flow(name, job(), move |s| a_shell_at_a_terminal(s, BASH, launched, restarted)).limit(180)
    };
    let other = |name: &str, shell: Interactive, package: &str| {
        let program = job().needs(shell.words[0], package);
        let flow = move |s: &mut Scenario| a_shell_at_a_terminal(s, shell, Terminal, [Terminal, Shell, Script]);
        Case::flow(name, program, flow).limit(180).full_only()
    };
    runner::main(vec![
        shell("a_shell_at_a_terminal", Script, [Script, Script, Script]).sampled_translated_as(RunAs::User),
        shell("a_shell_that_leads_its_session", Terminal, [Terminal, Shell, Script]).sampled_as(RunAs::User),
        shell("a_shell_in_the_session_of_another", Shell, [Terminal, Script, Shell]).full_only(),
        other("dash_at_a_terminal", DASH, "dash"),
        other("zsh_at_a_terminal", ZSH, "zsh"),
        Case::flow("shells_in_shells", job(), shells_in_shells).sampled_as(RunAs::Root).limit(180),
        Case::flow("a_job_of_another_shell", job(), a_job_of_another_shell).sampled_as(RunAs::User).limit(180),
        Case::flow("make_with_three_jobs", job().needs("/usr/bin/make", "make"), make_with_three_jobs)
            .limit(600)
            .full_only(),
    ])
}
