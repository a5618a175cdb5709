//! Two builds installed below one prefix: what was launched with the first goes on with it, whatever the programs are now.

use dmtcp_tests::library::build_directory;
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Exit status of programs that make steps.
const STATUS: i32 = 7;

/// `cargo xtask install --prefix PREFIX --from DIR`; the build that is current then.
fn install(prefix: &Path, from: &Path) -> Result<PathBuf> {
    let mut command = Command::new(build_directory()?.join("xtask"));
    let done = command.args(["install", "--prefix"]).arg(prefix).arg("--from").arg(from).output()?;
    ensure!(done.status.success(), "{command:?}: {}", text(&done));
    Ok(prefix.join("lib/dmtcp/current").canonicalize()?)
}

/// The bytes of a library's build id.
fn build_id(library: &Path) -> Result<Vec<u8>> {
    let output = Command::new("readelf").arg("-n").arg(library).output().context("cannot run readelf (binutils)")?;
    let said = text(&output);
    let id = said.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).context("no build id")?;
    let digits: Vec<u32> = id.chars().filter_map(|digit| digit.to_digit(16)).collect();
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect())
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    for at in 0..bytes.len().saturating_sub(old.len()) {
        if bytes[at..].starts_with(old) {
            bytes[at..at + new.len()].copy_from_slice(new);
        }
    }
}

/// A build of another version and another build id, made out of this one.
fn next_build(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let built = build_directory()?;
    let id = build_id(&built.join("libdmtcp.so"))?;
    let other: Vec<u8> = id.iter().map(|byte| !byte).collect();
    for entry in fs::read_dir(&built)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_program = name.starts_with("dmtcp_") && !name.contains('.');
        if is_program || (name.starts_with("libdmtcp") && name.ends_with(".so")) {
            let mut bytes = fs::read(entry.path())?;
            replace(&mut bytes, &id, &other);
            replace(&mut bytes, b"0.1.0", b"0.1.9");
            fs::write(directory.join(&name), bytes)?;
            fs::set_permissions(directory.join(&name), entry.metadata()?.permissions())?;
        }
    }
    Ok(())
}

fn version(s: &Scenario) -> Result<String> {
    let mut command = s.tool("dmtcp_restart");
    command.arg("--version");
    Ok(text(&s.output(command)?))
}

fn two_builds(s: &mut Scenario) -> Result<()> {
    let prefix = s.path("prefix");
    let first = install(&prefix, &build_directory()?)?;
    for file in [
        "bin/dmtcp_launch",
        "bin/dmtcp_restart",
        "include/dmtcp.h",
        "share/man/man1/dmtcp_launch.1",
        "share/bash-completion/completions/dmtcp_command",
        "share/zsh/site-functions/_dmtcp_restart",
        "share/fish/vendor_completions.d/dmtcp_inspect.fish",
    ] {
        ensure!(prefix.join(file).metadata()?.len() > 0, "{file} is empty");
    }
    s.use_tool(&prefix.join("bin"));
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(1)?;
    s.kill()?;

    next_build(&s.path("next"))?;
    let second = install(&prefix, &s.path("next"))?;
    ensure!(first != second && first.join("libdmtcp.so").exists(), "the first build is not kept");
    ensure!(version(s)?.contains("0.1.9"), "dmtcp_restart is not the second one: {}", version(s)?);
    let before = s.progress().find("library").len();
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    s.kill()?;
    s.restart(&Restart::script())?;
    s.see_steps(3)?;
    s.finish(STATUS)?;
    let progress = s.progress();
    let seen = progress.find("library");
    let expected = format!("library {}", first.join("libdmtcp.so").display());
    ensure!(seen.len() > before && seen.iter().all(|line| *line == expected), "not all are {expected}: {seen:?}");

    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "grep", "-m", "1", "-o", r"/[^ ]*/libdmtcp\.so", "/proc/self/maps"]);
    let said = text(&s.output(command)?);
    ensure!(said.trim() == second.join("libdmtcp.so").display().to_string(), "a new launch takes {said}");
    Ok(())
}

fn main() -> ExitCode {
    let program = Program::script(&["/bin/bash"], "own_library.sh", "bash");
    runner::main(vec![
        Case::flow("a_restored_process_keeps_its_build", program, two_builds).streams(1).sampled_as(RunAs::User),
    ])
}
