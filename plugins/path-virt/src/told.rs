//! What other plugins make of a path: VIRTUAL_TO_REAL_PATH before the list is asked, REAL_TO_VIRTUAL_PATH after it. So they
//! are outside of the list: what they see and give is the program's.
//!
//! What can go wrong: a hook that writes no zero; the last byte that it could write to becomes one.

use crate::mapping::LONGEST;
use dmtcp_plugin_api::abi::{Event, RealToVirtualPath, VirtualToRealPath};
use dmtcp_plugin_api::core::core;
use std::ffi::{CStr, c_char};

/// Whether any plugin asks for an event, here and now.
#[inline]
pub fn wanted(event: Event) -> bool {
    core().is_some_and(|core| core.wanted(event))
}

fn tell<T>(event: Event, mut payload: T) {
    if let Some(core) = core() {
        core.happened(event, (&raw mut payload).cast());
    }
}

/// Calls a function with what plugins make of a path. One that is empty, or longer than any may be, is none. Apart, so
/// that a program whose plugins do not ask does not pay for the buffer.
#[inline(never)]
pub fn real<R>(path: *const c_char, function: impl FnOnce(*const c_char) -> R) -> R {
    let mut buffer = [0u8; LONGEST];
    // SAFETY: the program passes a zero-terminated path, as the wrapped function demands.
    let name = unsafe { CStr::from_ptr(path) }.to_bytes();
    if name.is_empty() || name.len() >= LONGEST {
        return function(path);
    }
    buffer[..name.len()].copy_from_slice(name);
    tell(Event::VirtualToRealPath, VirtualToRealPath { path: buffer.as_mut_ptr().cast() });
    buffer[LONGEST - 1] = 0;
    function(buffer.as_ptr().cast())
}

/// Lets plugins change a path in its buffer; its length.
pub fn own(path: &mut [u8; LONGEST]) -> usize {
    tell(Event::RealToVirtualPath, RealToVirtualPath { path: path.as_mut_ptr().cast() });
    path[LONGEST - 1] = 0;
    path.iter().position(|&byte| byte == 0).unwrap_or(LONGEST - 1)
}
