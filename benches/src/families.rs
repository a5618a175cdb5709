//! Checkpoint and restart of families of small processes: what each process costs, which should not depend on how many
//! there are.

use crate::Options;
use crate::images::first_output;
use crate::machine::Machine;
use crate::session::{Session, compile};
use crate::table::{Table, Times, duration};
use anyhow::{Context, Result};
use std::path::Path;

/// How many processes.
const COUNTS: [usize; 4] = [1, 10, 100, 200];

/// All numbers of processes.
pub fn run(options: &Options, machine: &Machine) -> Result<Table> {
    let mut table = Table::new(&format!("Families of small processes, images in {}", options.images.display()));
    let program = compile("family.c")?;
    for count in COUNTS {
        if let Err(error) = measure(count, options, machine, &program, &mut table) {
            table.value(&format!("{count} processes"), format!("FAILED: {error:#}"), "");
        }
    }
    Ok(table)
}

/// One of them.
fn measure(count: usize, options: &Options, machine: &Machine, program: &Path, table: &mut Table) -> Result<()> {
    let mut session = Session::new(&options.images)?;
    let mut launch = session.launch()?;
    launch.arg(program).arg(count.to_string());
    first_output(&mut session, launch).context("launch")?;
    session.await_processes(count)?;
    let rounds = if count > 10 { options.rounds.min(3) } else { options.rounds };
    let (mut written, mut native, mut back) = (Times::default(), Times::default(), Times::default());
    for _ in 0..rounds {
        written.add(session.checkpoint()?);
    }
    native.add(session.stored()? / machine.pwrite);
    for _ in 0..rounds {
        session.kill()?;
        let restart = session.restart(&[])?;
        back.add(first_output(&mut session, restart).context("restart")?);
        session.await_processes(count)?;
    }
    let budget = if count == 200 { "<= 400 ms" } else { "" };
    table.compare(&format!("{count} processes: bc (native: pwrite of their bytes)"), &native, &written, budget);
    table.value(&format!("{count} processes: bc, each"), duration(written.least() / count as f64), "");
    table.alone(&format!("{count} processes: restart"), &back, "");
    table.value(&format!("{count} processes: restart, each"), duration(back.least() / count as f64), "");
    Ok(())
}
