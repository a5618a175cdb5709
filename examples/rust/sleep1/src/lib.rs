//! A wrapper in Rust: says that the program sleeps, and calls the next wrapper of sleep, at last libc's. With its sibling
//! it shows that wrappers stack in the order of --with-plugin.

use dmtcp_plugin_api::{plugin, sys, wrappers};
use libc::c_uint;

wrappers! { static WRAPPERS;
    /// Says when the program sleeps.
    fn sleep(seconds: c_uint) -> c_uint {
        // Standard error may be closed: then there is nobody to tell.
        let _ = sys::write(libc::STDERR_FILENO, b"sleep1: before\n");
        next(seconds)
    }
}

plugin! {
    name: "sleep1",
    priority: 0,
    requires: [],
    wrappers: [WRAPPERS],
    init: |_| true,
}
