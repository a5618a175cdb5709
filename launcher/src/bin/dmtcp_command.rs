//! dmtcp_command: asks a coordinator for something, and tells what came of it.
//!
//! Exit codes: 0 done; 1 wrong use; 2 it did not work (no coordinator, nothing running, a failed checkpoint).

use clap::{ArgAction, CommandFactory, Parser};
use dmtcp_launcher::client::{self, ANSWER};
use dmtcp_launcher::command_line::{self, Request};
use dmtcp_launcher::{flags, generate, key, progress, report, say};
use dmtcp_protocol::env;
use dmtcp_protocol::message::{Command, Outcome};
use std::io::IsTerminal;
use std::time::Duration;

const PROGRAM: &str = "dmtcp_command";
/// Wrong use.
const USAGE: i32 = 1;
/// It did not work.
const FAILED: i32 = 2;
/// How long a checkpoint may be silent: longer than the coordinator waits for any process.
const CHECKPOINT: Duration = Duration::from_secs(3600);

/// Asks a coordinator for something.
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version, disable_help_flag = true, after_help = command_line::HELP)]
struct Args {
    /// Host that the coordinator runs on [env: DMTCP_COORD_HOST] [default: localhost]
    #[arg(short = 'h', long, visible_alias = "host", value_name = "HOST")]
    coord_host: Option<String>,
    /// Port of the coordinator [env: DMTCP_COORD_PORT] [default: 7779]
    #[arg(short = 'p', long, visible_alias = "port", value_name = "PORT")]
    coord_port: Option<u16>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// What to ask; of several commands only the last counts
    #[arg(value_name = "COMMAND", required = true)]
    words: Vec<String>,
}

fn main() {
    generate::answer(Args::command);
    let words = command_line::without_dashes(std::env::args().skip(1));
    let args = Args::try_parse_from([PROGRAM.into()].into_iter().chain(words)).unwrap_or_else(|error| {
        // Nothing can be done when stdout or stderr is closed; the exit code still tells.
        let _ = error.print();
        std::process::exit(if error.use_stderr() { USAGE } else { 0 })
    });
    let command = match command_line::last(&args.words) {
        Ok(Request::Command(command)) => command,
        Ok(Request::Help) => {
            say::out(command_line::HELP);
            std::process::exit(0)
        }
        Err(error) => {
            if args.json {
                say::out(command_line::invalid_json(&args.words, &error));
            }
            say::err(format_args!("{PROGRAM}: {error}; try {PROGRAM} --help"));
            std::process::exit(USAGE)
        }
    };
    let host = args.coord_host.or_else(|| flags::text(&[env::COORD_HOST, "DMTCP_HOST"])).unwrap_or("localhost".into());
    let port = args
        .coord_port
        .or_else(|| flags::number(PROGRAM, &[env::COORD_PORT, "DMTCP_PORT"]))
        .unwrap_or(env::DEFAULT_PORT);
    let answer = ask(&host, port, command);
    if args.json {
        say::out(command_line::json(command, &host, port, &answer));
    }
    let code = match &answer {
        Ok(Outcome::NotRunning | Outcome::Failed(_)) | Err(_) => FAILED,
        Ok(_) => 0,
    };
    match answer {
        _ if args.json => {}
        Err(error) => say::err(format_args!("{PROGRAM}: {error}")),
        Ok(outcome @ (Outcome::NotRunning | Outcome::Failed(_))) => {
            say::err(format_args!("{PROGRAM}: {}", report::outcome(&outcome)));
        }
        Ok(Outcome::Done { generation: None, .. }) => {}
        Ok(outcome) => say::out(report::outcome(&outcome)),
    }
    std::process::exit(code)
}

fn ask(host: &str, port: u16, command: Command) -> Result<Outcome, Box<dyn std::error::Error>> {
    let key = key::load_or_create(None)?;
    let mut connection = client::connect(host, port, &key.key, None)?;
    let waits = matches!(command, Command::Checkpoint { wait: true, .. });
    let limit = if waits { CHECKPOINT } else { ANSWER };
    let bar = waits && std::io::stderr().is_terminal();
    let mut shown = false;
    let outcome = connection.command(command, limit, |done, total| {
        if bar && total > 0 {
            shown = true;
            say::err_at_once(progress::line("writing images", done, total));
        }
    });
    if shown {
        say::err_at_once(progress::CLEAR);
    }
    Ok(outcome?)
}
