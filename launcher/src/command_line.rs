//! What dmtcp_command understands, and how it answers programs.

use crate::report;
use dmtcp_protocol::message::{Command, Outcome};
use serde_json::{Value, json};
use std::error::Error;

/// The commands, for people.
pub const HELP: &str = "\
Commands (dashes before them mean nothing):
  s, status                       how things stand
  l, t, list                      the processes
  c, checkpoint                   start a checkpoint
  bc, bcheckpoint                 checkpoint; return when it is complete
  kc, ck, K, Kc, kcheckpoint      checkpoint, then end all processes
  i, interval SECONDS             checkpoint by itself every so many seconds; 0: never
  k, kill                         end all processes
  q, quit                         end all processes and the coordinator
  h, help, ?                      this list

Exit status: 0: done; 1: wrong use; 2: it did not work.";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Something that the coordinator does.
    Command(Command),
    /// The list of commands.
    Help,
}

/// The options with their values as they are, then the commands without their dashes.
pub fn without_dashes(words: impl Iterator<Item = String>) -> Vec<String> {
    let (mut options, mut commands) = (Vec::new(), Vec::new());
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        // The word behind is a number, dash or not.
        if let bare @ ("i" | "interval") = word.trim_start_matches('-') {
            commands.push(bare.into());
            commands.extend(words.next());
            continue;
        }
        match word.as_str() {
            "-h" | "-p" | "--coord-host" | "--host" | "--coord-port" | "--port" => {
                options.push(word);
                options.extend(words.next());
            }
            "--json" | "--help" | "--version" => options.push(word),
            _ if ["--coord-host=", "--host=", "--coord-port=", "--port="]
                .iter()
                .any(|start| word.starts_with(start)) =>
            {
                options.push(word);
            }
            _ if is_number(word.strip_prefix("-p")) => options.push(word),
            _ => {
                let bare = word.trim_start_matches('-');
                match bare.strip_prefix("interval=").or(bare.strip_prefix('i').filter(|rest| is_number(Some(*rest)))) {
                    Some(number) => commands.extend(["i".into(), number.into()]),
                    None => commands.push(bare.into()),
                }
            }
        }
    }
    options.push("--".into());
    options.extend(commands);
    options
}

/// The last command of a line; the error says which word is none.
pub fn last(words: &[String]) -> Result<Request, String> {
    let mut request = Err(String::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let checkpoint = |wait, kill| Request::Command(Command::Checkpoint { wait, kill });
        request = Ok(match word.as_str() {
            "s" | "status" => Request::Command(Command::Status),
            "l" | "t" | "list" => Request::Command(Command::List),
            "c" | "checkpoint" => checkpoint(false, false),
            "bc" | "bcheckpoint" => checkpoint(true, false),
            "kc" | "ck" | "K" | "Kc" | "kcheckpoint" => checkpoint(true, true),
            "k" | "kill" => Request::Command(Command::Kill),
            "q" | "quit" => Request::Command(Command::Quit),
            "h" | "help" | "?" => Request::Help,
            "i" | "interval" => {
                let number = words.next().map_or("", String::as_str);
                let seconds = number.parse().map_err(|_| {
                    format!("'{word}' wants a number of seconds, 0 or more (at most {}), not '{number}'", u32::MAX)
                })?;
                Request::Command(Command::Interval(seconds))
            }
            _ => return Err(format!("'{word}' is not a command")),
        });
    }
    request
}

/// The answer for a program that asked for something that is no command, which the error says.
pub fn invalid_json(words: &[String], error: &str) -> String {
    let command = words.join(" ");
    json!({ "schema_version": 1, "command": command, "command_status": "DMT_COORD_INVALID_COMMAND", "error": error })
        .to_string()
}

/// The answer for a program.
pub fn json(command: Command, host: &str, port: u16, answer: &Result<Outcome, Box<dyn Error>>) -> String {
    let name = match command {
        Command::Status => "DMT_STATUS",
        Command::List => "DMT_LIST",
        Command::Checkpoint { kill: true, .. } => "DMT_KCHECKPOINT",
        Command::Checkpoint { wait: true, .. } => "DMT_BCHECKPOINT",
        Command::Checkpoint { .. } => "DMT_CHECKPOINT",
        Command::Kill => "DMT_KILL",
        Command::Quit => "DMT_QUIT",
        Command::Interval(_) => "DMT_INTERVAL",
    };
    let status = match answer {
        Ok(Outcome::NotRunning) => "DMT_COORD_NOT_RUNNING",
        Ok(Outcome::Failed(_)) => "DMT_COORD_FAILED",
        Ok(_) => "DMT_COORD_SUCCESS",
        Err(_) => "DMT_COORD_NOT_FOUND",
    };
    let mut object = json!({
        "schema_version": 1,
        "command": name,
        "command_status": status,
        "coordinator_host": host,
        "coordinator_port": port,
    });
    let mut add = |name: &str, value: Value| object[name] = value;
    match answer {
        Err(error) => add("error", error.to_string().into()),
        Ok(Outcome::Failed(reason)) => {
            // One sentence, then what the process that failed had logged.
            let mut lines = reason.lines();
            add("error", lines.next().unwrap_or_default().into());
            add("log", lines.skip(1).map(str::trim).collect::<Vec<_>>().into());
        }
        Ok(Outcome::NotRunning) => add("error", report::NOT_RUNNING.into()),
        Ok(Outcome::Status(shown)) => {
            add("num_peers", shown.peers.into());
            add("running", shown.running.into());
            add("checkpoint_interval", shown.interval.into());
            add("generation", shown.generation.into());
            add("checkpoint_dir", shown.checkpoint_dir.as_str().into());
            add("last_checkpoint", shown.last.as_ref().map(report::timings_json).into());
            add("restart", shown.restart.as_ref().map(report::timings_json).into());
            add("computation", shown.computation.map(|id| id.to_string()).into());
        }
        Ok(Outcome::List(workers)) => {
            add("num_peers", workers.len().into());
            add("workers", report::list(workers).into());
        }
        Ok(Outcome::Done { generation, notes }) => {
            if let Some(generation) = generation {
                add("generation", (*generation).into());
            }
            add("notes", notes.clone().into());
        }
    }
    object.to_string()
}

fn is_number(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<String> {
        without_dashes(line.split(' ').map(String::from))
    }

    #[test]
    fn dashes_before_commands_mean_nothing() {
        for line in ["bc", "-bc", "--bcheckpoint", "bcheckpoint", "--bc"] {
            let words = read(line);
            assert_eq!(
                last(&words[1..]),
                Ok(Request::Command(Command::Checkpoint { wait: true, kill: false })),
                "{line}"
            );
        }
    }

    #[test]
    fn options_may_stand_anywhere() {
        assert_eq!(read("--status -p 7 --host=x"), ["-p", "7", "--host=x", "--", "status"]);
        assert_eq!(read("-p7 -h x --json -l"), ["-p7", "-h", "x", "--json", "--", "l"]);
    }

    #[test]
    fn an_interval_has_three_spellings() {
        for line in ["-i5", "--interval 5", "--interval=5", "i 5"] {
            assert_eq!(last(&read(line)[1..]), Ok(Request::Command(Command::Interval(5))), "{line}");
        }
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for (line, number) in
            [("i", ""), ("i -1", "-1"), ("-i -1", "-1"), ("--interval=-1", "-1"), ("i 4294967296", "4294967296")]
        {
            let error = last(&read(line)[1..]).unwrap_err();
            assert!(
                error.contains("a number of seconds") && error.ends_with(&format!("not '{number}'")),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn only_the_last_counts() {
        assert_eq!(last(&["k".into(), "s".into()]), Ok(Request::Command(Command::Status)));
        assert_eq!(last(&["k".into(), "nonsense".into()]), Err("'nonsense' is not a command".into()));
    }
}
