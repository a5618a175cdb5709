//! A program that is replaced by another one, or starts one: PRE_EXEC shows plugins its arguments and environment, which they may change,
//! and a descriptor to leave words for themselves on, which POST_EXEC gives them in the new program.
//!
//! The environment's last entry tells the core of the new program where that descriptor is ([`EXEC_STATE`]); it belongs
//! to nobody else, for a memfd has an inode of its own.
//!
//! A vfork's child shares its parent's memory, and is no member: nobody is told of what it executes.

use crate::{tell, wanted};
use dmtcp_plugin_api::abi::{EXEC_STATE, Event, PreExec};
use dmtcp_plugin_api::sys;
use libc::{c_char, c_int, c_void, pid_t};
use std::ffi::CStr;

type Argv = *const *const c_char;

/// Entries that plugins may add.
const MORE: usize = 32;
/// Bytes of the entry that tells of the descriptor.
const ENTRY: usize = 64;
const PATH: usize = libc::PATH_MAX as usize;

unsafe extern "C" {
    static environ: Argv;
}

fn count(list: Argv) -> usize {
    let mut count = 0;
    // SAFETY: lists for exec are null or end with a null pointer.
    while !list.is_null() && !unsafe { *list.add(count) }.is_null() {
        count += 1;
    }
    count
}

/// Copies a list, and gives its end.
fn copy(list: Argv, count: usize, into: *mut *const c_char) {
    for index in 0..count {
        // SAFETY: the caller has room for the entries and a null pointer.
        unsafe { into.add(index).write(*list.add(index)) };
    }
    // SAFETY: as above.
    unsafe { into.add(count).write(std::ptr::null()) };
}

/// Tells plugins what is about to be executed, and executes what they make of it. A call that replaces the program
/// returns only if it failed.
fn execute(file: *const c_char, argv: Argv, envp: Argv, run: impl Fn(*const c_char, Argv, Argv) -> c_int) -> c_int {
    if !wanted(Event::PreExec) || file.is_null() {
        return run(file, argv, envp);
    }
    let (arguments, variables) = (count(argv), count(envp));
    let (max_args, max_env) = (arguments + MORE, variables + MORE);
    let words = (max_args + max_env + 3) * size_of::<*const c_char>();
    // Mapped: a child that fails to execute anything gives it back, whatever state the allocator was forked in.
    let length = (words + PATH + ENTRY).next_multiple_of(4096);
    let Ok(start) = sys::map_anonymous(length) else { return run(file, argv, envp) };
    let new_argv = start as *mut *const c_char;
    // SAFETY: the map has room for both lists with their ends, the name, and the entry.
    let (new_envp, name) = unsafe { (new_argv.add(max_args + 1), (start as *mut u8).add(words)) };
    copy(argv, arguments, new_argv);
    copy(envp, variables, new_envp);
    // SAFETY: the program passes a zero-terminated name; it is cut to the room that it has.
    unsafe {
        let bytes = CStr::from_ptr(file).to_bytes();
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), name, bytes.len().min(PATH - 1));
    }
    // SAFETY: the name is zero-terminated. No close-on-exec: that is the point.
    let state = unsafe { sys::call(libc::SYS_memfd_create as i32, [c"dmtcp-exec".as_ptr() as usize, 0, 0, 0, 0, 0]) };
    let state = state.map_or(-1, |number| number as c_int);
    let mut payload =
        PreExec { serialization_fd: state, filename: name.cast(), max_args, argv: new_argv, max_env, envp: new_envp };
    tell(Event::PreExec, &mut payload);
    let inode = sys::fstat(state).map_or(0, |status| status.st_ino);
    let entry = format!("{EXEC_STATE}={state}:{inode}");
    let end = count(new_envp.cast_const());
    if state >= 0 && end < max_env && entry.len() < ENTRY {
        // SAFETY: the map's last bytes are the entry's, zeros behind it; the list has room for one more and its end.
        unsafe {
            let text = name.add(PATH);
            std::ptr::copy_nonoverlapping(entry.as_ptr(), text, entry.len());
            new_envp.add(end).write(text.cast());
            new_envp.add(end + 1).write(std::ptr::null());
        }
    }
    let result = run(name.cast(), new_argv, new_envp);
    sys::close(state);
    let _ = sys::unmap(start, length as u64);
    result
}

fn own_environment() -> Argv {
    // SAFETY: libc's variable; a program that changes it meanwhile races with its own exec.
    unsafe { environ }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// PRE_EXEC.
    fn execve(path: *const c_char, argv: Argv, envp: Argv) -> c_int { execute(path, argv, envp, next) }
    /// PRE_EXEC.
    fn execv(path: *const c_char, argv: Argv) -> c_int { execute(path, argv, own_environment(), execve::next) }
    /// PRE_EXEC.
    fn execvp(file: *const c_char, argv: Argv) -> c_int { execute(file, argv, own_environment(), execvpe::next) }
    /// PRE_EXEC.
    fn execvpe(file: *const c_char, argv: Argv, envp: Argv) -> c_int { execute(file, argv, envp, next) }
    /// PRE_EXEC, on the thread that spawns.
    fn posix_spawn(
        pid: *mut pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void, argv: Argv, envp: Argv,
    ) -> c_int {
        execute(path, argv, envp, |path, argv, envp| next(pid, path, actions, attributes, argv, envp))
    }
    /// As posix_spawn.
    fn posix_spawnp(
        pid: *mut pid_t, file: *const c_char, actions: *const c_void, attributes: *const c_void, argv: Argv, envp: Argv,
    ) -> c_int {
        execute(file, argv, envp, |file, argv, envp| next(pid, file, actions, attributes, argv, envp))
    }
}
