//! `cargo xtask oldest-libc`: what ships must run where libc is as old as glibc 2.31 (Debian bullseye).
//!
//! A library needs the symbol versions of the libc that it was linked against, so everything is built in a bullseye
//! chroot, with the Rust of this machine. Then no symbol that a product asks of libc may be newer than 2.31, and a
//! program in the chroot is launched, checkpointed, killed and restarted. debootstrap makes the chroot once; it is kept
//! below `target/`.

use crate::packages;
use crate::workspace::{self, command, run as execute};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The newest version of a libc symbol that a product may need.
const FLOOR: (u32, u32) = (2, 31);
/// The release of Debian that has that libc.
const SUITE: &str = "bullseye";
const MIRROR: &str = "http://deb.debian.org/debian";

/// Where the build inside the chroot goes, as the chroot sees it.
const BUILT: &str = "/opt/target";

/// Build and check.
pub fn run() -> Result<String> {
    packages::ensure_installed(packages::OLDEST_LIBC)?;
    let root = chroot()?;
    build_inside(&root)?;
    let release = root.join(BUILT.trim_start_matches('/')).join("release");
    check_symbols(&release)?;
    println!("Checkpoint and restart inside {} ...", root.display());
    fs::copy(workspace::root().join("xtask/oldest_libc/restart.sh"), root.join("opt/restart.sh"))?;
    inside(&root, &[], "exec /bin/bash /opt/restart.sh").context("the restart inside the chroot failed")?;
    Ok(format!("The oldest libc will do: symbol versions up to {}.{}, and a restart in {SUITE}.", FLOOR.0, FLOOR.1))
}

/// The chroot, made when it is not there.
fn chroot() -> Result<PathBuf> {
    let root = workspace::target().join("oldest-libc").join(SUITE);
    if root.join("complete").exists() {
        return Ok(root);
    }
    ensure!(nix::unistd::geteuid().is_root(), "making a chroot takes root");
    println!("Making a {SUITE} chroot in {} ...", root.display());
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root)?;
    let mut debootstrap = command("/usr/sbin/debootstrap");
    debootstrap.args(["--variant=minbase", "--include=gcc,libc6-dev", SUITE]).arg(&root).arg(MIRROR);
    execute(debootstrap.stdout(Stdio::null())).with_context(|| format!("{MIRROR} may not have {SUITE} any more"))?;
    fs::write(root.join("complete"), "")?;
    Ok(root)
}

/// Build there, with this machine's Rust: symbol versions are those of the libc that one links against.
fn build_inside(root: &Path) -> Result<()> {
    println!("Building inside the chroot ...");
    execute(workspace::cargo().args(["fetch", "--quiet", "--locked"]))?;
    let sysroot = command("rustc").args(["--print", "sysroot"]).output().context("cannot run rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let script = format!(
        "export PATH='{}/bin':/usr/bin:/bin CARGO_HOME='{}' CARGO_TARGET_DIR={BUILT}; cd '{}'; exec cargo build --quiet \
         --release --workspace --offline --locked --exclude dmtcp-tests --exclude dmtcp-benches --exclude xtask",
        sysroot.display(),
        home.display(),
        workspace::root().display()
    );
    inside(root, &[&sysroot, &home, workspace::root()], &script).context("the build inside the chroot failed")
}

/// Run a shell script inside, where `shared` directories are at their own paths. Mounts and processes end with it.
fn inside(root: &Path, shared: &[&Path], script: &str) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "a chroot takes root");
    let mut unshare = command("unshare");
    unshare.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"]);
    unshare.arg(
        "root=$1 script=$2; shift 2
         mount -t proc proc \"$root/proc\"; mount --bind /dev \"$root/dev\"
         for d; do mkdir -p \"$root$d\"; mount --bind \"$d\" \"$root$d\"; done
         exec chroot \"$root\" /bin/sh -c \"$script\"",
    );
    let status = unshare.arg("sh").arg(root).arg(script).args(shared).status().context("cannot run unshare")?;
    ensure!(status.success(), "{status}");
    Ok(())
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
