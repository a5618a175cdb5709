//! Shared memory without a file comes back as a memfd: inheritable, mappable, invisible but for its name in
//! /proc/PID/maps, and the only kind that processes which are not relatives can be given.

use crate::restart::checked;
use crate::state::SharedMemory;
use dmtcp_plugin_api::content::Content;
use dmtcp_plugin_api::restart::Host;
use std::ffi::CString;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// Makes one object.
pub fn create(host: &Host<'_>, index: u32, content: &Content) -> Result<(), String> {
    let failed = |e: String| format!("shared memory of {} bytes cannot be made: {e}", content.size);
    let name = CString::new(SharedMemory::MEMFD).map_err(|e| failed(e.to_string()))?;
    // SAFETY: the name is zero-terminated; the result is a new descriptor that nobody else owns.
    let memory = unsafe {
        let fd = checked(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC)).map_err(|e| failed(e.to_string()))?;
        OwnedFd::from_raw_fd(fd)
    };
    content.fill(host, index, memory.as_fd()).map_err(failed)?;
    host.provide(content.object, memory);
    Ok(())
}
