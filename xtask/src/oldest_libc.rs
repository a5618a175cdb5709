//! `cargo xtask oldest-libc`: what ships must run where libc is as old as glibc 2.31 (Debian bullseye).
//!
//! A library needs the symbol versions of the libc that it was linked against, so everything is built in a bullseye
//! chroot, with the Rust of this machine. Then no symbol that a product asks of libc may be newer than 2.31, and the tests
//! of what libc has a part in run in the chroot: threads, signals, memory, time, ids and families of processes.

use crate::chroot::{BUILT, Chroot, Shared};
use crate::distro::{self, Run};
use crate::suite::AT_A_TIME;
use crate::workspace::{self, command, run as execute};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest version of a libc symbol that a product may need.
const FLOOR: (u32, u32) = (2, 31);
/// The release of Debian that has that libc.
pub const SUITE: &str = "bullseye";

/// The files of tests in which libc has a part. Their programs take no more than a compiler.
const SUITES: &[&str] = &["resources", "single_process", "families", "timers", "clocks", "ids"];

/// Build and check.
pub fn run() -> Result<String> {
    check_symbols(&built()?.path(BUILT).join("release"))?;
    let arguments = ["--test-threads".to_owned(), AT_A_TIME.to_string()];
    distro::test(&Run {
        distro: SUITE,
        suites: SUITES,
        needs: &[("/usr/bin/ps", "procps")],
        arguments: &arguments,
        forbidden: "",
    })?;
    Ok(format!("The oldest libc will do: symbol versions up to {}.{}, and the tests in {SUITE}.", FLOOR.0, FLOOR.1))
}

/// Its chroot, with all that ships built there.
pub fn built() -> Result<Chroot> {
    let chroot = Chroot::of(SUITE)?;
    println!("Building against the libc of {SUITE} ...");
    build(&chroot, "build --workspace --exclude dmtcp-tests --exclude dmtcp-benches --exclude xtask")?;
    Ok(chroot)
}

/// Let cargo do something there, with this machine's Rust: symbol versions are those of the libc that one links against.
pub fn build(chroot: &Chroot, task: &str) -> Result<()> {
    execute(workspace::cargo().args(["fetch", "--quiet", "--locked"]))?;
    let rust = rust()?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let script = format!(
        "export PATH='{}/bin':/usr/bin:/bin CARGO_HOME='{}' CARGO_TARGET_DIR={BUILT}; cd '{}'
         exec cargo {task} --quiet --release --offline --locked",
        rust.display(),
        home.display(),
        workspace::root().display()
    );
    let shared = [Shared::same(&rust), Shared::same(&home), Shared::same(workspace::root())];
    chroot.run(&shared, &script).context("the build inside the chroot failed")
}

/// Where the Rust of this machine is.
pub fn rust() -> Result<PathBuf> {
    let sysroot = command("rustc").args(["--print", "sysroot"]).output().context("cannot run rustc")?;
    Ok(PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim()))
}

/// The symbol versions of every product in `release`.
fn check_symbols(release: &Path) -> Result<()> {
    let (programs, libraries) = workspace::products(release)?;
    let mut offenders = Vec::new();
    for file in libraries.iter().chain(&programs) {
        let output = Command::new("readelf").args(["-W", "--dyn-syms"]).arg(file).output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines().filter(|x| x.contains(" UND ")) {
            let Some((name, version)) = line.split_whitespace().find_map(|x| x.split_once("@GLIBC_")) else { continue };
            if parse(version).is_some_and(|v| v > FLOOR) {
                offenders.push(format!("{}: {name}@GLIBC_{version}", file.file_name().unwrap_or_default().display()));
            }
        }
    }
    ensure!(
        offenders.is_empty(),
        "these need a libc newer than {}.{}:\n  {}",
        FLOOR.0,
        FLOOR.1,
        offenders.join("\n  ")
    );
    println!("No symbol newer than GLIBC_{}.{}.", FLOOR.0, FLOOR.1);
    Ok(())
}

/// The number of `2.31` or `2.2.5`.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|x| x.chars().take_while(char::is_ascii_digit).collect::<String>());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
