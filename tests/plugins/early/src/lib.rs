//! A plugin that comes late and has a wrapper that comes early; wrappers of a function that has two versions, of one that
//! comes late, of one with any number of arguments, and of one that returns twice.

use dmtcp_plugin_api::{pass_through, plugin, sys, wrappers};
use libc::{c_int, c_uint};
use std::sync::atomic::AtomicU32;

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

pass_through! { static PASSED;
    /// Says where the text goes.
    fn dprintf => printed;
    /// Says that it is called.
    fn vfork if IS_ON => forked;
    /// Says nothing.
    fn getppid if IS_OFF => forked;
}

static IS_ON: AtomicU32 = AtomicU32::new(1);
static IS_OFF: AtomicU32 = AtomicU32::new(0);

fn printed(arguments: &[usize; 6]) {
    let _ = sys::write(libc::STDERR_FILENO, format!("early: dprintf to {}\n", arguments[0]).as_bytes());
}

fn forked(_: &[usize; 6]) {
    let _ = sys::write(libc::STDERR_FILENO, b"early: vfork\n");
}

plugin! {
    name: "early",
    priority: 50,
    requires: [],
    wrappers: [WRAPPERS, PASSED],
    init: |_| true,
}
