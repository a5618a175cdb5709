//! system, popen, wordexp: libc starts a shell itself, with the environment of the program.
//!
//! A restart brings that environment up to date as far as there is room in it. What did not fit is set here, in the thread
//! of the program that asks for the shell, as the program itself could do it: by setenv, which may allocate.

use super::exec;
use libc::{FILE, c_char, c_int, c_void};

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// With the environment of now.
    fn system(command: *const c_char) -> c_int {
        exec::set_stale();
        next(command)
    }
    /// With the environment of now.
    fn popen(command: *const c_char, mode: *const c_char) -> *mut FILE {
        exec::set_stale();
        next(command, mode)
    }
    /// With the environment of now.
    fn wordexp(words: *const c_char, into: *mut c_void, flags: c_int) -> c_int {
        exec::set_stale();
        next(words, into, flags)
    }
}
