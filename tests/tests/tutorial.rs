//! What the plugin tutorial shows, as a stranger does it: its code blocks are written into a directory of their own, built
//! there by cargo and gcc, and loaded into programs.

use dmtcp_tests::examples::{C99, compile, root};
use dmtcp_tests::library::build_directory;
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, ExitCode};

/// Exit status of programs that make steps.
const STATUS: i32 = 7;
/// The plugins in Rust whose code the tutorial shows.
const RUST: [&str; 5] = ["event-printer", "sleep1", "query-log", "where-from", "phone-book"];

/// The files that the tutorial shows, by the path that stands before each, and its other blocks.
fn blocks() -> Result<(BTreeMap<String, String>, Vec<String>)> {
    let tutorial = fs::read_to_string(root().join("docs/plugin-tutorial.md"))?;
    let (mut files, mut others) = (BTreeMap::new(), Vec::new());
    let mut parts = tutorial.split("\n```");
    while let Some(prose) = parts.next() {
        let Some(block) = parts.next() else { break };
        let code = block.split_once('\n').map(|(_, code)| format!("{code}\n")).unwrap_or_default();
        let title = prose.trim_end().lines().last().unwrap_or_default();
        match title.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:")) {
            Some(path) => drop(files.insert(path.to_owned(), code)),
            None => others.push(code),
        }
    }
    Ok((files, others))
}

/// Builds the plugins in Rust outside of the repository; their libraries are in the directory of the case.
fn build(s: &Scenario, files: &BTreeMap<String, String>, others: &[String]) -> Result<BTreeMap<String, String>> {
    let find = |path: &str| files.get(path).with_context(|| format!("the tutorial does not show {path}"));
    let manifest = find("examples/rust/event-printer/Cargo.toml")?;
    let script = find("examples/rust/event-printer/build.rs")?;
    let profile = others.iter().find(|code| code.contains("[profile.release]")).context("no profile is shown")?;
    let lines =
        |start: &str| others.iter().find(|code| code.starts_with(start)).context("no more dependencies are shown");
    let (libc, more) = (lines("libc = ")?, lines("abi_stable = ")?);
    let workspace = s.path("tutorial");
    let members: Vec<String> = RUST.iter().map(|name| format!("{name:?}")).collect();
    fs::create_dir_all(&workspace)?;
    fs::write(
        workspace.join("Cargo.toml"),
        format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\n\n{profile}", members.join(", ")),
    )?;
    fs::copy(root().join("Cargo.lock"), workspace.join("Cargo.lock"))?;
    for name in RUST {
        let directory = workspace.join(name);
        fs::create_dir_all(directory.join("src"))?;
        let api = root().join("plugin-api").display().to_string();
        let own = manifest.replace("event-printer", name).replace("event_printer", &name.replace('-', "_"));
        let mut own = own.replace("../../../plugin-api", &api);
        match name {
            "sleep1" => own += libc,
            "where-from" => own += more,
            _ => {}
        }
        fs::write(directory.join("Cargo.toml"), own)?;
        fs::write(directory.join("build.rs"), script)?;
        fs::write(directory.join("src/lib.rs"), find(&format!("examples/rust/{name}/src/lib.rs"))?)?;
    }
    // Kept from one run to the next: the dependencies take longer than the plugins.
    let target = build_directory()?.join("../tutorial");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--release", "--offline"]).current_dir(&workspace).env("CARGO_TARGET_DIR", &target);
    let done = cargo.output()?;
    ensure!(done.status.success(), "{cargo:?}: {}", text(&done));
    let mut built = BTreeMap::new();
    for name in RUST {
        let file = format!("libexample_{}.so", name.replace('-', "_"));
        fs::copy(target.join("release").join(&file), s.path(&file))?;
        built.insert(name.to_owned(), s.path(&file).display().to_string());
    }
    Ok(built)
}

/// The C files, compiled as the tutorial says.
fn build_c(s: &Scenario, files: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut built = BTreeMap::new();
    for (path, code) in files.iter().filter(|(path, _)| path.ends_with(".c")) {
        let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".c");
        let source = s.path(&format!("{name}.c"));
        fs::write(&source, code)?;
        let is_plugin = code.contains("DMTCP_DECL_PLUGIN");
        let compiler: Vec<&str> = C99
            .iter()
            .copied()
            .chain(if is_plugin { &["-shared", "-fPIC"][..] } else { &[] }.iter().copied())
            .collect();
        let output =
            compile(s, &compiler, &source, if is_plugin { format!("{name}.so") } else { name.into() }.as_str())?;
        built.insert(name.to_owned(), output.display().to_string());
    }
    Ok(built)
}

fn as_a_stranger(s: &mut Scenario) -> Result<()> {
    let (files, others) = blocks()?;
    let (rust, c) = (build(s, &files, &others)?, build_c(s, &files)?);
    let all = format!("{}:{}:{}:{}", rust["event-printer"], rust["sleep1"], rust["where-from"], c["event_printer"]);
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    let sleepers = format!("{}:{}", rust["sleep1"], c["sleep_c"]);
    command.args(["-j", "-p", &port, "--with-plugin", &sleepers, "perl", "-e", "sleep 1"]);
    let said = text(&s.output(command)?);
    ensure!(said == "sleep1: before\nsleep_c: before\n", "the wrappers of sleep: {said}");
    let mut command = s.tool("dmtcp_launch");
    let python = "import sqlite3; sqlite3.connect(':memory:').execute('select 42')";
    command.args(["-j", "-p", &port, "--with-plugin", &rust["query-log"], "/usr/bin/python3", "-c", python]);
    let said = text(&s.output(command)?);
    ensure!(said.ends_with("query-log: statement select 42\n"), "the wrappers of SQLite: {said}");

    s.set_env("DMTCP_PLUGIN", &all);
    s.output_in_pipe();
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    let mut inspect = s.tool("dmtcp_inspect");
    inspect.args(s.image_files()?);
    let said = text(&s.output(inspect)?);
    ensure!(said.contains("checkpointed on "), "dmtcp_inspect says: {said}");
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    for who in ["event_printer: ", "dmtcp: plugin event-printer: "] {
        wait::until(30, &format!("'{who}RESTART'"), || {
            let said = String::from_utf8_lossy(&fs::read(s.output_file())?).into_owned();
            Ok(said.contains(&format!("{who}RESTART\n")).then_some(()))
        })?;
    }
    s.finish(STATUS)
}

fn main() -> ExitCode {
    runner::main(vec![
        Case::flow("tutorial_works_for_a_stranger", Program::c("threads.c", &[]).args(&["2", "10"]), as_a_stranger)
            .only(RunAs::User)
            .limit(900)
            .full_only(),
    ])
}
