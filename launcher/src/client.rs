//! A conversation with a coordinator, from the side that connects.
//!
//! Blocking, with a limit on every wait. The handshake proves the key both ways: a stranger that happens to listen on
//! the port learns nothing, and is told apart from a coordinator that holds another key. With a coordinator of this host
//! the conversation goes over its unix socket (see [`crate::local`]) if it can, else, like all others, over TCP.

use crate::local::{self, Stream};
use crate::scratch;
use dmtcp_protocol::auth::{Key, Nonce, Side};
use dmtcp_protocol::frame::{self, FrameError};
use dmtcp_protocol::message::{
    Answer, Challenge, Command, ComputationId, FromClient, FromCoordinator, Hello, Outcome, Timings,
};
use nix::fcntl::{FcntlArg, fcntl};
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a connection attempt may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an answer may take that needs no work.
pub const ANSWER: Duration = Duration::from_secs(15);

/// Lowest number of a descriptor that is handed over: out of the way of what the program inherits, and within the 64 that
/// the kernel has a place for in every process.
const HANDED_OVER: RawFd = 60;

/// Why a conversation does not take place or ends.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The host name means nothing.
    #[error("cannot find the host {host}: {error}")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// Nobody listens there.
    #[error("no coordinator answers at {peer}: {error}")]
    NoAnswer {
        /// Host and port.
        peer: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// Somebody listens there who does not speak this protocol, or another version of it.
    #[error("what listens at {peer} is not a coordinator of this version: {error}")]
    Foreign {
        /// Host and port.
        peer: String,
        /// What was wrong.
        error: FrameError,
    },
    /// The coordinator holds another key.
    #[error(
        "the coordinator at {peer} holds another key (it belongs to another user, or to another DMTCP_COORD_KEY_FILE); \
         choose another port with --coord-port, or give both the same key file"
    )]
    WrongKey {
        /// Host and port.
        peer: String,
    },
    /// The coordinator turned us away.
    #[error("the coordinator at {peer} refused: {reason}")]
    Refused {
        /// Host and port.
        peer: String,
        /// Its sentence.
        reason: String,
    },
    /// Nothing came in time.
    #[error("waited {} s for {what} from the coordinator at {peer}", .limit.as_secs_f32())]
    TooLong {
        /// Host and port.
        peer: String,
        /// What did not come.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The coordinator ended the conversation.
    #[error("the coordinator at {peer} closed the connection instead of sending {what}")]
    Closed {
        /// Host and port.
        peer: String,
        /// What did not come.
        what: String,
    },
    /// The connection broke.
    #[error("the connection to the coordinator at {peer} broke: {error}")]
    Broken {
        /// Host and port.
        peer: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// It answered something that makes no sense here.
    #[error("the coordinator at {peer} sent something else instead of {what}")]
    Unexpected {
        /// Host and port.
        peer: String,
        /// What did not come.
        what: String,
    },
    /// The kernel has no random bytes to give.
    #[error("the kernel gave no random bytes: {0}")]
    Random(getrandom::Error),
}

/// An open conversation; both sides have proved the key.
pub struct Connection {
    stream: Stream,
    received: Vec<u8>,
    peer: String,
    address: IpAddr,
    socket: Option<PathBuf>,
}

/// Connects and proves the key both ways. `tmpdir` is the flag of that name: where a unix socket would be.
pub fn connect(host: &str, port: u16, key: &Key, tmpdir: Option<&Path>) -> Result<Connection, ClientError> {
    let peer = format!("{host}:{port}");
    let (stream, address, socket) = reach(host, port, &peer, tmpdir)?;
    let mut connection = Connection { stream, received: Vec::new(), peer, address, socket };
    connection.shake_hands(key)?;
    Ok(connection)
}

impl Connection {
    /// Sends a message.
    pub fn send(&mut self, message: &FromClient) -> Result<(), ClientError> {
        self.write(&frame::encode(message))
    }

    /// The next message; `what` names it in errors. A [`FromCoordinator::Refused`] comes as an error.
    pub fn recv(&mut self, limit: Duration, what: &str) -> Result<FromCoordinator, ClientError> {
        match self.take(Instant::now() + limit, limit, what)? {
            FromCoordinator::Refused { reason } => Err(ClientError::Refused { peer: self.peer.clone(), reason }),
            message => Ok(message),
        }
    }

    /// Sends a command and waits for its outcome, at most `limit` between two pieces of news.
    pub fn command(
        &mut self,
        command: Command,
        limit: Duration,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Outcome, ClientError> {
        const WHAT: &str = "the outcome of a command";
        self.send(&FromClient::Command(command))?;
        loop {
            match self.recv(limit, WHAT)? {
                FromCoordinator::Outcome(outcome) => return Ok(outcome),
                FromCoordinator::Progress { done, total } => progress(done, total),
                _ => return Err(ClientError::Unexpected { peer: self.peer.clone(), what: WHAT.into() }),
            }
        }
    }

    /// Announces a restart and waits until the coordinator agrees: from then on it expects the processes to join.
    pub fn announce_restart(&mut self, computation: ComputationId, what: &Timings) -> Result<(), ClientError> {
        const WHAT: &str = "agreement to the restart";
        let Timings { generation, processes, bytes, ref stages, .. } = *what;
        self.send(&FromClient::Restart { computation, generation, processes, bytes, stages: stages.clone() })?;
        match self.recv(HANDSHAKE, WHAT)? {
            FromCoordinator::Welcome { .. } => Ok(()),
            _ => Err(ClientError::Unexpected { peer: self.peer.clone(), what: WHAT.into() }),
        }
    }

    /// Waits until every restarted process goes on, at most `limit`.
    pub fn await_restarted(&mut self, limit: Duration) -> Result<(), ClientError> {
        const WHAT: &str = "all processes to be restarted";
        match self.recv(limit, WHAT)? {
            FromCoordinator::Restarted => Ok(()),
            _ => Err(ClientError::Unexpected { peer: self.peer.clone(), what: WHAT.into() }),
        }
    }

    /// Address of the coordinator's host.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The unix socket that the conversation goes over.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Host and port of the coordinator, for messages.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The socket, for a program that waits for several things at once.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Leaves the conversation to the program that this process becomes. The value is its descriptor, which stays open;
    /// `None` where that is not possible.
    pub fn hand_over(self) -> Option<RawFd> {
        if !self.received.is_empty() {
            return None;
        }
        // Limits would go along with the socket.
        self.stream.set_read_timeout(None).and_then(|()| self.stream.set_write_timeout(None)).ok()?;
        let socket = match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Local(stream) => stream.as_fd(),
        };
        fcntl(socket, FcntlArg::F_DUPFD(HANDED_OVER)).ok()
    }

    fn shake_hands(&mut self, key: &Key) -> Result<(), ClientError> {
        const WHAT: &str = "its proof of the key";
        let mut nonce = Nonce::default();
        getrandom::fill(&mut nonce).map_err(ClientError::Random)?;
        self.write(&frame::encode(&Hello { nonce }))?;
        let challenge: Challenge = self.take(Instant::now() + HANDSHAKE, HANDSHAKE, WHAT)?;
        if !key.verify(Side::Coordinator, &nonce, &challenge.nonce, &challenge.proof) {
            return Err(ClientError::WrongKey { peer: self.peer.clone() });
        }
        self.write(&frame::encode(&Answer { proof: key.prove(Side::Client, &nonce, &challenge.nonce) }))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.stream
            .set_write_timeout(Some(HANDSHAKE))
            .and_then(|()| (&self.stream).write_all(bytes))
            .map_err(|error| self.broken(error, "room for a message"))
    }

    fn take<M: DeserializeOwned>(&mut self, deadline: Instant, limit: Duration, what: &str) -> Result<M, ClientError> {
        let mut chunk = [0u8; 4096];
        loop {
            let message = frame::take(&mut self.received)
                .map_err(|error| ClientError::Foreign { peer: self.peer.clone(), error })?;
            if let Some(message) = message {
                return Ok(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TooLong { peer: self.peer.clone(), what: what.into(), limit });
            }
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| (&self.stream).read(&mut chunk));
            match read {
                Ok(0) => return Err(ClientError::Closed { peer: self.peer.clone(), what: what.into() }),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error, what)),
            }
        }
    }

    fn broken(&self, error: io::Error, what: &str) -> ClientError {
        let peer = self.peer.clone();
        if is_timeout(&error) {
            ClientError::TooLong { peer, what: what.into(), limit: HANDSHAKE }
        } else {
            ClientError::Broken { peer, error }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The addresses of a host. The resolver, which costs more than a whole launch, is not asked for what everybody knows.
pub(crate) fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, ClientError> {
    if host == "localhost" {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(both.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    (host, port)
        .to_socket_addrs()
        .map(Iterator::collect)
        .map_err(|error| ClientError::Resolve { host: host.into(), error })
}

/// Whether an address is one of this host.
pub(crate) fn is_own(address: IpAddr) -> bool {
    // The kernel lets a socket have an address exactly if it is one of this host.
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// A connection, the coordinator's address, and its unix socket if that is what was connected to.
type Reached = (Stream, IpAddr, Option<PathBuf>);

fn reach(host: &str, port: u16, peer: &str, tmpdir: Option<&Path>) -> Result<Reached, ClientError> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses(host, port)? {
        let ip = address.ip();
        if (ip.is_loopback() || host == scratch::host_name() && is_own(ip))
            && let Some((stream, socket)) = local::reach(address, tmpdir)
        {
            return Ok((Stream::Local(stream), ip, Some(socket)));
        }
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                // Small messages that wait for each other: Nagle would cost a delayed acknowledgement each.
                stream.set_nodelay(true).map_err(|error| ClientError::Broken { peer: peer.into(), error })?;
                return Ok((Stream::Tcp(stream), ip, None));
            }
            Err(error) => failure = error,
        }
    }
    Err(ClientError::NoAnswer { peer: peer.into(), error: failure })
}
