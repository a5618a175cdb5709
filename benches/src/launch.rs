//! Launch of `true`, against executing it.

use crate::Options;
use crate::machine::Machine;
use crate::session::Session;
use crate::table::{Table, Times};
use anyhow::{Result, ensure};
use std::process::Command;
use std::time::Instant;

/// Seconds from the start of a command to its end.
pub fn time(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{command:?}: {status}");
    Ok(took)
}

/// What loads the plugins that come with us and are not loaded without being asked for.
const ALL_PLUGINS: [&str; 3] = ["--modify-env", "--pathvirt", "--enable-unique-checkpoint-filenames"];

/// A coordinator runs; the program does nothing.
pub fn run(options: &Options, _: &Machine) -> Result<Table> {
    let mut table = Table::new("Launch (a coordinator runs)");
    let session = Session::new(&options.images)?;
    let (mut native, mut ours, mut all) = (Times::default(), Times::default(), Times::default());
    let (mut native_loop, mut our_loop) = (Times::default(), Times::default());
    const COUNT: u32 = 500;
    let script = format!("i=0; while [ $i -lt {COUNT} ]; do /bin/true; i=$((i+1)); done");
    for _ in 0..options.rounds * 10 {
        native.add(time(&mut Command::new("/bin/true"))?);
        ours.add(time(session.launch()?.arg("/bin/true"))?);
        all.add(time(session.launch()?.args(ALL_PLUGINS).arg("/bin/true"))?);
    }
    table.compare("true", &native, &ours, "<= 3 ms");
    table.compare("true, with all our plugins", &native, &all, "<= 3 ms");
    let mut children = || -> Result<()> {
        for _ in 0..options.rounds {
            native_loop.add(time(Command::new("/bin/sh").args(["-c", &script]))? / f64::from(COUNT));
            our_loop.add(time(session.launch()?.args(["/bin/sh", "-c", &script]))? / f64::from(COUNT));
        }
        Ok(())
    };
    match children() {
        Ok(()) => table.compare("fork+exec in a shell loop", &native_loop, &our_loop, "<= 1.5x"),
        Err(error) => table.value("fork+exec in a shell loop", format!("failed: {error:#}"), "<= 1.5x"),
    }
    Ok(table)
}
