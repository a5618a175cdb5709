//! Ids of the process, the computation and the coordinator in the shape of the original's.
//!
//! The original's id is (hash of the host's name, time, pid, generation). Ours are random numbers of 128 bits, kept over
//! restarts; they fill the first two fields. What programs do with ids works: they are unique, comparable and printable.

use super::{application, files, news};
use crate::ids;
use crate::life::{checkpoint, link};
use dmtcp_plugin_api::sys;
use libc::in_addr;
use std::ffi::{c_char, c_int};

/// `DmtcpUniqueProcessId`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct UniqueId {
    host: u64,
    time: u64,
    pid: i32,
    generation: u32,
}

fn generation() -> u32 {
    news::snapshot().captured as u32
}

fn id(number: u128, pid: i32, generation: u32) -> UniqueId {
    UniqueId { host: number as u64, time: (number >> 64) as u64, pid, generation }
}

/// This process.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_uniquepid() -> UniqueId {
    let pid = ids::to_virtual(sys::pid());
    news::standing().map_or_else(UniqueId::default, |s| id(s.process, pid, generation()))
}

/// The computation.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_computation_id() -> UniqueId {
    news::standing().map_or_else(UniqueId::default, |s| id(s.computation.0, 0, generation()))
}

/// The coordinator, by its address (FNV-1a).
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_coord_id() -> UniqueId {
    let Some(standing) = news::standing() else { return UniqueId::default() };
    let hash = standing
        .host
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    UniqueId { host: hash, time: u64::from(standing.port), pid: 0, generation: 0 }
}

/// When the computation began, or was restarted: nanoseconds since 1970 on the coordinator's clock. 0: no computation.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_coordinator_timestamp() -> u64 {
    news::standing().map_or(0, |s| s.since)
}

/// IPv4 address of this machine as others see it, as `struct in_addr`.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_local_ip_addr(into: *mut in_addr) {
    let address = match news::standing() {
        Some(standing) => application::undisturbed(|| link::own_address(&standing.host)),
        None => std::net::Ipv4Addr::LOCALHOST,
    };
    if !into.is_null() {
        // SAFETY: the interface demands null or a valid pointer. The bytes are in the order of the network.
        unsafe { into.write_unaligned(in_addr { s_addr: u32::from_ne_bytes(address.octets()) }) };
    }
}

/// 1: the ids are of one process.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_unique_pids_equal(a: UniqueId, b: UniqueId) -> c_int {
    c_int::from((a.host, a.time, a.pid) == (b.host, b.time, b.pid))
}

/// The last generation that this process took part in; 0: none.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_generation() -> u32 {
    generation()
}

/// The computation as text.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_computation_id_str() -> *const c_char {
    news::standing().map_or(c"".as_ptr(), |s| s.computation_text.as_ptr())
}

/// This process as text: the part of its image's name that tells it from others.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_uniquepid_str() -> *const c_char {
    static TEXT: files::Name = files::Name::new();
    news::standing().map_or(c"".as_ptr(), |s| files::made(&TEXT, || checkpoint::process_name(s.process).into_bytes()))
}
