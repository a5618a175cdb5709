//! What plugins cost: a call through none, one and eight wrappers, and the start of a program with as many plugins.

use crate::Options;
use crate::calls::measure;
use crate::launch::time;
use crate::machine::Machine;
use crate::session::{Session, compile_with};
use crate::table::{Table, Times, duration};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many plugins are stacked.
const COUNTS: [usize; 3] = [0, 1, 8];
/// What the copies of the plugin differ in.
const NAME: &[u8] = b"bench-layer-0\0";

/// Copies of the plugin, each with a name of its own.
fn layers(directory: &Path) -> Result<Vec<PathBuf>> {
    let built = std::env::current_exe()?.with_file_name("libbench_layer.so");
    let original = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let at: Vec<usize> =
        (0..original.len().saturating_sub(NAME.len())).filter(|at| original[*at..].starts_with(NAME)).collect();
    ensure!(!at.is_empty(), "{} does not contain its name", built.display());
    let copy = |digit: usize| {
        let mut bytes = original.clone();
        for start in &at {
            bytes[start + NAME.len() - 2] = b'0' + digit as u8;
        }
        let path = directory.join(format!("layer{digit}.so"));
        fs::write(&path, bytes)?;
        Ok(path)
    };
    (0..COUNTS[2]).map(copy).collect()
}

/// Calls and starts.
pub fn run(options: &Options, _: &Machine) -> Result<Table> {
    let mut table = Table::new("Plugins (a call of a function that does nothing; the start of true)");
    let library = compile_with("layered.c", "liblayered.so", &["-DLIBRARY", "-shared", "-fPIC"])?;
    let directory = library.parent().context("no directory")?;
    let origin = format!("-Wl,-rpath,{}", directory.display());
    let program = compile_with("layered.c", "layered", &[&library.display().to_string(), &origin])?;
    let layers: Vec<String> = layers(directory)?.iter().map(|path| path.display().to_string()).collect();
    let session = Session::new(&options.images)?;
    let launch = |count: usize| -> Result<Command> {
        let mut command = session.launch()?;
        if count > 0 {
            command.args(["--with-plugin", &layers[..count].join(":")]);
        }
        Ok(command)
    };
    let mut native = Times::default();
    let mut calls = COUNTS.map(|_| Times::default());
    let mut starts = COUNTS.map(|_| Times::default());
    for _ in 0..options.rounds.min(5) {
        native.add(call(&mut Command::new(&program))?);
        for (count, times) in COUNTS.iter().zip(&mut calls) {
            times.add(call(launch(*count)?.arg(&program))?);
        }
    }
    for _ in 0..options.rounds * 5 {
        for (count, times) in COUNTS.iter().zip(&mut starts) {
            times.add(time(launch(*count)?.arg("/bin/true"))?);
        }
    }
    for (count, times) in COUNTS.iter().zip(&calls) {
        table.compare(&format!("call, {count} wrappers"), &native, times, if *count == 0 { "<= 1.05x" } else { "" });
    }
    for (count, times) in COUNTS.iter().zip(&starts).skip(1) {
        table.compare(&format!("start, {count} more than ours"), &starts[0], times, "");
    }
    let each = (starts[2].least() - starts[0].least()) / COUNTS[2] as f64;
    table.value("start, each plugin", duration(each), "");
    Ok(table)
}

/// Seconds of one call.
fn call(command: &mut Command) -> Result<f64> {
    Ok(measure(command)?.first().context("the program has measured nothing")?.1)
}
