//! Cost per call while nothing is checkpointed: a program that measures itself, with and without us, in turns.

use crate::Options;
use crate::machine::Machine;
use crate::session::{Session, compile};
use crate::table::{Table, Times};
use anyhow::{Result, ensure};
use std::process::{Command, Stdio};

/// The calls that we should not touch at all.
const FREE: &str = "<= 1.05x";

/// Lines `NAME NANOSECONDS` of one run.
pub fn measure(command: &mut Command) -> Result<Vec<(String, f64)>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line =
        |x: &str| x.rsplit_once(' ').and_then(|(name, ns)| Some((name.to_string(), ns.parse::<f64>().ok()? * 1e-9)));
    Ok(text.lines().filter_map(line).collect())
}

/// All calls.
pub fn run(options: &Options, _: &Machine) -> Result<Table> {
    let mut table = Table::new("Cost per call");
    let program = compile("calls.c")?;
    let session = Session::new(&options.images)?;
    for (what, rounds) in [("calls", options.rounds.min(5)), ("fork", options.rounds.min(3))] {
        let mut rows: Vec<(String, Times, Times)> = Vec::new();
        let mut turns = || -> Result<()> {
            for _ in 0..rounds {
                let native = measure(Command::new(&program).arg(what))?;
                let ours = measure(session.launch()?.arg(&program).arg(what))?;
                for ((name, native), (_, ours)) in native.into_iter().zip(ours) {
                    if !rows.iter().any(|x| x.0 == name) {
                        rows.push((name.clone(), Times::default(), Times::default()));
                    }
                    for row in rows.iter_mut().filter(|x| x.0 == name) {
                        row.1.add(native);
                        row.2.add(ours);
                    }
                }
            }
            Ok(())
        };
        if let Err(error) = turns() {
            table.value(what, format!("failed: {error:#}"), "");
            continue;
        }
        for (name, native, ours) in &rows {
            let budget = match name.as_str() {
                "pthread_create+join" | "mmap+munmap" | "getpid" => "",
                "fork+wait" => "<= 3x",
                "posix_spawn+wait of true" => "<= 1.5x",
                _ => FREE,
            };
            table.compare(name, native, ours, budget);
        }
    }
    Ok(table)
}
