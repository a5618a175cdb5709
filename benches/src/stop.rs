//! How long a checkpoint holds a program with 1 to 256 threads and next to no memory.
//!
//! The stop itself is what the coordinator reports. The pause is seen from inside: a thread that reads the clock all
//! the time tells the longest gap. That is the stop, the description and the writing of a small image.

use crate::Options;
use crate::machine::Machine;
use crate::session::{Session, compile};
use crate::table::{Table, Times};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// All numbers of threads.
pub fn run(options: &Options, _: &Machine) -> Result<Table> {
    let mut table = Table::new("Stop, and pause seen by the program (a small image is written meanwhile)");
    let program = compile("pause.c")?;
    for threads in [1, 4, 16, 64, 256] {
        let mut session = Session::new(&options.images)?;
        let mut command = session.launch()?;
        command.arg(&program).arg(threads.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = session.start(&mut command)?;
        let mut input = child.stdin.take().context("no pipe")?;
        let mut output = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        output.next().context("the program has ended")??;
        let mut pause = || -> Result<f64> {
            input.write_all(b"?")?;
            let line = output.next().context("the program has ended")??;
            Ok(line.trim_start_matches("pause ").parse::<f64>()? * 1e-9)
        };
        let (mut stop, mut held, mut command) = (Times::default(), Times::default(), Times::default());
        pause()?;
        for _ in 0..options.rounds {
            command.add(session.checkpoint()?);
            stop.add(session.stop()?);
            held.add(pause()?);
        }
        table.alone(&format!("{threads} threads: stop"), &stop, if threads == 256 { "<= 20 ms" } else { "" });
        table.alone(&format!("{threads} threads: pause"), &held, "");
        table.alone(&format!("{threads} threads: dmtcp_command bc"), &command, "");
    }
    Ok(table)
}
