//! Children: how they are made, and how they are waited for.
//!
//! A fork's child notes itself, and so does its parent, whoever comes first; a child that shares its parent's memory (vfork,
//! posix_spawn) is noted by the parent, and by itself once it executes a program. What has been waited for is nobody any more.

use crate::table;
use crate::translate::{errno, fail, made, real, settled, target};
use crate::used::kin::{self, waiting};
use dmtcp_plugin_api::abi::Wrapper;
use dmtcp_plugin_api::ids::Table;
use dmtcp_plugin_api::sys;
use libc::{c_char, c_int, c_void, id_t, idtype_t, pid_t, rusage, siginfo_t};
use std::ptr::null_mut;
use std::sync::atomic::AtomicUsize;

type Argv = *const *const c_char;

/// Waits for a child by a call that takes and gives real ids. Translation may begin while it waits.
pub fn wait_for(pid: pid_t, status: *mut c_int, call: impl Fn(pid_t, *mut c_int) -> pid_t) -> pid_t {
    settled(libc::ECHILD, || wait_once(pid, status, &call))
}

#[inline(always)]
fn wait_once(pid: pid_t, status: *mut c_int, call: impl Fn(pid_t, *mut c_int) -> pid_t) -> pid_t {
    let asked = match table::current() {
        None => pid,
        Some(table) => match target(table, pid) {
            Some(real) => real,
            None => return fail(libc::ECHILD),
        },
    };
    let restarts = table::restarts();
    let mut own = 0;
    let place = if status.is_null() { &raw mut own } else { status };
    let child = call(asked, place);
    match table::current() {
        Some(table) if child > 0 => {
            // SAFETY: the kernel has just written the status of a child.
            let status = unsafe { *place };
            gone(table, pid, child, libc::WIFEXITED(status) || libc::WIFSIGNALED(status), restarts)
        }
        _ => child,
    }
}

/// The virtual id of a child that was waited for, by a call that asked for it, or for no one in particular, and that began
/// when there had been so many restarts.
fn gone(table: Table, asked: pid_t, child: pid_t, ended: bool, restarts: u32) -> pid_t {
    let id = match table.known(child) {
        // The kernel may have said what it said before a restart, and somebody else have that id now.
        _ if asked > 0 => asked,
        Some(id) => id,
        None if table::restarts() != restarts => table::former_child(child),
        None => table.ensure(child),
    };
    if ended {
        table.forget(id);
    }
    id
}

/// A child that a call has made. The parent may be stopped just when it has been given the real id, or before the child is
/// made, and go on after a restart.
#[inline(always)]
pub fn child(make: impl FnOnce() -> pid_t) -> pid_t {
    let restarts = table::restarts();
    let pid = make();
    if pid > 0 { shown_child(pid, restarts) } else { pid }
}

/// The virtual id of a child that was made since there had been so many restarts: with an id of before or of now.
pub fn shown_child(pid: pid_t, restarts: u32) -> pid_t {
    if table::restarts() != restarts && !is_child(pid) {
        return table::former_child(pid);
    }
    table::current().map_or(pid, |table| made(table, pid))
}

/// Whether this is the real id of a child.
pub fn is_child(pid: pid_t) -> bool {
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    // SAFETY: no memory is passed.
    unsafe { sys::call(libc::SYS_waitid as i32, [libc::P_PID as usize, pid as usize, 0, flags as usize, 0, 0]) }.is_ok()
}

/// A child whose real id a call writes.
fn written(pid: *mut pid_t, spawn: impl FnOnce(*mut pid_t) -> c_int) -> c_int {
    let restarts = table::restarts();
    let result = spawn(pid);
    if result == 0 && !pid.is_null() {
        // SAFETY: the call has just written there.
        unsafe { pid.write(shown_child(*pid, restarts)) };
    }
    result
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The child's virtual id.
    fn fork() -> pid_t { child(next) }
    /// The child's virtual id.
    fn forkpty(master: *mut c_int, name: *mut c_char, terminal: *const c_void, window: *const c_void) -> pid_t {
        child(|| next(master, name, terminal, window))
    }
    /// The child's virtual id.
    fn clone(
        function: *const c_void, stack: *mut c_void, flags: c_int, argument: *mut c_void, parent: *mut pid_t,
        thread: *mut c_void, child_tid: *mut pid_t,
    ) -> c_int {
        let id = child(|| next(function, stack, flags, argument, parent, thread, child_tid));
        if id > 0 && flags & libc::CLONE_PARENT_SETTID != 0 {
            // SAFETY: the kernel has written the real id there.
            unsafe { parent.write(id) };
        }
        id
    }
    /// The child's virtual id.
    fn posix_spawn(
        pid: *mut pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void, argv: Argv, envp: Argv,
    ) -> c_int { written(pid, |pid| next(pid, path, actions, attributes, argv, envp)) }
    /// The child's virtual id.
    fn posix_spawnp(
        pid: *mut pid_t, file: *const c_char, actions: *const c_void, attributes: *const c_void, argv: Argv, envp: Argv,
    ) -> c_int { written(pid, |pid| next(pid, file, actions, attributes, argv, envp)) }
    /// Both ways.
    fn wait(status: *mut c_int) -> pid_t { wait_for(-1, status, |_, status| waiting(status, null_mut(), || next(status))) }
    /// Both ways.
    fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t {
        wait_for(pid, status, |pid, status| waiting(status, null_mut(), || next(pid, status, options)))
    }
    /// Both ways.
    fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t {
        wait_for(-1, status, |_, status| waiting(status, usage, || next(status, options, usage)))
    }
    /// Both ways.
    fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t {
        wait_for(pid, status, |pid, status| waiting(status, usage, || next(pid, status, options, usage)))
    }
    /// Both ways.
    fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int {
        wait_by_id(kind, id, info, options, next)
    }
    /// libc keeps the child's id in the stream: the virtual one, too.
    fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
        let restarts = table::restarts();
        let stream = next(command, mode);
        if let Some(word) = child_of(stream) {
            *word = shown_child(*word, restarts);
        }
        stream
    }
    /// libc waits for the real id. A restart in between gives the child another one.
    fn pclose(stream: *mut libc::FILE) -> c_int {
        let restarts = table::restarts();
        let mut child = 0;
        if let Some(word) = child_of(stream) {
            child = *word;
            if let Some(now) = table::current().and_then(|table| real(table, child)) {
                *word = now;
            }
        }
        let result = next(stream);
        if result != -1 || table::restarts() == restarts || errno() != libc::ECHILD {
            return result;
        }
        let mut status = 0;
        loop {
            match waitpid::wrapper(child, &raw mut status, 0) {
                -1 if errno() == libc::EINTR => {}
                -1 => return -1,
                _ => return status,
            }
        }
    }
}

/// The place in which a stream of popen holds its child's id.
fn child_of<'a>(stream: *mut libc::FILE) -> Option<&'a mut pid_t> {
    // SAFETY: a stream of popen is followed by the child's id, as it has been since glibc 2.1.
    (!stream.is_null()).then(|| unsafe { &mut *stream.cast::<u8>().add(STREAM_LENGTH).cast::<pid_t>() })
}

/// Bytes of `struct _IO_FILE_plus`.
const STREAM_LENGTH: usize = 0xe0;

/// waitid by a call that takes and gives real ids. Translation may begin while it waits.
pub fn wait_by_id(
    kind: idtype_t,
    id: id_t,
    info: *mut siginfo_t,
    options: c_int,
    call: impl Fn(idtype_t, id_t, *mut siginfo_t, c_int) -> c_int,
) -> c_int {
    settled(libc::ECHILD, || wait_by_id_once(kind, id, info, options, &call))
}

/// Whether this is what waitid(2) says of a child that has ended.
fn has_ended(code: i32) -> bool {
    matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED)
}

#[inline(always)]
fn wait_by_id_once(
    kind: idtype_t,
    id: id_t,
    info: *mut siginfo_t,
    options: c_int,
    call: impl Fn(idtype_t, id_t, *mut siginfo_t, c_int) -> c_int,
) -> c_int {
    let by_number = kind == libc::P_PID || kind == libc::P_PGID;
    let asked = if kind == libc::P_PID { id as pid_t } else { 0 };
    let id = match table::current().filter(|_| by_number) {
        None => id,
        Some(table) => match real(table, id as i32) {
            Some(real) => real as id_t,
            None => return fail(libc::ECHILD),
        },
    };
    let restarts = table::restarts();
    // SAFETY: zeros are a valid siginfo.
    let mut own: siginfo_t = unsafe { std::mem::zeroed() };
    let place = if info.is_null() { &raw mut own } else { info };
    let result = call(kind, id, place, options);
    let words = place.cast::<i32>();
    if result == 0 && options & libc::WNOWAIT == 0 {
        // SAFETY: the call has filled it: the code is its third word, the child's id its fifth.
        let (code, child) = unsafe { (*words.add(2), *words.add(4)) };
        if child > 0 && has_ended(code) {
            kin::gone(child, null_mut(), restarts);
        }
    }
    if result == 0
        && let Some(table) = table::current()
    {
        // SAFETY: as above.
        unsafe {
            let (code, child) = (*words.add(2), words.add(4));
            let ended = has_ended(code);
            if *child > 0 {
                *child = gone(table, asked, *child, ended && options & libc::WNOWAIT == 0, restarts);
            }
        }
    }
    result
}

/// Where a vfork goes on in the parent; the high half of the second argument is of no account.
extern "C" fn vfork_done(result: isize, restarts: u32) -> c_int {
    if result < 0 { fail(-result as c_int) } else { shown_child(result as pid_t, restarts) }
}

static VFORK_SLOT: AtomicUsize = AtomicUsize::new(0);
static VFORK_NEXT: AtomicUsize = AtomicUsize::new(0);

/// vfork returns twice on one stack, so nothing of ours may be on it: what is needed waits in registers, as in libc's own,
/// which is never called: a parent that a checkpoint stops comes from the call with an id that is translated behind it.
static VFORK: Wrapper = Wrapper {
    symbol: c"vfork".as_ptr(),
    version: std::ptr::null(),
    function: vfork as *const c_void,
    stub: vfork_stub as *const c_void,
    slot: &VFORK_SLOT,
    next: &VFORK_NEXT,
    priority: 0,
    flags: 0,
};

/// The wrapper of vfork.
pub static VFORK_WRAPPERS: &[&Wrapper] = &[&VFORK];

#[unsafe(naked)]
unsafe extern "C" fn vfork() {
    core::arch::naked_asm!(
        "pop rdi",
        "mov esi, [rip + {restarts}]",
        "mov eax, 58",
        "syscall",
        "push rdi",
        "test rax, rax",
        "jnz 2f",
        "ret",
        "2:",
        "mov rdi, rax",
        "jmp {done}",
        restarts = sym table::RESTARTS,
        done = sym vfork_done,
    )
}

#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(export_name = "vfork"))]
unsafe extern "C" fn vfork_stub() {
    core::arch::naked_asm!(
        "mov r11, [rip + {slot}]",
        "test r11, r11",
        "jz 2f",
        "jmp r11",
        "2:",
        "lea r11, [rip + {wrapper}]",
        "jmp {lazy}",
        slot = sym VFORK_SLOT,
        wrapper = sym VFORK,
        lazy = sym dmtcp_plugin_api::private::lazy_stub,
    )
}
