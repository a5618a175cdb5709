//! `cargo xtask install`: programs, libraries, header, man pages and completions below a prefix.
//!
//! ```text
//!   PREFIX/bin/dmtcp_*                          PREFIX/include/*.h
//!   PREFIX/lib/dmtcp/BUILD-ID/libdmtcp*.so      PREFIX/share/man, completions: see TEXTS
//!   PREFIX/lib/dmtcp/current -> BUILD-ID
//!                                               PREFIX/share/dmtcp/{gdb,python}/dmtcp.py
//! ```
//! Each program prints its own texts, from the definition that it reads its command line by.
//!
//! Libraries of older builds stay: a restored process keeps running the ones in its image, and the programs that it
//! executes must get the same. A launch takes the current ones.

use crate::workspace::{build_dist, products, root};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Install below `prefix` what `from` holds, or else what is built for it.
pub fn run(prefix: &Path, from: Option<&Path>) -> Result<String> {
    let built = from.map_or_else(build_dist, |directory| Ok(directory.to_path_buf()))?;
    let (programs, libraries) = products(&built)?;
    let core = libraries.iter().find(|x| x.ends_with("libdmtcp.so")).context("libdmtcp.so was not built")?;
    let build = build_id(core)?;
    let all = prefix.join("lib/dmtcp");
    for library in &libraries {
        put(library, &all.join(&build), 0o755)?;
    }
    for program in &programs {
        put(program, &prefix.join("bin"), 0o755)?;
    }
    for (from, to) in [("include", "include"), ("restart/gdb", "share/dmtcp/gdb")] {
        for file in fs::read_dir(root().join(from))?.flatten() {
            put(&file.path(), &prefix.join(to), 0o644)?;
        }
    }
    for program in &programs {
        put_texts(program, prefix)?;
    }
    put(&root().join("examples/python/dmtcp.py"), &prefix.join("share/dmtcp/python"), 0o644)?;
    // Last: a launch that runs meanwhile gets the old ones, whole.
    let scratch = all.join(".current.new");
    let _ = fs::remove_file(&scratch);
    symlink(&build, &scratch)?;
    fs::rename(&scratch, all.join("current"))?;
    Ok(format!(
        "Installed {} programs and {} libraries (build {build}) below {}.",
        programs.len(),
        libraries.len(),
        prefix.display()
    ))
}

/// What a program prints of itself, where that goes, and what stands around the program's name there.
const TEXTS: [(&str, &str, &str, &str); 4] = [
    ("man", "share/man/man1", "", ".1"),
    ("bash", "share/bash-completion/completions", "", ""),
    ("zsh", "share/zsh/site-functions", "_", ""),
    ("fish", "share/fish/vendor_completions.d", "", ".fish"),
];

/// Let a program print its man page and completions, and put them into place.
fn put_texts(program: &Path, prefix: &Path) -> Result<()> {
    let name = program.file_name().context("a program without a name")?.to_string_lossy().into_owned();
    for (kind, directory, before, after) in TEXTS {
        let printed = Command::new(program).args(["--generate", kind]).output();
        let printed = printed.with_context(|| format!("cannot run {}", program.display()))?;
        let (directory, file) = (prefix.join(directory), format!("{before}{name}{after}"));
        ensure!(printed.status.success() && !printed.stdout.is_empty(), "{name} --generate {kind}: {}", printed.status);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let scratch = directory.join(format!(".{file}.new"));
        fs::write(&scratch, printed.stdout).with_context(|| format!("cannot write {}", scratch.display()))?;
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o644))?;
        fs::rename(&scratch, directory.join(&file)).with_context(|| format!("cannot put {file} into place"))?;
    }
    Ok(())
}

/// Copy a file so that whoever runs the old one keeps it: a new file takes over the name.
fn put(file: &Path, directory: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let name = file.file_name().context("a file without a name")?;
    let (scratch, place) = (directory.join(format!(".{}.new", name.to_string_lossy())), directory.join(name));
    fs::copy(file, &scratch).with_context(|| format!("cannot write {}", scratch.display()))?;
    fs::set_permissions(&scratch, fs::Permissions::from_mode(mode))?;
    fs::rename(&scratch, &place).with_context(|| format!("cannot put {} into place", place.display()))
}

/// What tells this build of the libraries from any other: the linker's build id, shortened.
fn build_id(library: &Path) -> Result<String> {
    let output = Command::new("readelf").arg("-n").arg(library).output().context("cannot run readelf (binutils)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = text.lines().find_map(|x| x.trim().strip_prefix("Build ID: ")).context("libdmtcp.so has no build id")?;
    Ok(id.chars().take(16).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_where_man_and_the_shells_look() {
        let directory = std::env::temp_dir().join(format!("dmtcp-install.{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let program = directory.join("dmtcp_some");
        fs::write(&program, "#!/bin/sh\necho \"$1 $2\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        put_texts(&program, &directory).unwrap();
        for (kind, path) in [
            ("man", "share/man/man1/dmtcp_some.1"),
            ("bash", "share/bash-completion/completions/dmtcp_some"),
            ("zsh", "share/zsh/site-functions/_dmtcp_some"),
            ("fish", "share/fish/vendor_completions.d/dmtcp_some.fish"),
        ] {
            assert_eq!(fs::read_to_string(directory.join(path)).unwrap(), format!("--generate {kind}\n"));
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
