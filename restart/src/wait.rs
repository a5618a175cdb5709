//! dmtcp_restart while the computation runs: it stands for the first processes that it brought back.
//!
//! Signals that it gets go on to them, a stop of the first one stops it too, so that the shell notices. When all of them
//! have ended, it ends as the first one did.

use crate::kernel::{self, ChildState};
use crate::namespace::{self, Message, Namespace};
use crate::terminal::Terminal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, raise, sigaction, sigprocmask,
};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpgid, getpgrp};
use std::os::fd::AsFd;

/// Who is waited for.
#[derive(Debug)]
pub enum Waited {
    /// Children of ours.
    Processes(Roots),
    /// The processes in a namespace.
    Namespace(Namespace),
}

impl Waited {
    /// The pid of the first process, as it is known here.
    pub fn first(&self) -> Option<i32> {
        match self {
            Self::Processes(roots) => Some(roots.first.as_raw()),
            Self::Namespace(namespace) => {
                let children = format!("/proc/{0}/task/{0}/children", namespace.init);
                std::fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()
            }
        }
    }
}

/// The processes whose end is waited for. The first one stands for the computation.
#[derive(Debug)]
pub struct Roots {
    first: Pid,
    left: Vec<Pid>,
    ended: Ended,
}

impl Roots {
    /// All of these; there is at least one.
    pub fn new(pids: Vec<Pid>) -> Self {
        Self { first: pids.first().copied().unwrap_or(Pid::this()), left: pids, ended: Ended::Lost }
    }

    /// Passes a signal on.
    pub fn send(&self, signal: i32) {
        if let Ok(signal) = Signal::try_from(signal) {
            for pid in &self.left {
                let _ = kill(*pid, signal);
            }
        }
    }

    /// Takes all news of children that there are.
    pub fn look(&mut self) -> Seen {
        let mut seen = Seen::Nothing;
        loop {
            match kernel::child_news(-1) {
                Ok(Some((pid, state))) => {
                    let first = pid == self.first.as_raw();
                    match state {
                        ChildState::Stopped(signal) if first => seen = Seen::Stopped(signal),
                        ChildState::Stopped(_) => continue,
                        ChildState::Exited(code) if first => self.ended = Ended::Exited(code),
                        ChildState::Killed(signal) if first => self.ended = Ended::Killed(signal),
                        ChildState::Exited(_) | ChildState::Killed(_) => {}
                    }
                    if !matches!(state, ChildState::Stopped(_)) {
                        let before = self.left.len();
                        self.left.retain(|left| left.as_raw() != pid);
                        if before > 0 && self.left.is_empty() {
                            return Seen::Ended(self.ended);
                        }
                    }
                }
                Ok(None) => return seen,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) if self.left.is_empty() => return Seen::Nobody,
                Err(_) => {
                    self.left.clear();
                    return Seen::Ended(self.ended);
                }
            }
        }
    }
}

/// What a look at the processes has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// No news.
    Nothing,
    /// This signal has stopped the first one.
    Stopped(i32),
    /// The last one that is waited for has ended; the first one ended like this.
    Ended(Ended),
    /// They had ended before, and now there is no child at all.
    Nobody,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Its namespace is gone, and it with it.
    Lost,
}

const PASSED_ON: [Signal; 9] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

/// Blocks the signals that [`until_end`] takes, before the process is there: none is lost in between.
pub fn hold_signals() -> nix::Result<SignalFd> {
    let mut mask: SigSet = PASSED_ON.into_iter().collect();
    mask.add(Signal::SIGCHLD);
    // Taking the foreground back from the background would stop us.
    mask.add(Signal::SIGTTOU);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    mask.remove(Signal::SIGTTOU);
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)
}

impl Waited {
    fn send(&self, signal: i32) {
        match self {
            Self::Processes(roots) => roots.send(signal),
            Self::Namespace(namespace) => namespace::send(namespace.control.as_fd(), Message::Signal(signal)),
        }
    }

    /// Whether the terminal's signals reach the first process without us.
    fn in_our_group(&self) -> bool {
        match self {
            Self::Processes(roots) => getpgid(Some(roots.first)) == Ok(getpgrp()),
            // Its init is a child of ours and changes no group; whether the process did cannot be seen from here.
            Self::Namespace(_) => false,
        }
    }
}

/// Waits for the end.
pub fn until_end(waited: &mut Waited, signals: &SignalFd, mut terminal: Option<Terminal>) -> Ended {
    // What happened while nobody listened has left no signal.
    let mut timeout = PollTimeout::ZERO;
    loop {
        let readable = PollFlags::POLLIN;
        let mut polled = vec![PollFd::new(signals.as_fd(), readable)];
        if let Waited::Namespace(namespace) = &*waited {
            polled.push(PollFd::new(namespace.control.as_fd(), readable));
        }
        let _ = poll(&mut polled, timeout);
        timeout = PollTimeout::NONE;
        let heard = |poll: &PollFd<'_>| poll.revents().is_some_and(|events| !events.is_empty());
        let (signal, message) = (heard(&polled[0]), polled.get(1).is_some_and(heard));
        if signal && let Ok(Some(info)) = signals.read_signal() {
            let number = info.ssi_signo as i32;
            // The shell may have given us the foreground, and only this shows it.
            if (number == libc::SIGCONT || info.ssi_code == libc::SI_KERNEL)
                && let Some(terminal) = &terminal
            {
                terminal.pass_on(waited.first());
            }
            let by_terminal = info.ssi_code == libc::SI_KERNEL && waited.in_our_group();
            if number != libc::SIGCHLD && !by_terminal {
                waited.send(number);
            }
        }
        let seen = match waited {
            Waited::Processes(roots) => roots.look(),
            Waited::Namespace(namespace) if message => match namespace::receive(namespace.control.as_fd()) {
                Some(Message::Exited(code)) => Seen::Ended(Ended::Exited(code)),
                Some(Message::Killed(signal)) => Seen::Ended(Ended::Killed(signal)),
                Some(Message::Stopped(signal)) => Seen::Stopped(signal),
                Some(_) => Seen::Nothing,
                None => Seen::Ended(Ended::Lost),
            },
            Waited::Namespace(_) => Seen::Nothing,
        };
        match seen {
            Seen::Nothing | Seen::Nobody => {}
            Seen::Stopped(signal) => stop_too(waited, signal, terminal.as_mut()),
            Seen::Ended(ended) => {
                if let Some(terminal) = &mut terminal {
                    terminal.take_back();
                }
                return ended;
            }
        }
    }
}

/// Stops as the process did; the signal that sets us going again is passed on like others. If the process only lacks the
/// terminal, and our group has been given that meanwhile, the process gets it and goes on.
fn stop_too(waited: &Waited, signal: i32, terminal: Option<&mut Terminal>) {
    match terminal {
        Some(terminal) if (signal == libc::SIGTTIN || signal == libc::SIGTTOU) && terminal.is_ours() => {
            terminal.pass_on(waited.first());
            return waited.send(libc::SIGCONT);
        }
        Some(terminal) => terminal.take_back(),
        None => {}
    }
    let _ = raise(Signal::SIGSTOP);
}

/// Ends this program as the process ended.
pub fn end_as(ended: Ended) -> ! {
    let code = match ended {
        Ended::Exited(code) => code,
        Ended::Lost => dmtcp_launcher::failure::code(),
        Ended::Killed(number) => {
            // The process has left its core, if any; ours would only hide it.
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
            if let Ok(signal) = Signal::try_from(number) {
                let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
                // SAFETY: the default action runs no code of ours.
                let _ = unsafe { sigaction(signal, &default) };
                let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from(signal)), None);
                let _ = raise(signal);
            } else {
                // SAFETY: a real-time signal, which nix has no name for; its default action ends the process.
                unsafe { libc::raise(number) };
            }
            128 + number
        }
    };
    std::process::exit(code)
}
