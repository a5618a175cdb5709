//! Checkpoint and restart of a small and of a large process: times and sizes.

use crate::Options;
use crate::machine::Machine;
use crate::session::{Session, compile};
use crate::table::{Table, Times};
use anyhow::{Context, Result};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Read what the program writes, so that it never waits for us.
fn drain(child: &mut Child) -> Result<()> {
    let mut output = child.stdout.take().context("no pipe")?;
    std::thread::spawn(move || {
        let mut bytes = [0u8; 4096];
        while output.read(&mut bytes).is_ok_and(|n| n > 0) {}
    });
    Ok(())
}

/// Start a command; how long until its first byte.
pub fn first_output(session: &mut Session, mut command: Command) -> Result<f64> {
    command.stdout(Stdio::piped());
    let start = Instant::now();
    let child = session.start(&mut command)?;
    let mut byte = [0u8];
    child
        .stdout
        .as_mut()
        .context("no pipe")?
        .read_exact(&mut byte)
        .context("the program ended before its first output")?;
    let took = start.elapsed().as_secs_f64();
    drain(child)?;
    Ok(took)
}

struct Subject {
    name: String,
    arguments: [String; 2],
    rounds: usize,
    checkpoint: &'static str,
    eager: &'static str,
    lazy: &'static str,
    size: &'static str,
}

/// All sizes and contents.
pub fn run(options: &Options, machine: &Machine) -> Result<Table> {
    let mut table = Table::new(&format!("Checkpoint and restart, images in {}", options.images.display()));
    let program = compile("memory.c")?;
    let large = options.large;
    let subject = |mib: usize, kind: &str| Subject {
        name: format!("{mib} MiB {kind}"),
        arguments: [mib.to_string(), kind.to_string()],
        rounds: if mib > 64 { options.rounds.min(3) } else { options.rounds },
        checkpoint: if mib > 64 { ">= 90 % of pwrite" } else { "<= 15 ms" },
        eager: if mib > 64 { "<= 600 ms per GiB" } else { "<= 15 ms" },
        lazy: "<= 20 ms",
        size: if mib > 64 { "zero pages take no space" } else { "<= 5 MB" },
    };
    for s in [subject(1, "random"), subject(large, "random"), subject(large, "half")] {
        if let Err(error) = measure(&s, options, machine, &program, &mut table) {
            table.value(&s.name, format!("FAILED: {error:#}"), "");
        }
    }
    Ok(table)
}

/// One of them.
fn measure(s: &Subject, options: &Options, machine: &Machine, program: &Path, table: &mut Table) -> Result<()> {
    let mut session = Session::new(&options.images)?;
    let mut launch = session.launch()?;
    launch.arg(program).args(&s.arguments);
    first_output(&mut session, launch).context("launch")?;
    let (mut written, mut eager, mut lazy) = (Times::default(), Times::default(), Times::default());
    for _ in 0..s.rounds {
        written.add(session.checkpoint()?);
    }
    let stored = session.stored()?;
    let native = |rate: f64| {
        let mut times = Times::default();
        times.add(stored / rate);
        times
    };
    table.compare(
        &format!("{}: bc (native: pwrite of its bytes)", s.name),
        &native(machine.pwrite),
        &written,
        s.checkpoint,
    );
    table.value(&format!("{}: image on disk", s.name), format!("{:.1} MB", stored / 1e6), s.size);
    for (flags, times) in [(&[][..], &mut eager), (&["--lazy"][..], &mut lazy)] {
        for _ in 0..s.rounds {
            session.kill()?;
            let restart = session.restart(flags)?;
            times.add(first_output(&mut session, restart).with_context(|| format!("restart {flags:?}"))?);
        }
    }
    let what = format!("{}: restart (native: copy to fresh memory)", s.name);
    table.compare(&what, &native(machine.fresh), &eager, s.eager);
    table.alone(&format!("{}: restart --lazy", s.name), &lazy, s.lazy);
    Ok(())
}
