//! The connection to the coordinator, by raw system calls on the checkpoint thread's own descriptor table.

use dmtcp_plugin_api::sys::{self, Fd};
use dmtcp_protocol::auth::{Key, Nonce, Side};
use dmtcp_protocol::frame;
use dmtcp_protocol::message::{Answer, Challenge, FromClient, FromCoordinator, Hello};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How long the handshake may take in all, in milliseconds.
const HANDSHAKE_LIMIT: i32 = 10_000;

/// Why there is no message.
#[derive(Debug, PartialEq, Eq)]
pub enum Silence {
    /// The time is up.
    TimeOut,
    /// The coordinator has closed the connection, or broken the protocol.
    Gone,
}

/// An authenticated connection.
#[derive(Debug)]
pub struct Link {
    socket: Fd,
    received: Vec<u8>,
}

/// Numeric address of a host as the launcher writes it; `localhost` too.
fn address(host: &str, port: u16) -> Result<SocketAddr, String> {
    let ip = match host {
        "localhost" | "" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => other.parse().map_err(|_| format!("coordinator host '{host}' is no numeric address"))?,
    };
    Ok(SocketAddr::new(ip, port))
}

/// `struct sockaddr_in` or `sockaddr_in6`, and its length.
fn sockaddr(address: &SocketAddr) -> ([u8; 28], usize) {
    let mut out = [0u8; 28];
    out[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            out[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            out[4..8].copy_from_slice(&ip.octets());
            (out, 16)
        }
        IpAddr::V6(ip) => {
            out[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            out[8..24].copy_from_slice(&ip.octets());
            (out, 28)
        }
    }
}

/// IPv4 address of this end of a socket, if it has one that others can reach.
fn own_end(socket: &Fd) -> Option<Ipv4Addr> {
    let mut bytes = [0u8; 28];
    let mut length = bytes.len() as u32;
    // SAFETY: the kernel writes at most `length` bytes of an address.
    let named = unsafe {
        let args = [socket.number() as usize, bytes.as_mut_ptr() as usize, (&raw mut length) as usize, 0, 0, 0];
        sys::call(libc::SYS_getsockname as i32, args)
    };
    let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let address = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
    (named.is_ok() && family == libc::AF_INET && !address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// IPv4 address of this machine as others see it: the one that a packet to a coordinator elsewhere, or to the world, would
/// be sent from (none is sent), else the loopback. On a thread that has undisturbed use of a descriptor.
pub fn own_address(coordinator: &str) -> Ipv4Addr {
    // An address that is kept for documentation: nobody has it.
    let world = Ipv4Addr::new(192, 0, 2, 1);
    let elsewhere = address(coordinator, 0).ok().map(|a| a.ip()).filter(|ip| ip.is_ipv4() && !ip.is_loopback());
    let by_route = |to: IpAddr| {
        let (bytes, length) = sockaddr(&SocketAddr::new(to, 9));
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: the address is valid for its length. Connecting a datagram socket sends nothing.
        let socket = unsafe {
            let number =
                sys::call(libc::SYS_socket as i32, [libc::AF_INET as usize, kind as usize, 0, 0, 0, 0]).ok()?;
            let socket = Fd::own(number as i32);
            sys::call(libc::SYS_connect as i32, [number, bytes.as_ptr() as usize, length, 0, 0, 0]).ok()?;
            socket
        };
        own_end(&socket)
    };
    elsewhere.and_then(by_route).or_else(|| by_route(IpAddr::V4(world))).unwrap_or(Ipv4Addr::LOCALHOST)
}

/// A random number that nobody can foresee.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0u8; N];
    // SAFETY: the buffer is valid for its length. Below 256 bytes the call does not give less.
    let _ = unsafe { sys::call(libc::SYS_getrandom as i32, [out.as_mut_ptr() as usize, N, 0, 0, 0, 0]) };
    out
}

/// A stream socket that is connected to this address.
fn connect(family: i32, flags: i32, address: &[u8]) -> Result<Fd, i32> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: the address is valid for its length, the option value is an int.
    unsafe {
        let number = sys::call(libc::SYS_socket as i32, [family as usize, kind as usize, 0, 0, 0, 0])?;
        let socket = Fd::own(number as i32);
        if family != libc::AF_UNIX {
            let on = 1i32;
            let (level, option) = (libc::IPPROTO_TCP as usize, libc::TCP_NODELAY as usize);
            let args = [number, level, option, (&raw const on) as usize, 4, 0];
            let _ = sys::call(libc::SYS_setsockopt as i32, args);
        }
        let args = [number, address.as_ptr() as usize, address.len(), 0, 0, 0];
        sys::call(libc::SYS_connect as i32, args)?;
        Ok(socket)
    }
}

/// A connection to a coordinator of this host by its unix socket. It may be out of reach for a process that has changed its
/// root or its user.
fn local_socket(path: &str) -> Option<Fd> {
    // `struct sockaddr_un`: the family, and a path that ends with a zero.
    let mut address = [0u8; 110];
    address[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    address.get_mut(2..2 + path.len())?.copy_from_slice(path.as_bytes());
    let address = address.get(..2 + path.len() + 1).filter(|_| !path.is_empty())?;
    // Where too many wait to be accepted, a blocking socket would wait too.
    let socket = connect(libc::AF_UNIX, libc::SOCK_NONBLOCK, address).ok()?;
    sys::fcntl(socket.number(), libc::F_SETFL, 0).ok().map(|_| socket)
}

impl Link {
    /// Connects and proves the key, both ways: by the coordinator's unix socket, if one is known (else the path is empty) and
    /// serves, else by TCP.
    pub fn open(host: &str, port: u16, socket: &str, key: &Key) -> Result<Self, String> {
        if let Some(link) = local_socket(socket).and_then(|socket| {
            let mut link = Self { socket, received: Vec::new() };
            link.shake_hands(key).ok().map(|()| link)
        }) {
            return Ok(link);
        }
        let target = address(host, port)?;
        let (bytes, length) = sockaddr(&target);
        let family = if target.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = connect(family, 0, &bytes[..length]).map_err(|e| {
            format!(
                "no coordinator can be reached at {host}:{port} (errno {e}); start one, or name it with --coord-host and --coord-port"
            )
        })?;
        let mut link = Self { socket, received: Vec::new() };
        link.shake_hands(key).map_err(|e| format!("the coordinator at {host}:{port} {e}"))?;
        Ok(link)
    }

    /// A connection on which both sides have proved the key already, and on which nothing has been said since.
    pub fn taken_over(socket: Fd) -> Self {
        let _ = sys::fcntl(socket.number(), libc::F_SETFD, libc::FD_CLOEXEC as usize);
        Self { socket, received: Vec::new() }
    }

    fn shake_hands(&mut self, key: &Key) -> Result<(), String> {
        let nonce: Nonce = random();
        self.write(&frame::encode(&Hello { nonce })).map_err(|_| "closed the connection".to_owned())?;
        let challenge: Challenge = self.read(HANDSHAKE_LIMIT).map_err(|s| match s {
            Silence::TimeOut => "did not answer".to_owned(),
            Silence::Gone => "closed the connection".to_owned(),
        })?;
        if !key.verify(Side::Coordinator, &nonce, &challenge.nonce, &challenge.proof) {
            return Err("does not hold this user's key: it belongs to somebody else".into());
        }
        let proof = key.prove(Side::Client, &nonce, &challenge.nonce);
        self.write(&frame::encode(&Answer { proof })).map_err(|_| "closed the connection".to_owned())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Silence> {
        while !bytes.is_empty() {
            // SAFETY: the buffer is valid for its length; MSG_NOSIGNAL keeps SIGPIPE from the application.
            let sent = unsafe {
                sys::call(
                    libc::SYS_sendto as i32,
                    [
                        self.socket.number() as usize,
                        bytes.as_ptr() as usize,
                        bytes.len(),
                        libc::MSG_NOSIGNAL as usize,
                        0,
                        0,
                    ],
                )
            };
            match sent {
                Ok(count) => bytes = &bytes[count..],
                Err(libc::EINTR) => {}
                Err(_) => return Err(Silence::Gone),
            }
        }
        Ok(())
    }

    /// Sends a message.
    pub fn send(&mut self, message: &FromClient) -> Result<(), Silence> {
        self.write(&frame::encode(message))
    }

    /// A message for [`Link::send_encoded`].
    pub fn encode(message: &FromClient) -> Vec<u8> {
        frame::encode(message)
    }

    /// Sends a message without allocating.
    pub fn send_encoded(&mut self, message: &[u8]) -> Result<(), Silence> {
        self.write(message)
    }

    /// Sends a progress report without allocating. What does not fit into the socket now is dropped whole.
    pub fn report_progress(&self, done: u64, total: u64) {
        let mut out = [0u8; 64];
        let Ok(length) = postcard::to_slice(&FromClient::Progress { done, total }, &mut out[frame::HEADER..])
            .map(|payload| payload.len())
        else {
            return;
        };
        out[..4].copy_from_slice(&frame::MAGIC);
        out[4..6].copy_from_slice(&frame::VERSION.to_le_bytes());
        out[8..12].copy_from_slice(&(length as u32).to_le_bytes());
        let flags = libc::MSG_NOSIGNAL as usize;
        // SAFETY: the buffer is valid for its length. A few bytes on a connection that is otherwise idle are taken whole.
        let _ = unsafe {
            sys::call(
                libc::SYS_sendto as i32,
                [self.socket.number() as usize, out.as_ptr() as usize, frame::HEADER + length, flags, 0, 0],
            )
        };
    }

    /// Waits until bytes come, or this descriptor becomes readable, or the time (in milliseconds) is up.
    pub fn wait_beside(&self, other: Option<&Fd>, limit: i32) -> Result<(), i32> {
        let entry = |number| libc::pollfd { fd: number, events: libc::POLLIN, revents: 0 };
        // A negative number is passed over.
        let mut waits = [entry(self.socket.number()), entry(other.map_or(-1, Fd::number))];
        let limit = if other.is_some() { -1 } else { limit };
        // SAFETY: two pollfds.
        let result = unsafe {
            sys::call(libc::SYS_poll as i32, [waits.as_mut_ptr() as usize, waits.len(), limit as usize, 0, 0, 0])
        };
        result.map(drop)
    }

    /// Waits for a message of the coordinator's; `limit` in milliseconds, negative: for ever.
    pub fn receive(&mut self, limit: i32) -> Result<FromCoordinator, Silence> {
        self.read(limit)
    }

    fn read<M: serde::de::DeserializeOwned>(&mut self, limit: i32) -> Result<M, Silence> {
        let start = sys::clock(libc::CLOCK_MONOTONIC);
        loop {
            match frame::take(&mut self.received) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(_) => return Err(Silence::Gone),
            }
            let left = if limit < 0 {
                -1
            } else {
                let passed = ((sys::clock(libc::CLOCK_MONOTONIC) - start) / 1_000_000) as i32;
                if passed >= limit {
                    return Err(Silence::TimeOut);
                }
                limit - passed
            };
            let mut wait = libc::pollfd { fd: self.socket.number(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd.
            let ready =
                unsafe { sys::call(libc::SYS_poll as i32, [(&raw mut wait) as usize, 1, left as usize, 0, 0, 0]) };
            match ready {
                Ok(0) | Err(libc::EINTR) => continue,
                Ok(_) => {}
                Err(_) => return Err(Silence::Gone),
            }
            let mut buffer = [0u8; 4096];
            match sys::read(self.socket.number(), &mut buffer) {
                Ok(0) => return Err(Silence::Gone),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(libc::EINTR | libc::EAGAIN) => {}
                Err(_) => return Err(Silence::Gone),
            }
        }
    }
}
