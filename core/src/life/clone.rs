//! clone(2) without CLONE_VM, by libc's wrapper or by syscall(2): a fork that libc knows nothing of.
//!
//! The child joins as after fork. libc's own state in it is what the program gets without us: no handlers have run, and a
//! lock that another thread of the parent held stays locked. Our thread in the child is made by libc, so a program of
//! several threads that clones itself while another one of them is inside malloc may get a child that stands still there;
//! fork(2) has no such danger.

use super::{birth, exec, exit, keeper};
use crate::threads::slot::{self, Role};
use dmtcp_plugin_api::sys;
use libc::{c_int, c_long, c_void, pid_t};

/// How long our thread may take until it says that it is one, in nanoseconds.
const START_LIMIT: u64 = 10_000_000_000;
const LOOK_AGAIN: u64 = 50_000;

type Function = extern "C" fn(*mut c_void) -> c_int;

/// What a clone's child is to run: on the parent's stack, of which it has a copy.
struct Start {
    function: Function,
    argument: *mut c_void,
}

/// A call that gives 0 in the child, which goes on here with a copy of all memory.
pub fn born(call: impl FnOnce() -> c_long) -> c_long {
    if !exec::is_carrying() {
        return call();
    }
    birth::before();
    let pid = call();
    match pid {
        0 => birth::in_child(),
        _ => birth::in_parent(),
    }
    pid
}

extern "C" fn begin(start: *mut c_void) -> c_int {
    birth::in_child();
    // SAFETY: the parent passed the address of a `Start` on its stack, and this is a copy of the parent's memory.
    let Start { function, argument } = unsafe { start.cast::<Start>().read() };
    let status = function(argument);
    // Behind this libc ends the calling thread only: our thread would keep the process.
    birth::see_off();
    await_own_thread();
    if keeper::is_last() { exit(status) } else { status }
}

/// Waits until the checkpoint thread of the calling process is known as such, which [`birth::in_child`] has just started.
fn await_own_thread() {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    let is_known = || slot::all().any(|s| s.role() == Role::Checkpoint && s.tid() != 0);
    while super::is_member() && !is_known() && sys::clock(libc::CLOCK_MONOTONIC) - start < START_LIMIT {
        sys::nap(LOOK_AGAIN);
    }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The child joins, unless it goes on in the caller's memory.
    fn clone(
        function: *const c_void, stack: *mut c_void, flags: c_int, argument: *mut c_void, parent: *mut pid_t,
        thread: *mut c_void, child: *mut pid_t,
    ) -> c_int {
        if flags & libc::CLONE_VM != 0 || function.is_null() || !exec::is_carrying() {
            return next(function, stack, flags, argument, parent, thread, child);
        }
        // SAFETY: clone takes a function of this type.
        let mut start = unsafe { Start { function: std::mem::transmute::<*const c_void, Function>(function), argument } };
        birth::before();
        let pid = next(begin as *const c_void, stack, flags, (&raw mut start).cast(), parent, thread, child);
        birth::in_parent();
        pid
    }
}
