//! The checkout: where it is, how it is built, what a build leaves behind.

use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The release build.
pub fn release() -> PathBuf {
    target().join("release")
}

/// A command that runs in the root of the checkout.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Run a command to its end; failure is an error that names it.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Build everything, optimised, as it is tested.
pub fn build() -> Result<()> {
    println!("Building (release) ...");
    run(cargo().args(["build", "--quiet", "--release", "--workspace"]))
}

/// Build everything as it ships, small; gives the directory.
pub fn build_dist() -> Result<PathBuf> {
    println!("Building (dist) ...");
    run(cargo().args(["build", "--quiet", "--profile", "dist", "--workspace"]))?;
    Ok(target().join("dist"))
}

/// Programs and in-process libraries in the directory of a release build: what is installed.
pub fn products(release: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut programs, mut libraries) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(release)?.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if (name.starts_with("dmtcp_") || name == "readdmtcp") && path.is_file() && path.extension().is_none() {
            programs.push(path);
        } else if name.starts_with("libdmtcp") && name.ends_with(".so") {
            libraries.push(path);
        }
    }
    programs.sort();
    libraries.sort();
    ensure!(!programs.is_empty() && !libraries.is_empty(), "nothing built in {}", release.display());
    Ok((programs, libraries))
}
