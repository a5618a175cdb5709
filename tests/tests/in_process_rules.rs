//! What docs/in-process-rules.md demands of code inside other people's programs, as far as a machine can see it: no libc
//! function is called through a checkpoint and a restart, and the libraries need, export and bind what they may.

use dmtcp_tests::library::built;
use dmtcp_tests::recorder;
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use object::{Object, ObjectSection, ObjectSymbol};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const STATUS: i32 = 7;

/// The libraries under test that belong to the product.
fn libraries(s: &Scenario) -> Result<Vec<PathBuf>> {
    let launch = PathBuf::from(s.tool("dmtcp_launch").get_program());
    let directory = launch.parent().context("no directory")?;
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let all = fs::read_dir(directory)?.flatten().map(|x| x.path());
    let mut found: Vec<PathBuf> = all.filter(|p| name(p).starts_with("libdmtcp") && name(p).ends_with(".so")).collect();
    found.sort();
    ensure!(found.len() > 5, "these are not all libraries of the product: {found:?}");
    Ok(found)
}

/// What is exported and is no stub. dlsym leads to the stubs of libraries that come late; the run time of AddressSanitizer
/// asks for its options before anything of ours runs.
const OURS: [&str; 6] = [
    "dmtcp_core_wire",
    "dmtcp_plugin_v1",
    "dmtcp_plugin_events_v1",
    "dmtcp_restart_pause",
    "dlsym",
    "__asan_default_options",
];

/// The first instructions of the stub that `wrappers!` makes: the chain's head into r11, and a look whether there is one.
fn is_stub(code: &[u8]) -> bool {
    code.starts_with(&[0x4c, 0x8b, 0x1d]) && code.get(7..10) == Some(&[0x4d, 0x85, 0xdb])
}

fn exports_are_stubs_and_the_interface(s: &mut Scenario) -> Result<()> {
    let header = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/dmtcp.h"))?;
    for library in libraries(s)? {
        let bytes = fs::read(&library)?;
        let file = object::File::parse(&*bytes)?;
        for symbol in file.dynamic_symbols().filter(|x| x.is_definition()) {
            let name = symbol.name()?;
            let ours = OURS.contains(&name) || name.starts_with("_1as_0");
            let interface = ours || header.contains(&format!("{name}("));
            let section = file.section_by_index(symbol.section_index().context("a symbol of no section")?)?;
            let code = section.data_range(symbol.address(), 16)?.unwrap_or_default();
            ensure!(interface || is_stub(code), "{} exports {name}, which is no stub of a wrapper", library.display());
        }
    }
    Ok(())
}

fn libraries_need_libc_alone(s: &mut Scenario) -> Result<()> {
    for library in libraries(s)? {
        let output = Command::new("readelf").args(["-W", "-d"]).arg(&library).output().context("cannot run readelf")?;
        let said = text(&output);
        let name = library.display();
        for line in said.lines().filter(|x| x.contains("(NEEDED)")) {
            let allowed = ["[libc.so.6]", "[ld-linux-x86-64.so.2]"].iter().any(|x| line.contains(x));
            ensure!(allowed, "{name} needs more than libc and the loader: {line}");
        }
        ensure!(!said.contains("TEXTREL"), "{name} has relocations in its code");
        for flag in ["SYMBOLIC", "NOW"] {
            ensure!(said.contains(flag), "{name} is not linked with what sets {flag}: see build/cdylib.rs");
        }
    }
    Ok(())
}

/// Puts the recorder behind our libraries.
fn record(s: &mut Scenario) -> Result<()> {
    let library = recorder::build(&s.path("../bin"))?;
    s.set_env("LD_PRELOAD", &library.display().to_string());
    Ok(())
}

/// All libraries but so many were watched.
fn all_but(s: &Scenario, fewer: usize) -> Result<()> {
    let log = s.progress();
    let expected = format!("watched {}", libraries(s)?.len() - fewer);
    ensure!(log.find("watched") == [&expected], "not '{expected}': {:?}", log.find("watched"));
    Ok(())
}

/// The program complains of each call that is recorded.
fn nothing_is_called(s: &mut Scenario) -> Result<()> {
    record(s)?;
    // With the plugins that are loaded on demand.
    s.set_env("DMTCP_PATH_MAPPING", "/nowhere:/elsewhere");
    fs::write(s.path("dmtcp_env.txt"), "RECORDED=yes\n")?;
    // And with one of the user's, which brings program-events.
    let sleep = built(s, "libexample_sleep1.so")?;
    s.set_env("DMTCP_PLUGIN", &sleep);
    s.generations(&[Restart::images(), Restart::images()], 3)?;
    // unique-ckpt.
    all_but(s, 1)?;
    s.finish(STATUS)
}

/// The plugin that puts each generation into a directory of its own, where the common flow would not find it.
fn nothing_is_called_by_unique_ckpt(s: &mut Scenario) -> Result<()> {
    record(s)?;
    s.launch()?;
    for _ in 0..2 {
        s.see_steps(3)?;
        let answer = s.ask(&["bc"])?;
        ensure!(answer.status.success(), "dmtcp_command bc: {}", text(&answer));
    }
    s.see_steps(3)?;
    // modify-env, path-virt, program-events.
    all_but(s, 3)?;
    s.finish(STATUS)
}

/// A plugin whose hook of this event calls setenv.
fn planted(s: &mut Scenario, event: &str) -> Result<()> {
    let library = s.path("libdmtcp_planted.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/planted.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-Wl,-Bsymbolic", "-D", &format!("PLANTED_EVENT={event}")]);
    let made = gcc.arg(source).arg("-o").arg(&library).output().context("cannot run gcc")?;
    ensure!(made.status.success(), "{gcc:?}: {}", text(&made));
    s.set_env("DMTCP_PLUGIN", &library.display().to_string());
    Ok(())
}

fn the_plant_is_found(s: &mut Scenario, restart: bool) -> Result<()> {
    record(s)?;
    s.launch()?;
    s.see_steps(3)?;
    let answer = s.ask(&["bc"])?;
    ensure!(answer.status.success() || !restart, "dmtcp_command bc: {}", text(&answer));
    if restart {
        s.see_steps(3)?;
        s.kill()?;
        s.restart(&Restart::images())?;
    }
    wait::until(30, "the planted call to be reported", || {
        let complaint = s.progress().complaint().err().map(|e| e.to_string()).unwrap_or_default();
        Ok(complaint.contains("libdmtcp_planted.so calls setenv").then_some(()))
    })
}

fn planted_at_precheckpoint(s: &mut Scenario) -> Result<()> {
    planted(s, "16")?;
    the_plant_is_found(s, false)
}

fn planted_at_restart(s: &mut Scenario) -> Result<()> {
    planted(s, "18")?;
    the_plant_is_found(s, true)
}

/// What the compiler and std call on their own is in each library, and does not come from libc or whoever replaces it.
fn memory_functions_are_their_own(s: &mut Scenario) -> Result<()> {
    for library in libraries(s)? {
        let bytes = fs::read(&library)?;
        for symbol in object::File::parse(&*bytes)?.dynamic_symbols() {
            let name = symbol.name()?;
            let known = ["memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen"].contains(&name);
            ensure!(!known, "{} has {name} among its dynamic symbols", library.display());
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let program = || Program::c("no_libc.c", &[]);
    let library = |name, flow: fn(&mut Scenario) -> Result<()>| Case::flow(name, program(), flow).only(RunAs::User);
    let calls = |name, options: &[&str]| {
        Case::flow(name, program(), nothing_is_called).streams(4).options(&["--modify-env"]).options(options)
    };
    runner::main(vec![
        library("libraries_export_stubs_and_the_interface", exports_are_stubs_and_the_interface),
        library("libraries_need_libc_and_the_loader_alone", libraries_need_libc_alone),
        library("libraries_have_memory_functions_of_their_own", memory_functions_are_their_own),
        calls("no_libc_function_is_called", &[]),
        calls("no_libc_function_is_called_by_zstd", &["--compress", "zstd"]).full_only(),
        calls("no_libc_function_is_called_by_lz4", &["--compress", "lz4"]).full_only(),
        calls("no_libc_function_is_called_by_gzip", &["--gzip"]).full_only(),
        calls("no_libc_function_is_called_by_a_background_writer", &["--forked"]).full_only(),
        Case::flow("no_libc_function_is_called_by_unique_ckpt", program(), nothing_is_called_by_unique_ckpt)
            .streams(4)
            .options(&["--enable-unique-checkpoint-filenames"])
            .full_only(),
        Case::flow("libc_call_planted_at_precheckpoint_is_found", program(), planted_at_precheckpoint)
            .streams(4)
            .sampled_as(RunAs::User),
        Case::flow("libc_call_planted_at_restart_is_found", program(), planted_at_restart)
            .streams(4)
            .sampled_as(RunAs::User),
    ])
}
