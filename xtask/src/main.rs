//! Tasks of this repository: `cargo xtask demo | test | bench | install | oldest-libc | other-kernel`.
//!
//! Each task builds what it needs first. All of them print what they do and end with one plain line; the exit status
//! says the same.

mod chroot;
mod counting;
mod demo;
mod distro;
mod install;
mod oldest_libc;
mod other_kernel;
mod packages;
mod suite;
mod workspace;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, show, test, measure and install this project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the main job: checkpoint, SIGKILL and restart of a threaded Python program, twice
    Demo,
    /// Install what the tests need, build, and run the tests: a sample that takes minutes
    Test {
        /// Run every test, not the sample
        #[arg(long)]
        full: bool,
        /// Under the libc and with the programs of this release of Debian: bullseye, trixie, sid, ...
        #[arg(long, value_name = "SUITE")]
        distro: Option<String>,
        /// Without these features of the kernel (see DMTCP_FORBID): the ways around them must do
        #[arg(long, value_name = "FEATURE,...", value_delimiter = ',', value_parser = dmtcp_protocol::env::FEATURES)]
        forbid: Vec<String>,
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Measure against no tool at all; prints ratios
    Bench {
        /// Arguments of the benchmark program
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install programs, libraries, header, man pages and completions
    Install {
        /// Where bin/, lib/, include/ and share/ are
        #[arg(long, default_value = "/usr/local")]
        prefix: PathBuf,
        /// Install what was built into this directory, instead of building it
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Check that the libraries run on the oldest libc: symbol versions, and tests in a Debian bullseye chroot
    OldestLibc,
    /// Check that images travel between this kernel and Debian's, in a virtual machine and back
    OtherKernel,
    /// One leg of that journey, on the machine that it is called on
    #[command(hide = true)]
    Leg {
        /// What both machines share
        share: PathBuf,
        /// First see an image refused for the processor's missing features
        #[arg(long)]
        refused: bool,
        /// See the program end instead of checkpointing it
        #[arg(long)]
        last: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Demo => demo::run(),
        Task::Test { full, distro, forbid, filter } => suite::test(&suite::Choice { full, distro, forbid, filter }),
        Task::Bench { arguments } => suite::bench(&arguments),
        Task::Install { prefix, from } => install::run(&prefix, from.as_deref()),
        Task::OldestLibc => oldest_libc::run(),
        Task::OtherKernel => other_kernel::run(),
        Task::Leg { share, refused, last } => other_kernel::leg_here(&share, refused, last),
    };
    match outcome {
        Ok(closing) => {
            println!("{closing}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}
