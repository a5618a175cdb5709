//! A pid namespace for a computation whose ids are taken here, or may not be chosen here.
//!
//! ```text
//!   dmtcp_restart --clone3(NEWPID NEWNS [NEWUSER])--> init of the namespace --clone3(set_tid)--> the processes
//!        |  <----------- control socket ----------->  |   reaps everything, passes signals on, tells how it ended
//! ```
//! Without privilege the namespace comes with a user namespace in which the user is who he is. The init lives as long
//! as anything in the namespace; it holds nothing open but the socket.

use crate::family::{self, Ids};
use crate::forest::Forest;
use crate::kernel;
use crate::process::{Restoration, SpawnError};
use crate::report;
use crate::wait::{Ended, Roots, Seen};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getegid, geteuid};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What the init and dmtcp_restart tell each other: a kind and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// To dmtcp_restart: all processes stand in their own memory.
    Made,
    /// To dmtcp_restart: there are no processes, with the errno if ids were the reason, else 0.
    NotMade(i32),
    /// To dmtcp_restart: this signal has stopped the first process.
    Stopped(i32),
    /// To dmtcp_restart: all have ended, the first one by an exit.
    Exited(i32),
    /// To dmtcp_restart: all have ended, the first one by a signal.
    Killed(i32),
    /// To the init: send the first processes this signal.
    Signal(i32),
}

impl Message {
    fn encode(self) -> [u8; 5] {
        let (kind, number) = match self {
            Self::Made => (b'M', 0),
            Self::NotMade(errno) => (b'N', errno),
            Self::Stopped(signal) => (b'S', signal),
            Self::Exited(code) => (b'E', code),
            Self::Killed(signal) => (b'K', signal),
            Self::Signal(signal) => (b'G', signal),
        };
        let number = number.to_le_bytes();
        [kind, number[0], number[1], number[2], number[3]]
    }

    fn decode(bytes: [u8; 5]) -> Option<Self> {
        let number = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        Some(match bytes[0] {
            b'M' => Self::Made,
            b'N' => Self::NotMade(number),
            b'S' => Self::Stopped(number),
            b'E' => Self::Exited(number),
            b'K' => Self::Killed(number),
            b'G' => Self::Signal(number),
            _ => return None,
        })
    }
}

/// Sends a message; if the other side is gone there is nobody to tell.
pub fn send(socket: BorrowedFd<'_>, message: Message) {
    let flags = nix::sys::socket::MsgFlags::MSG_NOSIGNAL;
    let _ = nix::sys::socket::send(socket.as_raw_fd(), &message.encode(), flags);
}

/// The next message; `None` when the other side is gone.
pub fn receive(socket: BorrowedFd<'_>) -> Option<Message> {
    let mut bytes = [0u8; 5];
    loop {
        match nix::unistd::read(socket, &mut bytes) {
            Ok(5) => return Message::decode(bytes),
            Err(nix::Error::EINTR) => {}
            _ => return None,
        }
    }
}

/// A namespace with the process in it.
#[derive(Debug)]
pub struct Namespace {
    /// Its init.
    pub init: Pid,
    /// The conversation with that.
    pub control: OwnedFd,
}

/// Why there is no namespace, or no process in it.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The kernel makes none.
    #[error(
        "the ids of the processes are taken here or may not be chosen, and no pid namespace can be made ({0}): allow user \
         namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns, the container's seccomp \
         profile), or give dmtcp_restart CAP_CHECKPOINT_RESTORE"
    )]
    Refused(io::Error),
    /// The user cannot be mapped.
    #[error("cannot map your user into a namespace (/proc/PID/uid_map): {0}; allow user namespaces")]
    Map(io::Error),
    /// The processes were not made.
    #[error("cannot make the processes in their own pid namespace: {0}")]
    Spawn(SpawnError),
}

/// Makes a namespace and in it the processes.
pub fn start(
    restoration: &mut Restoration<'_>,
    forest: &Forest,
    ids: Option<&Ids>,
) -> Result<Namespace, NamespaceError> {
    let refused = |error: nix::Error| NamespaceError::Refused(error.into());
    if kernel::forbidden("pid_namespace") {
        return Err(refused(nix::Error::EPERM));
    }
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(refused)?;
    let (wait, go) = io::pipe().map_err(NamespaceError::Refused)?;
    let kinds = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let (user, group) = (geteuid(), getegid());
    let mut pid = Err(io::Error::from_raw_os_error(libc::EPERM));
    for flags in [kinds, kinds | libc::CLONE_NEWUSER] {
        restoration.drop_capabilities = flags & libc::CLONE_NEWUSER != 0;
        // SAFETY: the restarter has one thread here.
        pid = unsafe { kernel::fork(flags, libc::SIGCHLD, None) };
        match &pid {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            _ => break,
        }
    }
    let pid = match pid.map_err(NamespaceError::Refused)? {
        0 => {
            drop((ours, go));
            // Returns when the other end is closed: the user is mapped then.
            let _ = nix::unistd::read(wait.as_fd(), &mut [0]);
            drop(wait);
            init(restoration, forest, ids, theirs)
        }
        pid => Pid::from_raw(pid),
    };
    drop((theirs, wait));
    if restoration.drop_capabilities {
        let map = |file: &str, text: String| std::fs::write(format!("/proc/{pid}/{file}"), text);
        let mapped = map("setgroups", "deny".into())
            .and_then(|()| map("uid_map", format!("{user} {user} 1")))
            .and_then(|()| map("gid_map", format!("{group} {group} 1")));
        if let Err(error) = mapped {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
            return Err(NamespaceError::Map(error));
        }
    }
    drop(go);
    match receive(ours.as_fd()) {
        Some(Message::Made) => Ok(Namespace { init: pid, control: ours }),
        answer => {
            let _ = waitpid(pid, None);
            Err(NamespaceError::Spawn(match answer {
                Some(Message::NotMade(errno)) if errno != 0 => SpawnError::Ids(io::Error::from_raw_os_error(errno)),
                _ => SpawnError::Said,
            }))
        }
    }
}

/// The namespace's first process.
fn init(restoration: &Restoration<'_>, forest: &Forest, ids: Option<&Ids>, control: OwnedFd) -> ! {
    let descriptors = restoration.plugins.descriptors();
    // Nobody is left behind half-made.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let nothing: Option<&str> = None;
    let mounted = mount(nothing, "/", nothing, MsFlags::MS_SLAVE | MsFlags::MS_REC, nothing).and_then(|()| {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, nothing)
    });
    if let Err(error) = mounted {
        let text = format!(
            "dmtcp_restart: warning: the process sees /proc of another pid namespace: cannot mount it: {error}\n"
        );
        report::write(restoration.plugins.stderr(), &text);
    }
    let control_handle = descriptors.adopt(control);
    // SAFETY: the list keeps it open; it never moves in this process, which places nothing.
    let control = unsafe { BorrowedFd::borrow_raw(descriptors.number(control_handle)) };
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC);
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => report::die(restoration.plugins.stderr(), format_args!("cannot wait for signals: {error}")),
    };
    let roots = match family::make(restoration, forest, ids) {
        Ok(pids) => Roots::new(pids),
        Err(error) => {
            let errno = if let SpawnError::Ids(error) = &error { error.raw_os_error().unwrap_or(libc::EIO) } else { 0 };
            send(control, Message::NotMade(errno));
            if let SpawnError::Ids(_) | SpawnError::Said = error {
                std::process::exit(1)
            }
            report::die(restoration.plugins.stderr(), error);
        }
    };
    send(control, Message::Made);
    // What was created belongs to the processes now; the end of a pipe that stayed open here would never be an end.
    descriptors.close_all_but(&[control_handle]);
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null).and_then(|()| nix::unistd::dup2_stdout(&null));
        let _ = nix::unistd::dup2_stderr(&null);
    }
    let _ = nix::sys::prctl::set_pdeathsig(None);
    attend(roots, control, &signals)
}

/// Reaps everything, passes signals on, and tells about the first processes, until nobody is left.
fn attend(mut roots: Roots, control: BorrowedFd<'_>, signals: &SignalFd) -> ! {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut listening = true;
    // What happened while nobody listened has left no signal.
    let mut timeout = PollTimeout::ZERO;
    loop {
        let readable = PollFlags::POLLIN;
        let mut polled = [PollFd::new(signals.as_fd(), readable), PollFd::new(control, readable)];
        let count = if listening { 2 } else { 1 };
        let _ = poll(&mut polled[..count], timeout);
        timeout = PollTimeout::NONE;
        let heard = |index: usize| polled[index].revents().is_some_and(|events| !events.is_empty());
        let (child, message) = (heard(0), listening && heard(1));
        if child {
            let _ = signals.read_signal();
        }
        if message {
            match receive(control) {
                Some(Message::Signal(number)) => roots.send(number),
                Some(_) => {}
                None => listening = false,
            }
        }
        match roots.look() {
            Seen::Nothing => {}
            Seen::Stopped(signal) => send(control, Message::Stopped(signal)),
            Seen::Ended(Ended::Exited(code)) => send(control, Message::Exited(code)),
            Seen::Ended(Ended::Killed(signal)) => send(control, Message::Killed(signal)),
            Seen::Ended(Ended::Lost) | Seen::Nobody => std::process::exit(0),
        }
        // There may be daemons, or nobody.
        if roots.look() == Seen::Nobody {
            std::process::exit(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        for message in [
            Message::Made,
            Message::NotMade(17),
            Message::Stopped(20),
            Message::Exited(3),
            Message::Killed(9),
            Message::Signal(15),
        ] {
            assert_eq!(Message::decode(message.encode()), Some(message));
        }
        assert_eq!(Message::decode([0; 5]), None);
    }
}
