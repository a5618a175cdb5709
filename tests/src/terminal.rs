//! A terminal that a case types at and reads from: a pseudo-terminal whose other side is the programs' controlling one.

use crate::identity::RunAs;
use crate::wait;
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Who starts a command on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartedBy {
    /// A shell that waits for it: the command is no leader of the session, and not alone in it.
    Script,
    /// The terminal itself: the command leads the session.
    Terminal,
    /// An interactive shell, with the prompt `OUTER> `, at which it is typed: it is a job of that.
    Shell,
}

/// The prompt of the shell at which commands are typed.
const PROMPT: &str = "OUTER> ";

/// A terminal.
pub struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    seen: usize,
}

impl Terminal {
    /// Makes one, and a command that starts `command` in a session on it. What is shown also goes to `log`.
    pub fn open(run_as: RunAs, by: StartedBy, command: &Command, mut log: File) -> Result<(Terminal, Command)> {
        let pair = openpty(None, None).context("no pseudo-terminal")?;
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        let user = run_as.user_id();
        nix::unistd::fchown(&pair.slave, user.map(nix::unistd::Uid::from_raw), None)?;
        let keyboard = File::from(pair.master);
        let mut screen = keyboard.try_clone()?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with an error when nobody has the other side any more.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let _ = log.write_all(&bytes[..count]);
                if let Ok(mut shown) = kept.lock() {
                    shown.extend_from_slice(&bytes[..count]);
                }
            }
        });
        let mut session = Command::new("/usr/bin/setsid");
        session.args(["--ctty", "--wait"]).env_clear();
        session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        match by {
            StartedBy::Script => session.args(["/bin/sh", "-c", "\"$@\"; exit $?", "sh"]),
            StartedBy::Terminal => &mut session,
            StartedBy::Shell => {
                let shell = ["/bin/bash", "--norc", "--noprofile", "-i"];
                session.args(shell).env("PS1", PROMPT).env("HISTFILE", "/dev/null")
            }
        };
        if by != StartedBy::Shell {
            session.arg(command.get_program()).args(command.get_args());
        }
        if let Some(directory) = command.get_current_dir() {
            session.current_dir(directory);
        }
        run_as.apply(&mut session);
        let end = |slave: &OwnedFd| slave.try_clone();
        session.stdin(end(&pair.slave)?).stdout(end(&pair.slave)?).stderr(pair.slave);
        Ok((Terminal { keyboard, shown, seen: 0 }, session))
    }

    /// Types a command at the prompt of the shell.
    pub fn command(&mut self, command: &Command) -> Result<()> {
        self.shows(PROMPT)?;
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().replace('\'', "'\\''")).collect();
        self.keys(&format!("'{}'\n", words.join("' '")))
    }

    /// Types.
    pub fn keys(&mut self, text: &str) -> Result<()> {
        Ok(self.keyboard.write_all(text.as_bytes())?)
    }

    /// Waits until a text is shown, behind what was waited for before.
    pub fn shows(&mut self, text: &str) -> Result<()> {
        let from = self.seen;
        let found = wait::until(30, &format!("the terminal to show '{text}'"), || {
            let Ok(shown) = self.shown.lock() else { return Ok(None) };
            let rest = shown.get(from..).unwrap_or_default();
            Ok(rest.windows(text.len()).position(|window| window == text.as_bytes()))
        });
        let shown = self.shown.lock().map(|shown| String::from_utf8_lossy(&shown[from..]).into_owned());
        self.seen = from + text.len() + found.with_context(|| format!("it shows: {}", shown.unwrap_or_default()))?;
        Ok(())
    }
}
