//! Man pages and completions, which every program prints of itself: they render, and the shells take them.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Result, RunAs, Scenario, ensure, runner};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

const PROGRAMS: [&str; 6] =
    ["dmtcp_command", "dmtcp_coordinator", "dmtcp_inspect", "dmtcp_launch", "dmtcp_nocheckpoint", "dmtcp_restart"];

fn nobody() -> Program {
    Program::c("threads.c", &[])
}

/// What a program prints of itself, in a file.
fn printed(s: &Scenario, program: &str, kind: &str, file: &str) -> Result<PathBuf> {
    let mut command = s.tool(program);
    command.args(["--generate", kind]);
    let output = s.output(command)?;
    ensure!(output.status.success(), "{program} --generate {kind}: {}", text(&output));
    let path = s.path(file);
    fs::write(&path, &output.stdout)?;
    Ok(path)
}

/// Runs a checker on a file; it must have nothing to say.
fn accepts(s: &Scenario, checker: &[&str], path: &PathBuf) -> Result<String> {
    let mut command = s.command(checker[0]);
    command.args(&checker[1..]).arg(path);
    let output = s.output(command).with_context(|| format!("cannot run {}", checker[0]))?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{checker:?}: {}", text(&output));
    Ok(text(&output))
}

fn pages_render(s: &mut Scenario) -> Result<()> {
    for program in PROGRAMS {
        let page = printed(s, program, "man", &format!("{program}.1"))?;
        accepts(s, &["mandoc", "-T", "lint", "-W", "error"], &page)?;
        let shown = accepts(s, &["mandoc", "-T", "ascii"], &page)?.replace('\u{8}', "");
        let mut help = s.tool(program);
        help.arg("--help");
        let help = text(&s.output(help)?);
        // Every letter of a bold word is printed twice there.
        let plain: String = shown.split_whitespace().collect();
        for flag in help.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
            let flag: String = flag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            let bold: String = flag.chars().flat_map(|c| [c, c]).collect();
            ensure!(plain.contains(&bold) || plain.contains(&flag), "the page of {program} lacks --{flag}");
        }
        ensure!(plain.contains("SSEEEE") || plain.contains("SEEALSO"), "the page of {program} names no other");
    }
    Ok(())
}

fn shells_take_completions(s: &mut Scenario) -> Result<()> {
    for program in PROGRAMS {
        for (kind, checker) in [("bash", &["bash", "-n"][..]), ("zsh", &["zsh", "-n"]), ("fish", &["fish", "-n"])] {
            let script = printed(s, program, kind, &format!("{program}.{kind}"))?;
            accepts(s, checker, &script).with_context(|| format!("completions of {program} for {kind}"))?;
        }
    }
    let script = s.path("dmtcp_launch.bash").display().to_string();
    let mut bash = s.command("bash");
    bash.args([
        "-c",
        "source \"$1\"; COMP_WORDS=(dmtcp_launch --no-c); COMP_CWORD=1; _dmtcp_launch dmtcp_launch --no-c '' \
                     && printf '%s\\n' \"${COMPREPLY[@]}\"",
        "bash",
        &script,
    ]);
    let said = text(&s.output(bash)?);
    ensure!(said.contains("--no-coordinator"), "completions of --no-c: {said}");
    Ok(())
}

fn main() -> ExitCode {
    runner::main(vec![
        Case::flow("man_pages_render", nobody(), pages_render).sampled_as(RunAs::User),
        Case::flow("shells_take_completions", nobody(), shells_take_completions).sampled_as(RunAs::User),
    ])
}
