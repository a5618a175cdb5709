//! Processes of this host that stand still (SIGSTOP), found by their connections.
//!
//! The pid that a process gives of itself may be one of another pid namespace, so it is not asked. The kernel tells which
//! socket is the other end of a connection (/proc/net/tcp), and which stopped process holds it (the descriptor table of
//! its checkpoint thread, which is not that of the process). What cannot be looked at is left alone: then the generation
//! fails in its time and names the process.

use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Name of a checkpoint thread.
const CHECKPOINT_THREAD: &str = "dmtcp";

/// Inode of the socket that a checkpoint thread of a stopped process holds, and the process.
pub fn stopped() -> BTreeMap<u64, Pid> {
    let mut found = BTreeMap::new();
    for pid in numbers("/proc").filter(|pid| is_stopped(*pid)) {
        for tid in numbers(&format!("/proc/{pid}/task")) {
            let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default();
            if name.trim_end() != CHECKPOINT_THREAD {
                continue;
            }
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

/// Inode of the socket at the other end of a connection, if it is of this host.
pub fn other_end(ours: SocketAddr, theirs: SocketAddr) -> Option<u64> {
    let (ours, theirs) = (spell(ours), spell(theirs));
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().find_map(|line| inode_of(line, &theirs, &ours))
    })
}

/// The inode in a line of /proc/net/tcp, if the line is about this connection.
fn inode_of(line: &str, local: &str, remote: &str) -> Option<u64> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let same = words.next() == Some(local) && words.next() == Some(remote);
    // Between the addresses and the inode: state, queues, timer, retransmissions, user, timeout.
    same.then(|| words.nth(6)?.parse().ok()).flatten()
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
            assert_eq!(other_end(server.local_addr().unwrap(), theirs), socket_inode(link.to_str().unwrap()));
        }
    }
}
