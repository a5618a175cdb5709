//! `cargo xtask test --distro SUITE`: the tests under the libc, compiler and interpreters of another Debian.
//!
//! What is tested, and the tests themselves, are built once, against the oldest libc, and run as they are under every
//! other. The programs under test are compiled where they run.

use crate::chroot::{BUILT, Chroot, Shared};
use crate::oldest_libc;
use crate::packages::Need;
use crate::suite::FORBID;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::fs;

/// What a release of Debian is too old for: the release, the name of the tests, the reason.
const TOO_OLD: &[(&str, &str, &str)] = &[("bullseye", "cxx_synchronisation", "its g++ has no <barrier>")];

/// Where the names of the tests' executables go.
const LIST: &str = "/opt/target/tests.json";

/// What to run in a chroot.
pub struct Run<'a> {
    /// The release of Debian.
    pub distro: &'a str,
    /// The files of tests.
    pub suites: &'a [&'a str],
    /// What they need there.
    pub needs: &'a [Need],
    /// Arguments of each.
    pub arguments: &'a [String],
    /// Kernel features that are not to be used.
    pub forbidden: &'a str,
}

/// Run tests in a chroot.
pub fn test(run: &Run) -> Result<()> {
    let oldest = oldest_libc::built()?;
    let tests: String = run.suites.iter().map(|suite| format!(" --test {suite}")).collect();
    oldest_libc::build(&oldest, &format!("test -p dmtcp-tests{tests} --no-run --message-format=json >{LIST}"))?;
    let executables = executables(&fs::read_to_string(oldest.path(LIST))?, run.suites)?;
    let chroot = Chroot::of(run.distro)?;
    chroot.install(run.needs)?;
    let rust = oldest_libc::rust()?;
    let mut shared = vec![Shared::same(&rust), Shared::same(workspace::root())];
    if run.distro != oldest_libc::SUITE {
        let release = format!("{BUILT}/release");
        shared.push(Shared::at(&oldest.path(&release), &release));
    }
    println!("Launch, checkpoint, SIGKILL and restart of programs of {} ...", run.distro);
    let quoted: String = run.arguments.iter().map(|x| format!(" '{}'", x.replace('\'', "'\\''"))).collect();
    let mut skipped = String::new();
    for (_, tests, reason) in TOO_OLD.iter().filter(|x| x.0 == run.distro) {
        println!("    without {tests}: {reason}");
        skipped += &format!(" --skip {tests}");
    }
    let script = format!(
        "export PATH='{}/bin':/usr/local/bin:/usr/bin:/bin DMTCP_TEST_BIN={BUILT}/release {FORBID}='{}'
         failed=
         for test in {}; do $test{quoted}{skipped} || failed=\"$failed $test\"; done
         [ -z \"$failed\" ] || {{ echo \"Failures in:$failed\"; exit 1; }}",
        rust.display(),
        run.forbidden,
        executables.join(" "),
    );
    chroot.run(&shared, &script).context("some tests failed; their reports are above")
}

/// The executables of these suites, from what cargo says it has built.
pub fn executables(said: &str, suites: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in said.lines() {
        let message: serde_json::Value = serde_json::from_str(line).with_context(|| format!("cargo says {line:?}"))?;
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let Some(executable) = message["executable"].as_str().filter(|_| suites.contains(&name)) {
            found.push(executable.to_owned());
        }
    }
    ensure!(found.len() == suites.len(), "cargo has built only {found:?} of {suites:?}");
    Ok(found)
}
