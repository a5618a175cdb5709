//! A plugin that comes late and has a wrapper that comes early; wrappers of a function that has two
//! versions, and of one that comes late.

use dmtcp_plugin_api::{plugin, sys, wrappers};
use libc::{c_int, c_uint};

wrappers! { static WRAPPERS;
    /// First in its chain, whatever the plugin's priority is.
    #[priority(-1)]
    fn sleep(seconds: c_uint) -> c_uint {
        // Standard error may be closed: then there is nobody to tell.
        let _ = sys::write(libc::STDERR_FILENO, b"early: before\n");
        next(seconds)
    }
    /// Hides a function of a library that comes by dlopen; what it calls may throw.
    fn call_back(function: extern "C" fn(c_int) -> c_int, argument: c_int) -> c_int {
        next(function, argument)
    }
    /// Calls the version that the library keeps for old programs.
    #[version("OLD_1.0")]
    fn answer_of_a_version() -> c_int {
        1000 + next()
    }
    /// Calls the version that new programs get.
    fn answer_by_default() -> c_int {
        1000 + next()
    }
}

plugin! {
    name: "early",
    priority: 50,
    requires: [],
    wrappers: [WRAPPERS],
    init: |_| true,
}
