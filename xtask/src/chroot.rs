//! Other releases of Debian, each in a directory below `target/`: made by debootstrap once and kept.
//!
//! What runs there has the directory as the root of a mount namespace of its own (pivot_root): in a plain chroot the
//! kernel refuses user namespaces, by which ordinary users get their ids back. Mounts and processes end with the script.

use crate::packages::{self, Need};
use crate::workspace::{self, command, run as execute};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const MIRROR: &str = "http://deb.debian.org/debian";

/// Where the build for the oldest libc goes, as its chroot sees it; others have it there, too.
pub const BUILT: &str = "/opt/target";

/// A release of Debian in a directory.
pub struct Chroot {
    suite: String,
    root: PathBuf,
}

/// A directory of this machine that is seen inside.
pub struct Shared {
    from: PathBuf,
    at: PathBuf,
}

impl Shared {
    /// At its own path.
    pub fn same(path: &Path) -> Shared {
        Shared { from: path.into(), at: path.into() }
    }

    /// At another path.
    pub fn at(from: &Path, at: &str) -> Shared {
        Shared { from: from.into(), at: at.into() }
    }
}

impl Chroot {
    /// This release, made when it is not there.
    pub fn of(suite: &str) -> Result<Chroot> {
        ensure!(nix::unistd::geteuid().is_root(), "a chroot takes root");
        packages::ensure_installed(packages::CHROOT)?;
        let chroot = Chroot { suite: suite.into(), root: workspace::target().join("distros").join(suite) };
        if chroot.root.join("complete").exists() {
            return Ok(chroot);
        }
        println!("Making a {suite} chroot in {} ...", chroot.root.display());
        let _ = fs::remove_dir_all(&chroot.root);
        fs::create_dir_all(&chroot.root)?;
        let mut debootstrap = command("/usr/sbin/debootstrap");
        debootstrap.args(["--variant=minbase", "--include=gcc,g++,libc6-dev", suite]).arg(&chroot.root).arg(MIRROR);
        execute(debootstrap.stdout(Stdio::null())).with_context(|| format!("{MIRROR} may have no {suite}"))?;
        fs::write(chroot.root.join("complete"), "")?;
        Ok(chroot)
    }

    /// A path inside, as this machine sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// Install what is missing there.
    pub fn install(&self, needs: &[Need]) -> Result<()> {
        let missing = packages::missing(&self.root, needs);
        if missing.is_empty() {
            return Ok(());
        }
        // A mirror may be behind with a suite that changes daily; signatures are checked all the same.
        println!("Installing in {}: {}", self.suite, missing.join(" "));
        let script = format!(
            "export DEBIAN_FRONTEND=noninteractive; apt-get -o Acquire::Check-Valid-Until=false update -qq
             apt-get install -y -qq --no-install-recommends {} >/dev/null; apt-get clean",
            missing.join(" ")
        );
        self.run(&[], &script)?;
        let still = packages::missing(&self.root, needs);
        ensure!(still.is_empty(), "apt-get has installed everything, yet {} lacks {}", self.suite, still.join(", "));
        Ok(())
    }

    /// Run a shell script there.
    pub fn run(&self, shared: &[Shared], script: &str) -> Result<()> {
        let mut unshare = command("unshare");
        unshare.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"]);
        unshare.arg(
            "root=$1 script=$2; shift 2
             mount --bind \"$root\" \"$root\"; cd \"$root\"
             mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys
             while [ $# -gt 0 ]; do mkdir -p \".$2\"; mount --bind \"$1\" \".$2\"; shift 2; done
             pivot_root . .; umount -l .; cd /
             exec /bin/sh -ec \"$script\"",
        );
        unshare.arg("sh").arg(&self.root).arg(script);
        unshare.args(shared.iter().flat_map(|x| [&x.from, &x.at]));
        // What is found by name there is found where Debian has it, with nothing of this machine's.
        unshare.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env_remove("TMPDIR");
        let status = unshare.status().context("cannot run unshare")?;
        ensure!(status.success(), "{}: {status}", self.suite);
        Ok(())
    }
}
