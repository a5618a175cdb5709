//! Shared memory without a file comes back as a memfd: inheritable, mappable, invisible but for its name in
//! /proc/PID/maps, and the only kind that processes which are not relatives can be given.

use crate::restart::checked;
use crate::state::{SharedMemory, SharedObject};
use dmtcp_plugin_api::restart::Host;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// Makes all objects: one for each that the processes shared, under the number that each of them gave it.
pub fn create(host: &Host<'_>, said: Vec<(u32, SharedObject)>) -> Result<(), String> {
    let mut made: Vec<((u32, u32, u64), OwnedFd)> = Vec::new();
    for (index, object) in said {
        let content = &object.content;
        let failed = |e: String| format!("shared memory of {} bytes cannot be made: {e}", content.size);
        let known = made.iter().position(|(identity, _)| *identity == object.identity);
        let at = match known {
            Some(at) => at,
            None => {
                made.push((object.identity, new_memory().map_err(|e| failed(e.to_string()))?));
                made.len() - 1
            }
        };
        let memory = &made[at].1;
        content.fill(host, index, memory.as_fd()).map_err(failed)?;
        host.provide(content.object, memory.try_clone().map_err(|e| failed(e.to_string()))?);
    }
    Ok(())
}

fn new_memory() -> io::Result<OwnedFd> {
    let name = CString::new(SharedMemory::MEMFD)?;
    // SAFETY: the name is zero-terminated; the result is a new descriptor that nobody else owns.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC))?)) }
}
