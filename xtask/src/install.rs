//! `cargo xtask install`: programs, libraries, header and man pages below a prefix.
//!
//! ```text
//!   PREFIX/bin/dmtcp_*                          PREFIX/include/*.h
//!   PREFIX/lib/dmtcp/BUILD-ID/libdmtcp*.so      PREFIX/share/man/man1/*.1
//!                                               PREFIX/share/dmtcp/{gdb,python}/dmtcp.py
//! ```
//! Libraries of older builds stay: a restored process keeps running the ones in its image, and the programs that it
//! executes must get the same.

use crate::workspace::{build_dist, products, root};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Build and install below `prefix`.
pub fn run(prefix: &Path) -> Result<String> {
    let (programs, libraries) = products(&build_dist()?)?;
    let core = libraries.iter().find(|x| x.ends_with("libdmtcp.so")).context("libdmtcp.so was not built")?;
    let library_directory = prefix.join("lib/dmtcp").join(build_id(core)?);
    for program in &programs {
        put(program, &prefix.join("bin"), 0o755)?;
    }
    for library in &libraries {
        put(library, &library_directory, 0o755)?;
    }
    for (from, to) in [("include", "include"), ("docs/man", "share/man/man1"), ("restart/gdb", "share/dmtcp/gdb")] {
        for file in fs::read_dir(root().join(from)).into_iter().flatten().flatten() {
            put(&file.path(), &prefix.join(to), 0o644)?;
        }
    }
    put(&root().join("examples/python/dmtcp.py"), &prefix.join("share/dmtcp/python"), 0o644)?;
    Ok(format!("Installed {} programs and {} libraries below {}.", programs.len(), libraries.len(), prefix.display()))
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
