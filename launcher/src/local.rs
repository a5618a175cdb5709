//! The coordinator's unix socket for the programs of its own host, in the scratch directory.
//!
//! ```text
//!   SCRATCH/coordinator.NAMESPACE.ADDRESS.PORT     beside the TCP socket that listens on ADDRESS and PORT
//! ```
//! NAMESPACE is the network namespace's number: with it, the name means what the TCP address means. Only one socket can
//! listen there, so whoever holds the TCP socket may replace whatever has the name: it was left by a dead coordinator.
//!
//! The kernel tells both sides whose the other is, which is asked in addition to the proof of the key. A directory that
//! others can enter, and a name that is no socket of our own (a planted link, for one), are never used. The directory
//! is opened once and reached through its descriptor from then on: it cannot be exchanged after the check, and the
//! length of its path does not matter. Whatever goes wrong for a client means that it uses TCP.

use crate::scratch;
use nix::sys::socket::sockopt::{Ipv6V6Only, PeerCredentials};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use nix::unistd::Uid;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A connection to a coordinator, of either kind.
#[derive(Debug)]
pub enum Stream {
    /// From anywhere.
    Tcp(TcpStream),
    /// From this host.
    Local(UnixStream),
}

impl Stream {
    /// Limits each read.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(limit),
            Self::Local(stream) => stream.set_read_timeout(limit),
        }
    }

    /// Limits each write.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(limit),
            Self::Local(stream) => stream.set_write_timeout(limit),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Local(stream) => (&mut &*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(bytes),
            Stream::Local(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A scratch directory that only its owner, this user, can enter.
struct Directory(File);

impl Directory {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let meta = directory.metadata()?;
        if meta.uid() != Uid::effective().as_raw() || meta.mode() & 0o077 != 0 {
            let message = format!("{} can be entered by others than its owner, this user", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        Ok(Self(directory))
    }

    /// A path of something in it, short enough for a socket's address.
    fn entry(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()).into()
    }
}

/// A coordinator's unix socket; its name goes with the value.
pub struct Listener {
    socket: UnixListener,
    directory: Directory,
    name: String,
}

impl Listener {
    /// Opens the socket beside a TCP socket that listens already. `tmpdir` is the flag of that name.
    pub fn beside(tcp: &TcpListener, tmpdir: Option<&Path>) -> io::Result<Self> {
        let address = tcp.local_addr()?;
        if address.is_ipv6() && address.ip().is_unspecified() && getsockopt(tcp, Ipv6V6Only)? {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the TCP socket is for IPv6 alone"));
        }
        let name = name(address)?;
        let directory = Directory::open(&scratch::ensure(tmpdir).map_err(io::Error::other)?)?;
        // Under its name only once its mode is right. A name of this kind is left by a process that is dead: we have
        // its pid.
        let unfinished = directory.entry(&format!(".coordinator.{}", std::process::id()));
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(&unfinished)?;
        let placed = std::fs::set_permissions(&unfinished, Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&unfinished, directory.entry(&name)));
        if let Err(error) = placed {
            // Nobody looks for that name; a leftover does no harm.
            let _ = std::fs::remove_file(&unfinished);
            return Err(error);
        }
        Ok(Self { socket, directory, name })
    }

    /// The socket, to accept connections from.
    pub fn socket(&self) -> &UnixListener {
        &self.socket
    }
}

impl Drop for Listener {
    /// To be dropped before the TCP socket: until then nobody else can have taken the name.
    fn drop(&mut self) {
        // Somebody may have cleaned the directory up.
        let _ = std::fs::remove_file(self.directory.entry(&self.name));
    }
}

/// A connection to the coordinator that listens at this address of this host, if it has a unix socket in our scratch
/// directory, and the socket's path. Waits for nothing.
pub(crate) fn reach(address: SocketAddr, tmpdir: Option<&Path>) -> Option<(UnixStream, PathBuf)> {
    let place = scratch::place(tmpdir);
    let directory = Directory::open(&place).ok()?;
    let any: &[IpAddr] = match address {
        SocketAddr::V4(_) => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        SocketAddr::V6(_) => &[IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
    };
    std::iter::once(address.ip()).chain(any.iter().copied()).find_map(|listens_on| {
        let name = name(SocketAddr::new(listens_on, address.port())).ok()?;
        Some((open(&directory.entry(&name)).ok()?, place.join(name)))
    })
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let own = Uid::effective().as_raw();
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.file_type().is_socket() || meta.uid() != own || meta.mode() & 0o077 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Where too many wait to be accepted, a blocking socket would wait too.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    check_peer(&stream, own)?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Fails unless the other side of a unix socket is a process of this user.
pub fn check_peer(socket: &impl AsFd, user: u32) -> io::Result<()> {
    let peer = getsockopt(socket, PeerCredentials)?.uid();
    if peer == user {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it is of another user (uid {peer})")))
}

/// Name of the socket beside one that listens at this address.
fn name(address: SocketAddr) -> io::Result<String> {
    let namespace = std::fs::metadata("/proc/self/ns/net")?.ino();
    Ok(format!("coordinator.{namespace}.{}.{}", address.ip(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A TCP socket, its address, and a place for the scratch directory.
    fn setting() -> (TcpListener, SocketAddr, tempfile::TempDir) {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        (tcp, address, tempfile::tempdir().unwrap())
    }

    fn socket_path(address: SocketAddr, base: &Path) -> PathBuf {
        scratch::place(Some(base)).join(name(address).unwrap())
    }

    #[test]
    fn only_the_owner_can_come_near_it_and_it_goes_with_its_listener() {
        let (tcp, address, base) = setting();
        let listener = Listener::beside(&tcp, Some(base.path())).unwrap();
        let path = socket_path(address, base.path());
        let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(reach(address, Some(base.path())).is_some());
        drop(listener);
        assert!(reach(address, Some(base.path())).is_none());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn it_is_found_by_every_address_that_tcp_would_serve_and_by_no_other() {
        let base = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let _listener = Listener::beside(&tcp, Some(base.path())).unwrap();
        let found = |host: &str, port| reach(SocketAddr::new(host.parse().unwrap(), port), Some(base.path())).is_some();
        assert!(found("127.0.0.1", port) && found("127.0.1.1", port));
        assert!(!found("::1", port) && !found("127.0.0.1", port.wrapping_add(1)));
        let (tcp, address, base) = setting();
        let _listener = Listener::beside(&tcp, Some(base.path())).unwrap();
        assert!(reach(SocketAddr::new("127.0.1.1".parse().unwrap(), address.port()), Some(base.path())).is_none());
    }

    #[test]
    fn a_long_path_does_not_matter() {
        let (tcp, address, base) = setting();
        let deep = base.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let _listener = Listener::beside(&tcp, Some(&deep)).unwrap();
        assert!(reach(address, Some(&deep)).is_some());
    }

    #[test]
    fn what_a_dead_coordinator_left_and_what_somebody_planted_is_replaced_and_never_followed() {
        let (tcp, address, base) = setting();
        let path = socket_path(address, base.path());
        scratch::ensure(Some(base.path())).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(reach(address, Some(base.path())).is_none(), "nobody listens there");
        drop(Listener::beside(&tcp, Some(base.path())).unwrap());
        let elsewhere = base.path().join("elsewhere");
        let trap = UnixListener::bind(&elsewhere).unwrap();
        std::fs::set_permissions(&elsewhere, Permissions::from_mode(0o600)).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(reach(address, Some(base.path())).is_none(), "a link is not followed");
        let _listener = Listener::beside(&tcp, Some(base.path())).unwrap();
        assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        assert!(reach(address, Some(base.path())).is_some());
        trap.set_nonblocking(true).unwrap();
        assert_eq!(trap.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_directory_or_a_socket_that_others_can_enter_is_not_used() {
        let (tcp, address, base) = setting();
        let listener = Listener::beside(&tcp, Some(base.path())).unwrap();
        let path = socket_path(address, base.path());
        let set = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(&path, 0o666);
        assert!(reach(address, Some(base.path())).is_none());
        set(&path, 0o600);
        set(path.parent().unwrap(), 0o755);
        assert!(reach(address, Some(base.path())).is_none());
        drop(listener);
        let error = Listener::beside(&tcp, Some(base.path())).err().expect("others can enter");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_directory_that_is_a_link_is_not_used() {
        let (tcp, address, base) = setting();
        let _listener = Listener::beside(&tcp, Some(base.path())).unwrap();
        let other = tempfile::tempdir().unwrap();
        symlink(scratch::place(Some(base.path())), scratch::place(Some(other.path()))).unwrap();
        assert!(reach(address, Some(other.path())).is_none());
        assert!(Listener::beside(&tcp, Some(other.path())).is_err());
    }

    #[test]
    fn a_process_of_another_user_is_told_from_our_own() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = Uid::effective().as_raw();
        check_peer(&one, own).unwrap();
        assert_eq!(check_peer(&one, own + 1).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
