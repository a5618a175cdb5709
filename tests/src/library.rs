//! Libraries that cases load into programs: plugins of the build that is under test, and what is compiled for one case.

use crate::examples::compile;
use crate::scenario::Scenario;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// Compile a shared library out of a text in C; warnings are errors.
pub fn c_library(s: &Scenario, name: &str, text: &str, flags: &[&str]) -> Result<String> {
    let source = s.path(&format!("{name}.c"));
    fs::write(&source, text)?;
    let mut compiler = vec!["gcc", "-std=gnu99", "-Wall", "-Wextra", "-shared", "-fPIC"];
    compiler.extend(flags);
    Ok(compile(s, &compiler, &source, &format!("{name}.so"))?.display().to_string())
}

/// Where the build that is under test is.
pub fn build_directory() -> Result<PathBuf> {
    match std::env::var_os("DMTCP_TEST_BIN") {
        Some(directory) => Ok(PathBuf::from(directory)),
        None => Ok(std::env::current_exe()?.ancestors().nth(3).context("not in a target directory")?.join("release")),
    }
}

/// A library of the build that is under test, copied to where every user reaches it.
pub fn built(s: &Scenario, file: &str) -> Result<String> {
    let path = s.path(file);
    fs::copy(build_directory()?.join(file), &path).with_context(|| format!("{file} was not built"))?;
    Ok(path.display().to_string())
}
