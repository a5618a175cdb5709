//! The programs under test: where they are.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the programs under test are: `DMTCP_TEST_BIN`, else the release build beside this test. An ordinary user
/// may not be able to reach a checkout in somebody's home; then it is copied into the directory of the case.
pub fn directory(root: &Path) -> Result<PathBuf> {
    let built = match std::env::var_os("DMTCP_TEST_BIN") {
        Some(directory) => PathBuf::from(directory),
        None => std::env::current_exe()?.ancestors().nth(3).context("not in a target directory")?.join("release"),
    };
    ensure!(
        built.join("dmtcp_launch").exists() || std::env::var_os("DMTCP_TEST_NATIVE").is_some(),
        "no dmtcp_launch in {}: build first (cargo build --release --workspace)",
        built.display()
    );
    let open = |p: &Path| fs::metadata(p).is_ok_and(|m| m.permissions().mode() & 0o005 == 0o005);
    if built.ancestors().all(open) {
        return Ok(built);
    }
    let copy = root.join("tool");
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(&built)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if (name.starts_with("dmtcp_") && !name.ends_with(".d"))
            || (name.starts_with("libdmtcp") && name.ends_with(".so"))
        {
            fs::copy(entry.path(), copy.join(&name))?;
        }
    }
    Ok(copy)
}
