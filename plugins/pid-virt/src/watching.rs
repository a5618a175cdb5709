//! Who watches whom, and what one may do: ptrace(2), the tracer that prctl(2) names, capget(2) and capset(2).
//!
//! A process that is traced cannot be checkpointed, so what matters here lies between two checkpoints.

use crate::signals::show_sender;
use crate::table;
use crate::translate::{fail, made, task, with_task};
use dmtcp_plugin_api::sys;
use libc::{c_int, c_long, c_uint, c_ulong, c_void, pid_t, siginfo_t};

/// What a stop is for, in the code of its signal: births and programs leave the id of another task as their message.
const BIRTHS_AND_PROGRAMS: std::ops::RangeInclusive<c_int> = libc::PTRACE_EVENT_FORK..=libc::PTRACE_EVENT_EXEC;
const VFORK_DONE: c_int = libc::PTRACE_EVENT_VFORK_DONE;
/// Whom PR_SET_PTRACER lets trace: nobody, everybody.
const NOBODY: c_ulong = 0;
const EVERYBODY: c_ulong = c_ulong::MAX;
const PR_SCHED_CORE: c_int = 62;

/// Whether the message of a stop is the id of a task.
fn message_is_an_id(real: pid_t) -> bool {
    let mut info = [0i32; 32];
    let request = libc::PTRACE_GETSIGINFO as usize;
    // SAFETY: the kernel writes one siginfo.
    let told =
        unsafe { sys::call(libc::SYS_ptrace as i32, [request, real as usize, 0, info.as_mut_ptr() as usize, 0, 0]) };
    let event = info[2] >> 8;
    told.is_ok() && (BIRTHS_AND_PROGRAMS.contains(&event) || event == VFORK_DONE)
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The real id of who is traced; virtual ones in what its stops tell.
    fn ptrace(request: c_uint, pid: pid_t, address: *mut c_void, data: *mut c_void) -> c_long {
        if request == libc::PTRACE_TRACEME || table::current().is_none() {
            return next(request, pid, address, data);
        }
        let result = with_task(pid, |real| {
            let result = next(request, real, address, data);
            if request == libc::PTRACE_GETEVENTMSG && result == 0 && message_is_an_id(real)
                && let Some(table) = table::current()
            {
                let message = data.cast::<c_ulong>();
                // SAFETY: the kernel has just written the message there.
                unsafe { message.write(made(table, *message as pid_t) as c_ulong) };
            }
            result
        });
        if request == libc::PTRACE_GETSIGINFO && result == 0
            && let Some(table) = table::current()
        {
            show_sender(table, data.cast::<siginfo_t>());
        }
        result
    }
    /// The real id of who may trace the caller, and of who shares its processors.
    fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int {
        let Some(table) = table::current() else { return next(option, a, b, c, d) };
        match option {
            libc::PR_SET_PTRACER if a != NOBODY && a != EVERYBODY => match task(table, a as pid_t) {
                Some(real) => next(option, real as c_ulong, b, c, d),
                None => fail(libc::EINVAL),
            },
            PR_SCHED_CORE => with_task(b as pid_t, |real| next(option, a, real as c_ulong, c, d)),
            _ => next(option, a, b, c, d),
        }
    }
    /// The head says whose rights are asked for.
    fn capget(head: *mut [c_int; 2], data: *mut c_void) -> c_int {
        with_head(head, |head| next(head, data))
    }
    /// As capget.
    fn capset(head: *mut [c_int; 2], data: *const c_void) -> c_int {
        with_head(head, |head| next(head, data))
    }
}

/// Calls with a head that holds the real id. The kernel may write the version that it prefers.
fn with_head(head: *mut [c_int; 2], call: impl Fn(*mut [c_int; 2]) -> c_int) -> c_int {
    if table::current().is_none() || head.is_null() {
        return call(head);
    }
    // SAFETY: the program passes a version and an id.
    let [version, pid] = unsafe { head.read() };
    with_task(pid, |real| {
        let mut copy = [version, real];
        let result = call(&raw mut copy);
        // SAFETY: as above.
        unsafe { head.write([copy[0], pid]) };
        result
    })
}
