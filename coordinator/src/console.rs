//! The person at the console: lines on stdin, answers on stdout.
//!
//! stdin is shared with others (a shell's terminal), so it stays in blocking mode: it is read only when the kernel says
//! that a read will not wait. A coordinator in the background does not read at all, which would stop it.

use dmtcp_launcher::{report, say};
use dmtcp_protocol::message::{Command, Outcome, Worker};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat, major, minor};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

/// Longest line that anybody types.
const MOST: usize = 4096;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A command as programs send it.
    Command(Command),
    /// The hosts and how many processes each has.
    Hosts,
    /// The list of commands.
    Help,
    /// Nothing.
    Empty,
    /// It means nothing.
    Unknown(String),
}

/// What the commands are.
pub const HELP: &str = "Commands:
  l, t   list the processes          s      status
  c      checkpoint                  bc     checkpoint, wait until it is complete
  ck, kc, K, Kc   checkpoint, then end all processes
  i N    checkpoint every N seconds by itself; 0: never
  k      end all processes           q      end all processes and the coordinator
  u      hosts                       h, ?   this text";

/// What a typed line asks for.
pub fn understand(line: &str) -> Line {
    let mut words = line.split_whitespace();
    let Some(word) = words.next() else { return Line::Empty };
    let checkpoint = |wait, kill| Line::Command(Command::Checkpoint { wait, kill });
    match (word, words.next()) {
        ("l" | "t", None) => Line::Command(Command::List),
        ("s", None) => Line::Command(Command::Status),
        ("c", None) => checkpoint(false, false),
        ("bc", None) => checkpoint(true, false),
        ("ck" | "kc" | "K" | "Kc", None) => checkpoint(true, true),
        ("k", None) => Line::Command(Command::Kill),
        ("q", None) => Line::Command(Command::Quit),
        ("u", None) => Line::Hosts,
        ("h" | "?", None) => Line::Help,
        ("i", Some(number)) => match number.parse() {
            Ok(seconds) => Line::Command(Command::Interval(seconds)),
            Err(_) => Line::Unknown(line.trim().into()),
        },
        _ => Line::Unknown(line.trim().into()),
    }
}

/// stdin, as far as it has been read.
pub struct Console {
    input: io::Stdin,
    received: Vec<u8>,
    prompt: bool,
}

impl Console {
    /// The console, unless stdin is closed or a device that nobody types on.
    pub fn open() -> Option<Self> {
        let input = io::stdin();
        let status = fstat(input.as_fd()).ok()?;
        let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
        // Major number 1 are the memory devices: null, zero, full, random, urandom.
        if kind == SFlag::S_IFCHR && major(status.st_rdev) == 1 && matches!(minor(status.st_rdev), 3 | 5 | 7 | 8 | 9) {
            return None;
        }
        let prompt = input.is_terminal() && io::stdout().is_terminal();
        Some(Self { input, received: Vec::new(), prompt })
    }

    /// Shows that a line is expected.
    pub fn show_prompt(&self) {
        if self.prompt {
            say::out_at_once("dmtcp> ");
        }
    }

    /// The lines that have come, and whether more can come.
    pub fn read(&mut self) -> (Vec<Line>, bool) {
        let mut lines = Vec::new();
        let mut chunk = [0u8; 1024];
        while self.is_ready() {
            // Unbuffered: what a buffer holds, no poll tells of.
            let count = nix::unistd::read(self.input.as_fd(), &mut chunk).unwrap_or(0);
            if count == 0 {
                return (lines, false);
            }
            self.received.extend_from_slice(&chunk[..count]);
            while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                lines.push(understand(&String::from_utf8_lossy(&line)));
            }
            self.received.truncate(MOST);
        }
        (lines, true)
    }

    /// Whether a read will not wait, and is ours to make.
    fn is_ready(&self) -> bool {
        if self.input.is_terminal() {
            let foreground = nix::unistd::tcgetpgrp(self.input.as_fd());
            if foreground != Ok(nix::unistd::getpgrp()) {
                return false;
            }
        }
        let mut one = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut one, PollTimeout::ZERO), Ok(1..))
    }
}

/// Prints what came of a command.
pub fn tell(outcome: &Outcome) {
    say::out(report::outcome(outcome));
}

/// Prints the hosts and how many processes each has.
pub fn tell_hosts(workers: &[Worker]) {
    let mut hosts: BTreeMap<&str, u32> = BTreeMap::new();
    for worker in workers {
        *hosts.entry(&worker.host).or_default() += 1;
    }
    say::out("Host, number of processes");
    for (host, count) in hosts {
        say::out(format_args!("{host}, {count}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_checkpoint_that_kills() {
        for word in ["ck", "kc", "K", "Kc"] {
            assert_eq!(understand(word), Line::Command(Command::Checkpoint { wait: true, kill: true }));
        }
    }

    #[test]
    fn an_interval_needs_a_number() {
        assert_eq!(understand(" i 5 "), Line::Command(Command::Interval(5)));
        assert_eq!(understand("i"), Line::Unknown("i".into()));
        assert_eq!(understand("i x"), Line::Unknown("i x".into()));
        assert_eq!(understand("  "), Line::Empty);
    }
}
