//! A plugin that saves descriptors of a kind that no other plugin knows: UDP sockets that are bound to an IPv4 address and
//! connected to nobody. The in-process half claims them at the broker of descriptors (plugin `ipc`) and notes their addresses;
//! the restart half makes sockets that are bound to the same, and the broker puts them where they were.
//!
//! Datagrams that nobody has received yet are lost by a restart, as datagrams may be.

use dmtcp_plugin_api::core::core;
use dmtcp_plugin_api::descriptors::{self, Claimer, Descriptor};
use dmtcp_plugin_api::restart::{Host, RestartHalf};
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{hook, plugin, restart_half, sys};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;

/// One socket, as the image has it.
#[derive(Serialize, Deserialize)]
struct Socket {
    object: u64,
    address: [u8; 4],
    port: u16,
    nonblocking: bool,
}

/// The name of the section.
const SECTION: &str = "sockets";

// The in-process half: raw system calls only.

plugin! {
    name: "datagrams",
    // After the broker, which a smaller number has.
    priority: 100,
    requires: ["descriptors"],
    wrappers: [],
    init: |_| true,
}

hook!(Init, |core| {
    descriptors::register(core, &CLAIMER);
});

static CLAIMER: Claimer = Claimer { name: c"datagrams".as_ptr(), priority: 100, begin, claim, describe };

/// What was claimed in this round.
static SOCKETS: Round<Vec<Socket>> = Round::new(Vec::new());

extern "C" fn begin() {
    drop(SOCKETS.take());
}

extern "C" fn claim(descriptor: &Descriptor) -> bool {
    if !descriptor.link().starts_with(b"socket:[") {
        return false;
    }
    // Whatever this is not sure of is left to others, and reported if nobody wants it.
    let Some(socket) = look(descriptor) else { return false };
    SOCKETS.with(|sockets| sockets.push(socket)).is_some()
}

extern "C" fn describe() {
    if let Some(core) = core() {
        core.json(SECTION, &SOCKETS.take());
    }
}

fn look(descriptor: &Descriptor) -> Option<Socket> {
    if option(descriptor.copy, libc::SO_TYPE) != Some(libc::SOCK_DGRAM) {
        return None;
    }
    let bound = name(descriptor.copy, libc::SYS_getsockname)?;
    // One that is connected tells its peer.
    if i32::from(bound.sin_family) != libc::AF_INET || name(descriptor.copy, libc::SYS_getpeername).is_some() {
        return None;
    }
    Some(Socket {
        object: descriptor.object,
        address: bound.sin_addr.s_addr.to_ne_bytes(),
        port: u16::from_be(bound.sin_port),
        nonblocking: descriptor.flags & libc::O_NONBLOCK != 0,
    })
}

/// An integer of the socket level.
fn option(socket: i32, which: i32) -> Option<i32> {
    let (mut value, mut length) = (0i32, size_of::<i32>() as libc::socklen_t);
    let (at, length_at) = ((&raw mut value) as usize, (&raw mut length) as usize);
    let arguments = [socket as usize, libc::SOL_SOCKET as usize, which as usize, at, length_at, 0];
    // SAFETY: the kernel writes no more than `length` bytes to `value`, and the length.
    unsafe { sys::call(libc::SYS_getsockopt as i32, arguments) }.ok().map(|_| value)
}

/// An address of the socket, if it is of IPv4.
fn name(socket: i32, call: libc::c_long) -> Option<libc::sockaddr_in> {
    let mut name =
        libc::sockaddr_in { sin_family: 0, sin_port: 0, sin_addr: libc::in_addr { s_addr: 0 }, sin_zero: [0; 8] };
    let mut length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let arguments = [socket as usize, (&raw mut name) as usize, (&raw mut length) as usize, 0, 0, 0];
    // SAFETY: the kernel writes no more than `length` bytes to `name`, and the length that it would have needed.
    unsafe { sys::call(call as i32, arguments) }.ok()?;
    (length as usize == size_of::<libc::sockaddr_in>()).then_some(name)
}

// The restart half: an ordinary program.

restart_half!("datagrams", Half);

#[derive(Default)]
struct Half;

impl Half {
    fn sockets(host: &Host<'_>, index: u32) -> Result<Vec<Socket>, String> {
        Ok(host.json(index, SECTION)?.unwrap_or_default())
    }
}

impl RestartHalf for Half {
    fn check(&self, host: &Host<'_>) -> Vec<String> {
        (0..host.process_count()).filter_map(|index| Self::sockets(host, index).err()).collect()
    }

    fn create(&self, host: &Host<'_>) -> Result<(), String> {
        for index in 0..host.process_count() {
            for Socket { object, address, port, nonblocking } in Self::sockets(host, index)? {
                let name = SocketAddrV4::new(Ipv4Addr::from(address), port);
                let make = || -> std::io::Result<OwnedFd> {
                    let socket = UdpSocket::bind(name)?;
                    socket.set_nonblocking(nonblocking)?;
                    Ok(socket.into())
                };
                host.provide(object, make().map_err(|e| format!("UDP socket {name}: it cannot be bound again: {e}"))?);
            }
        }
        Ok(())
    }

    fn place(&self, _: &Host<'_>, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn explain(&self, host: &Host<'_>, index: u32) -> String {
        let sockets = Self::sockets(host, index).unwrap_or_default();
        sockets.iter().map(|s| format!("  UDP socket {}:{}\n", Ipv4Addr::from(s.address), s.port)).collect()
    }
}
