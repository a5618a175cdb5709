//! dmtcp_restart while the computation runs: it stands for the process that it brought back.
//!
//! Signals that it gets go on to the process, a stop of the process stops it too, so that the shell notices, and it ends
//! as the process ends.

use crate::kernel::{self, ChildState};
use crate::namespace::{self, Message, Namespace};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, raise, sigaction, sigprocmask,
};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp};
use std::os::fd::{AsFd, BorrowedFd};

/// Who is waited for.
#[derive(Debug)]
pub enum Waited {
    /// A child of ours.
    Process(Pid),
    /// The process in a namespace.
    Namespace(Namespace),
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
            Self::Process(pid) => {
                if let Ok(signal) = Signal::try_from(signal) {
                    let _ = kill(*pid, signal);
                }
            }
            Self::Namespace(namespace) => namespace::send(namespace.control.as_fd(), Message::Signal(signal)),
        }
    }

    /// Whether the terminal's signals reach the process without us.
    fn in_our_group(&self) -> bool {
        match self {
            Self::Process(pid) => getpgid(Some(*pid)) == Ok(getpgrp()),
            // Its init is a child of ours and changes no group; whether the process did cannot be seen from here.
            Self::Namespace(_) => false,
        }
    }
}

/// What a look at the process has shown.
enum Seen {
    Nothing,
    Stopped,
    Ended(Ended),
}

/// Waits for the end. `terminal` is the one whose foreground we had.
pub fn until_end(waited: &Waited, signals: &SignalFd, terminal: Option<BorrowedFd<'_>>) -> Ended {
    loop {
        let readable = PollFlags::POLLIN;
        let mut polled = vec![PollFd::new(signals.as_fd(), readable)];
        if let Waited::Namespace(namespace) = waited {
            polled.push(PollFd::new(namespace.control.as_fd(), readable));
        }
        let _ = poll(&mut polled, PollTimeout::NONE);
        let heard = |poll: &PollFd<'_>| poll.revents().is_some_and(|events| !events.is_empty());
        let (signal, message) = (heard(&polled[0]), polled.get(1).is_some_and(heard));
        if signal && let Ok(Some(info)) = signals.read_signal() {
            let number = info.ssi_signo as i32;
            let by_terminal = info.ssi_code == libc::SI_KERNEL && waited.in_our_group();
            if number != libc::SIGCHLD && !by_terminal {
                waited.send(number);
            }
        }
        let seen = match waited {
            Waited::Process(pid) => look(*pid),
            Waited::Namespace(namespace) if message => match namespace::receive(namespace.control.as_fd()) {
                Some(Message::Exited(code)) => Seen::Ended(Ended::Exited(code)),
                Some(Message::Killed(signal)) => Seen::Ended(Ended::Killed(signal)),
                Some(Message::Stopped) => Seen::Stopped,
                Some(_) => Seen::Nothing,
                None => Seen::Ended(Ended::Lost),
            },
            Waited::Namespace(_) => Seen::Nothing,
        };
        match seen {
            Seen::Nothing => {}
            Seen::Stopped => stop_too(waited, terminal),
            Seen::Ended(ended) => {
                if let Some(terminal) = terminal {
                    let _ = tcsetpgrp(terminal, getpgrp());
                }
                return ended;
            }
        }
    }
}

fn look(pid: Pid) -> Seen {
    match kernel::child_news(pid.as_raw()) {
        Ok(Some((_, ChildState::Exited(code)))) => Seen::Ended(Ended::Exited(code)),
        Ok(Some((_, ChildState::Killed(signal)))) => Seen::Ended(Ended::Killed(signal)),
        Ok(Some((_, ChildState::Stopped))) => Seen::Stopped,
        Ok(None) => Seen::Nothing,
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Seen::Nothing,
        Err(_) => Seen::Ended(Ended::Lost),
    }
}

/// Stops as the process did, and sets it going again when we are.
fn stop_too(waited: &Waited, terminal: Option<BorrowedFd<'_>>) {
    // Nobody else has noticed the stop yet: the foreground is still the process' own, or ours.
    let foreground = terminal.and_then(|terminal| tcgetpgrp(terminal).ok());
    if let Some(terminal) = terminal {
        let _ = tcsetpgrp(terminal, getpgrp());
    }
    let _ = raise(Signal::SIGSTOP);
    if let (Some(terminal), Some(group)) = (terminal, foreground)
        && tcgetpgrp(terminal) == Ok(getpgrp())
    {
        let _ = tcsetpgrp(terminal, group);
    }
    waited.send(libc::SIGCONT);
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
