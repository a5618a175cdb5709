//! Processes of this host that stand still (SIGSTOP), found by their connections.
//!
//! The pid that a process gives of itself may be one of another pid namespace, so it is not asked. The kernel tells who
//! connected by a unix socket, as this process would name it; for TCP it tells which socket is the other end of a
//! connection (/proc/net/tcp), and which stopped process holds it (the descriptor table of its checkpoint thread, which is
//! not that of the process, and has no name of its own yet right after it has joined). What cannot be looked at is left
//! alone: then the generation fails in its time and names the process.

use crate::computation::ClientId;
use crate::stream::{Peer, Stream};
use nix::unistd::Pid;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Those of these clients that stand still, and their pids.
pub fn among<'a>(clients: impl Iterator<Item = (ClientId, &'a Stream)>) -> Vec<(ClientId, Pid)> {
    let mut remote = Vec::new();
    let mut standing = Vec::new();
    for (client, peer) in clients.filter_map(|(client, stream)| Some((client, stream.peer()?))) {
        match peer {
            Peer::Process(number) if is_stopped(number) => standing.push((client, Pid::from_raw(number))),
            Peer::Process(_) => {}
            Peer::Addresses(ours, theirs) => remote.push((client, ours, theirs)),
        }
    }
    if remote.is_empty() {
        return standing;
    }
    let holders = holders();
    if !holders.is_empty() {
        let sockets = Sockets::look();
        let holder = |(client, ours, theirs)| Some((client, *holders.get(&sockets.other_end(ours, theirs)?)?));
        standing.extend(remote.into_iter().filter_map(holder));
    }
    standing
}

/// Inodes of the sockets that threads of stopped processes hold, and the process.
fn holders() -> BTreeMap<u64, Pid> {
    let mut found = BTreeMap::new();
    for pid in numbers("/proc").filter(|pid| is_stopped(*pid)) {
        for tid in numbers(&format!("/proc/{pid}/task")) {
            for entry in fs::read_dir(format!("/proc/{pid}/task/{tid}/fd")).into_iter().flatten().flatten() {
                let link = fs::read_link(entry.path()).unwrap_or_default();
                if let Some(inode) = link.to_str().and_then(socket_inode) {
                    found.insert(inode, Pid::from_raw(pid));
                }
            }
        }
    }
    found
}

/// The TCP sockets of this host.
struct Sockets {
    /// Inodes, by local and remote address as the kernel spells them.
    inodes: HashMap<(String, String), u64>,
}

impl Sockets {
    /// Looks once for all connections: the table is as long as there are processes, and more.
    fn look() -> Self {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
        Self { inodes: tables.iter().flat_map(|text| text.lines()).filter_map(socket).collect() }
    }

    /// Inode of the socket at the other end of a connection, if it is of this host.
    fn other_end(&self, ours: SocketAddr, theirs: SocketAddr) -> Option<u64> {
        self.inodes.get(&(spell(theirs), spell(ours))).copied()
    }
}

/// Addresses and inode in a line of /proc/net/tcp.
fn socket(line: &str) -> Option<((String, String), u64)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let ends = (words.next()?.to_string(), words.next()?.to_string());
    // Between the addresses and the inode: state, queues, timer, retransmissions, user, timeout.
    Some((ends, words.nth(6)?.parse().ok()?))
}

/// An address as /proc/net/tcp has it: words of the machine's byte order, port.
fn spell(address: SocketAddr) -> String {
    let bytes: Vec<u8> = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let word = |b: &[u8]| format!("{:08X}", u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    format!("{}:{:04X}", bytes.chunks_exact(4).map(word).collect::<String>(), address.port())
}

fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn numbers(directory: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_stopped(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn the_other_end_of_a_connection_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let host = if address.contains("::1") { "::1" } else { "127.0.0.1" };
            let client = TcpStream::connect((host, port)).unwrap();
            let (server, theirs) = listener.accept().unwrap();
            let link = fs::read_link(format!("/proc/self/fd/{}", client.as_raw_fd())).unwrap();
            let found = Sockets::look().other_end(server.local_addr().unwrap(), theirs);
            assert_eq!(found, socket_inode(link.to_str().unwrap()));
        }
    }
}
