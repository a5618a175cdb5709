//! Who a process is, and the calls that name processes, groups and sessions: signals, groups, terminals.

use crate::table;
use crate::translate::{asking, fail, own, real, settled, showing, shown, target, task, with_task, within_one_life};
use dmtcp_plugin_api::sys;
use libc::{c_int, c_ulong, c_void, pid_t, sigval};

/// What `getppid` says when the parent is a stranger whose id is somebody else's: as if nobody were left.
const INIT: pid_t = 1;

/// Begins a session, which cannot be done twice. It has the id of the process that leads it.
pub fn new_session(call: impl Fn() -> pid_t) -> pid_t {
    let session = call();
    if session > 0 { own(sys::pid) } else { session }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The virtual id.
    fn getpid() -> pid_t { own(next) }
    /// The virtual id.
    fn gettid() -> pid_t { own(next) }
    /// The virtual id of the parent.
    fn getppid() -> pid_t {
        within_one_life(|| {
            let parent = next();
            match table::current() {
                Some(table) if parent > 0 => table.shown(parent).unwrap_or(INIT),
                _ => parent,
            }
        })
    }
    /// The virtual id of the group.
    fn getpgrp() -> pid_t { showing(next) }
    /// Both ways.
    fn getpgid(pid: pid_t) -> pid_t { asking(pid, next) }
    /// Both ways.
    fn __getpgid(pid: pid_t) -> pid_t { asking(pid, next) }
    /// Both ways.
    fn getsid(pid: pid_t) -> pid_t { asking(pid, next) }
    /// The virtual id of the new session.
    fn setsid() -> pid_t { new_session(next) }
    /// Real ids.
    fn setpgid(pid: pid_t, group: pid_t) -> c_int {
        settled(libc::ESRCH, || {
            let Some(table) = table::current() else { return next(pid, group) };
            match (real(table, pid), real(table, group)) {
                (None, _) => fail(libc::ESRCH),
                (_, None) => fail(libc::EPERM),
                (Some(pid), Some(group)) => next(pid, group),
            }
        })
    }
    /// The virtual id of the group.
    fn tcgetpgrp(number: c_int) -> pid_t { showing(|| next(number)) }
    /// The virtual id of the session.
    fn tcgetsid(number: c_int) -> pid_t { showing(|| next(number)) }
    /// The real id of the group.
    fn tcsetpgrp(number: c_int, group: pid_t) -> c_int { with_task(group, |group| next(number, group)) }
    /// Real ids; an id that names nobody reaches nobody.
    fn kill(pid: pid_t, signal: c_int) -> c_int {
        settled(libc::ESRCH, || match table::current().map(|table| target(table, pid)) {
            None => next(pid, signal),
            Some(None) => fail(libc::ESRCH),
            Some(Some(pid)) => next(pid, signal),
        })
    }
    /// Real ids.
    fn killpg(group: pid_t, signal: c_int) -> c_int { with_task(group, |group| next(group, signal)) }
    /// Real ids.
    fn tgkill(process: pid_t, thread: pid_t, signal: c_int) -> c_int {
        settled(libc::ESRCH, || {
            let Some(table) = table::current() else { return next(process, thread, signal) };
            match (table.real(process), task(table, thread)) {
                (Some(process), Some(thread)) => next(process, thread, signal),
                _ if process <= 0 || thread <= 0 => next(process, thread, signal),
                _ => fail(libc::ESRCH),
            }
        })
    }
    /// The real id.
    fn sigqueue(pid: pid_t, signal: c_int, value: sigval) -> c_int { with_task(pid, |pid| next(pid, signal, value)) }
    /// The requests that pass ids. Their argument is a pointer; other requests pass what they pass.
    fn ioctl(number: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
        let Some(table) = table::current() else { return next(number, request, argument) };
        const SET_OWNER: [c_ulong; 2] = [0x8901, 0x8902];
        const GET_OWNER: [c_ulong; 2] = [0x8903, 0x8904];
        let id = argument.cast::<pid_t>();
        if request == libc::TIOCSPGRP || SET_OWNER.contains(&request) {
            if id.is_null() {
                return next(number, request, argument);
            }
            // SAFETY: these requests take a pointer to an id.
            return match target(table, unsafe { id.read() }) {
                Some(mut real) => next(number, request, (&raw mut real).cast()),
                None => fail(libc::ESRCH),
            };
        }
        let result = next(number, request, argument);
        let gets = matches!(request, libc::TIOCGPGRP | libc::TIOCGSID) || GET_OWNER.contains(&request);
        if gets && result == 0 && !id.is_null() {
            // SAFETY: the kernel has just written an id there; a group that owns a socket is negative.
            unsafe { id.write(if *id < 0 { -shown(table, -*id) } else { shown(table, *id) }) };
        }
        result
    }
    /// Owners of descriptors, and holders of locks.
    fn fcntl(number: c_int, command: c_int, argument: usize) -> c_int {
        owners(command, argument, |argument| next(number, command, argument))
    }
    /// As fcntl.
    fn fcntl64(number: c_int, command: c_int, argument: usize) -> c_int {
        owners(command, argument, |argument| next(number, command, argument))
    }
    /// The peer of a socket.
    fn getsockopt(number: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut libc::socklen_t) -> c_int {
        let result = next(number, level, name, value, length);
        if result == 0 && level == libc::SOL_SOCKET && name == libc::SO_PEERCRED
            && let Some(table) = table::current()
        {
            // SAFETY: the kernel has filled as many bytes as `length` says; the id comes first.
            unsafe {
                if *length as usize >= size_of::<pid_t>() {
                    let id = value.cast::<pid_t>();
                    id.write_unaligned(shown(table, id.read_unaligned()));
                }
            }
        }
        result
    }
    /// The virtual id of the process.
    fn getpriority(which: c_int, who: c_int) -> c_int {
        if which == libc::PRIO_USER as c_int { return next(which, who); }
        with_task(who, |who| next(which, who))
    }
    /// The real id.
    fn setpriority(which: c_int, who: c_int, priority: c_int) -> c_int {
        if which == libc::PRIO_USER as c_int { return next(which, who, priority); }
        with_task(who, |who| next(which, who, priority))
    }
    /// The real id.
    fn pidfd_open(pid: pid_t, flags: u32) -> c_int { with_task(pid, |pid| next(pid, flags)) }
    /// The virtual id.
    fn pidfd_getpid(number: c_int) -> pid_t { showing(|| next(number)) }
    /// The real id.
    fn process_vm_readv(
        pid: pid_t, local: *const libc::iovec, locals: c_ulong, remote: *const libc::iovec, remotes: c_ulong, flags: c_ulong,
    ) -> isize {
        with_task(pid, |pid| next(pid, local, locals, remote, remotes, flags) as i64) as isize
    }
    /// The real id.
    fn process_vm_writev(
        pid: pid_t, local: *const libc::iovec, locals: c_ulong, remote: *const libc::iovec, remotes: c_ulong, flags: c_ulong,
    ) -> isize {
        with_task(pid, |pid| next(pid, local, locals, remote, remotes, flags) as i64) as isize
    }
    /// The real id.
    fn prlimit(pid: pid_t, which: c_int, new: *const c_void, old: *mut c_void) -> c_int {
        with_task(pid, |pid| next(pid, which, new, old))
    }
    /// The real id.
    fn prlimit64(pid: pid_t, which: c_int, new: *const c_void, old: *mut c_void) -> c_int {
        with_task(pid, |pid| next(pid, which, new, old))
    }
    /// The real id.
    fn sched_setattr(pid: pid_t, attributes: *mut c_void, flags: u32) -> c_int {
        with_task(pid, |pid| next(pid, attributes, flags))
    }
    /// The real id.
    fn sched_getattr(pid: pid_t, attributes: *mut c_void, size: u32, flags: u32) -> c_int {
        with_task(pid, |pid| next(pid, attributes, size, flags))
    }
    /// The real id.
    fn sched_setscheduler(pid: pid_t, policy: c_int, parameters: *const c_void) -> c_int {
        with_task(pid, |pid| next(pid, policy, parameters))
    }
    /// The real id.
    fn sched_getscheduler(pid: pid_t) -> c_int { with_task(pid, next) }
    /// The real id.
    fn sched_setparam(pid: pid_t, parameters: *const c_void) -> c_int { with_task(pid, |pid| next(pid, parameters)) }
    /// The real id.
    fn sched_getparam(pid: pid_t, parameters: *mut c_void) -> c_int { with_task(pid, |pid| next(pid, parameters)) }
    /// The real id.
    fn sched_rr_get_interval(pid: pid_t, time: *mut c_void) -> c_int { with_task(pid, |pid| next(pid, time)) }
    /// The real id.
    fn sched_setaffinity(pid: pid_t, size: usize, set: *const c_void) -> c_int {
        with_task(pid, |pid| next(pid, size, set))
    }
    /// The real id.
    fn sched_getaffinity(pid: pid_t, size: usize, set: *mut c_void) -> c_int {
        with_task(pid, |pid| next(pid, size, set))
    }
}

/// fcntl(2) with the ids in its arguments translated.
#[inline(always)]
pub fn owners(command: c_int, argument: usize, call: impl FnOnce(usize) -> c_int) -> c_int {
    match (table::current(), command) {
        (
            Some(table),
            libc::F_SETOWN | libc::F_GETOWN | F_SETOWN_EX | F_GETOWN_EX | libc::F_GETLK | libc::F_OFD_GETLK,
        ) => translated(table, command, argument, call),
        _ => call(argument),
    }
}

const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;

fn translated(
    table: dmtcp_plugin_api::ids::Table,
    command: c_int,
    argument: usize,
    call: impl FnOnce(usize) -> c_int,
) -> c_int {
    let signed = |id: i32| if id < 0 { -shown(table, -id) } else { shown(table, id) };
    match command {
        libc::F_SETOWN => match target(table, argument as i32) {
            Some(id) => call(id as usize),
            None => fail(libc::ESRCH),
        },
        libc::F_GETOWN => {
            let id = call(argument);
            if id == -1 { id } else { signed(id) }
        }
        F_SETOWN_EX => {
            // SAFETY: this command takes a pointer to a kind and an id.
            let [kind, id] = unsafe { *(argument as *const [i32; 2]) };
            match task(table, id) {
                Some(real) => {
                    let owner = [kind, real];
                    call((&raw const owner) as usize)
                }
                None => fail(libc::ESRCH),
            }
        }
        _ => {
            let result = call(argument);
            if result == 0 {
                let id = if command == F_GETOWN_EX {
                    (argument as *mut i32).wrapping_add(1)
                } else {
                    let lock = argument as *mut libc::flock;
                    // SAFETY: the kernel has just filled it.
                    unsafe { &raw mut (*lock).l_pid }
                };
                // SAFETY: as above.
                unsafe { id.write(signed(*id)) };
            }
            result
        }
    }
}
