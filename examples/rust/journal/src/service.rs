//! The service `journal`, as those see it who use it. A plugin that is shipped alone would have this in a small crate of its
//! own, which both depend on.

use std::ffi::{CStr, c_char};

/// Name of the service; its table is a [`Journal`].
pub const SERVICE: &CStr = c"journal";

/// The functions that the service consists of. It only grows at its end.
#[repr(C)]
pub struct Journal {
    /// Counts something that has happened, in any thread, also in a wrapper. The name is zero-terminated and lives for ever;
    /// its address tells one thing from another.
    pub count: unsafe extern "C" fn(name: *const c_char),
}
