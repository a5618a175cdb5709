//! Benchmarks: what launching, running, checkpointing and restarting cost, against no tool at all.
//!
//! Everything is measured in one run on one machine, ours and the native way in turns, so that the ratios mean
//! something even where the absolute numbers do not. The budgets beside them are the project's promises.

mod calls;
mod families;
mod images;
mod launch;
mod layers;
mod machine;
mod session;
mod stop;
mod table;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to measure.
#[derive(Parser)]
#[command(about = "Measure launching, running, checkpointing and restarting against no tool at all")]
pub struct Options {
    /// Rounds of each measurement
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Size of the large process, in MiB
    #[arg(long, default_value_t = 1024)]
    large: usize,
    /// Directory for images [default: /dev/shm]
    #[arg(long, default_value = "/dev/shm")]
    images: PathBuf,
    /// Only sections whose name contains this: launch, calls, plugins, stop, images, families
    #[arg(long, default_value = "")]
    only: String,
}

type Section = fn(&Options, &machine::Machine) -> anyhow::Result<table::Table>;

fn main() -> ExitCode {
    let options = Options::parse();
    let machine = match machine::Machine::measure(&options.images) {
        Ok(machine) => machine,
        Err(error) => {
            eprintln!("cannot measure this machine: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    println!("{machine}");
    let sections: [(&str, Section); 6] = [
        ("launch", launch::run),
        ("calls", calls::run),
        ("plugins", layers::run),
        ("stop", stop::run),
        ("images", images::run),
        ("families", families::run),
    ];
    let mut good = true;
    for (name, section) in sections.into_iter().filter(|x| x.0.contains(&options.only)) {
        match section(&options, &machine) {
            Ok(table) => println!("{table}"),
            Err(error) => {
                println!("{name}: FAILED: {error:#}\n");
                good = false;
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
