//! The examples as tests build and run them.

use crate::library::built;
use crate::scenario::text;
use crate::{Scenario, wait};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The C that examples are written in.
pub const C99: [&str; 5] = ["gcc", "-std=gnu99", "-Wall", "-Wextra", "-pedantic"];

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Compiles a source with warnings as errors; the result is in the directory of the case.
pub fn compile(s: &Scenario, compiler: &[&str], source: &Path, output: &str) -> Result<PathBuf> {
    let path = s.path(output);
    let mut command = Command::new(compiler[0]);
    command.args(&compiler[1..]).arg("-Werror").arg("-I").arg(root().join("include")).arg(source).arg("-o").arg(&path);
    let done = command.output().with_context(|| format!("cannot run {}: apt-get install gcc g++", compiler[0]))?;
    ensure!(done.status.success(), "{command:?}: {}", text(&done));
    Ok(path)
}

/// An example in C++, as a program.
pub fn cxx_example(s: &Scenario, name: &str) -> Result<PathBuf> {
    let compiler = ["g++", "-std=c++11", "-Wall", "-Wextra", "-pedantic"];
    compile(s, &compiler, &root().join(format!("examples/cpp/{name}.cpp")), name)
}

/// An example in C, as a program.
pub fn example(s: &Scenario, name: &str) -> Result<PathBuf> {
    compile(s, &C99, &root().join(format!("examples/c/{name}.c")), name)
}

/// An example plugin in C.
pub fn c_plugin(s: &Scenario, name: &str) -> Result<String> {
    let compiler: Vec<&str> = C99.iter().copied().chain(["-shared", "-fPIC"]).collect();
    let path = compile(s, &compiler, &root().join(format!("examples/c/{name}.c")), &format!("{name}.so"))?;
    Ok(path.display().to_string())
}

/// An example plugin in Rust, from the build that is under test.
pub fn rust_plugin(s: &Scenario, name: &str) -> Result<String> {
    built(s, &format!("libexample_{name}.so"))
}

/// Launches a program other than the case's.
pub fn launch(s: &mut Scenario, options: &[&str], program: &[&str]) -> Result<()> {
    let (port, images) = (s.port()?, s.image_directory().to_path_buf());
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--ckptdir"]).arg(images).args(options).args(program);
    s.launch_command(command)
}

/// Waits until the program has printed a line that contains a text; everything that it has printed.
pub fn see(s: &Scenario, what: &str) -> Result<String> {
    wait::until(30, &format!("the program to print '{what}'"), || {
        let said = String::from_utf8_lossy(&fs::read(s.output_file())?).into_owned();
        Ok(said.contains(what).then_some(said))
    })
}
