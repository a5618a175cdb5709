//! The two kinds of sockets that clients come by, as the event loop sees them.

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::unistd::Uid;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// How long a host may be silent before it is asked whether it is still there, in seconds.
const KEEP_ALIVE: u32 = 60;

/// A client's socket.
pub enum Stream {
    /// From anywhere.
    Tcp(TcpStream),
    /// A program of this host.
    Local(UnixStream),
}

/// What the kernel tells of the other end of a connection.
pub enum Peer {
    /// Our address and the client's.
    Addresses(SocketAddr, SocketAddr),
    /// Pid of the process that connected.
    Process(i32),
}

impl Stream {
    /// What has to be done before anything is read; fails for a local program of another user.
    pub fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                setsockopt(stream, sockopt::KeepAlive, &true)?;
                setsockopt(stream, sockopt::TcpKeepIdle, &KEEP_ALIVE)?;
                Ok(())
            }
            Self::Local(stream) => dmtcp_launcher::local::check_peer(stream, Uid::effective().as_raw()),
        }
    }

    /// What tells which process the client is.
    pub fn peer(&self) -> Option<Peer> {
        match self {
            Self::Tcp(stream) => Some(Peer::Addresses(stream.local_addr().ok()?, stream.peer_addr().ok()?)),
            Self::Local(stream) => Some(Peer::Process(getsockopt(stream, sockopt::PeerCredentials).ok()?.pid())),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Local(stream) => stream,
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Local(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Local(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
