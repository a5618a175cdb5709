//! exec and spawn: whatever environment a program gives, ours goes with it.
//!
//! The variables of [`names::CARRIED`] are put back as they are now: a program may have emptied its environment, kept a copy from
//! before a restart (shells do), or set an `LD_PRELOAD` of its own, which then comes after ours. Calls inside libc (system,
//! popen) take `environ`, which a restart brings up to date as far as there is room in it; [`super::shells`] does the rest.
//!
//! Who is asked to stop does so before the call; from there to its end our signal is blocked, so that no restart comes
//! between the making of an environment and its use. A signal of ours that is pending at an exec, also at one past libc, is
//! forgotten by the kernel ([`crate::threads::stop::CODE`]).
//!
//! These wrappers also run in a vfork's child, which shares its parent's memory: they allocate on the stack, or map.

use crate::host::late::pass_dlsym;
use crate::{config, signal};
use dmtcp_plugin_api::sys;
use dmtcp_protocol::env as names;
use libc::{c_char, c_int, c_void, pid_t};
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

/// A null-terminated array of texts.
pub type Argv = *const *const c_char;
type FileActions = *const c_void;
type Attributes = *const c_void;

const PRELOAD: &str = "LD_PRELOAD";

/// `NAME=VALUE` of every carried variable that is set, and what we preload.
pub struct Carried {
    entries: Vec<CString>,
    preload: String,
}

static CURRENT: AtomicPtr<Carried> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Notes the variables as they are in the environment now.
pub fn note() {
    let entries = names::CARRIED
        .iter()
        .filter_map(|name| CString::new(format!("{name}={}", config::variable(name)?)).ok())
        .collect();
    let preload = config::variable(names::HIJACK_LIBS).or_else(|| config::variable(PRELOAD)).unwrap_or_default();
    // Leaked: another thread may be in an exec that fails.
    CURRENT.store(Box::leak(Box::new(Carried { entries, preload })), Ordering::Release);
}

/// Changes the noted values; `None`: nothing goes along.
pub fn carry(changes: &[(&str, String)]) -> Option<&'static Carried> {
    // SAFETY: leaked when it was stored.
    let before = unsafe { CURRENT.load(Ordering::Acquire).as_ref() }?;
    let mut entries = before.entries.clone();
    for (name, value) in changes {
        let Ok(entry) = CString::new(format!("{name}={value}")) else { continue };
        let has_name = |e: &CString| is_named(e.as_bytes(), name);
        match entries.iter_mut().find(|e| has_name(e)) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }
    let new: &'static Carried = Box::leak(Box::new(Carried { entries, preload: before.preload.clone() }));
    CURRENT.store(std::ptr::from_ref(new).cast_mut(), Ordering::Release);
    Some(new)
}

/// After a restart: the coordinator and directories may be others. Changes the noted values, and the program's own copies
/// where the new value is not longer.
pub fn renew(changes: &[(&str, String)]) {
    let Some(new) = carry(changes) else { return };
    // SAFETY: the application's threads are stopped. The strings are the program's (it may free them), so they are written
    // in place, never made longer; the array is not touched.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            let old = CStr::from_ptr(*at).to_bytes();
            let renewed = new.entries.iter().find(|e| name_of(old) == name_of(e.as_bytes()));
            match renewed.filter(|e| e.as_bytes() != old) {
                Some(entry) if entry.as_bytes().len() <= old.len() => {
                    let bytes = entry.as_bytes_with_nul();
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), (*at).cast(), bytes.len());
                }
                Some(_) => STALE.store(true, Ordering::Release),
                None => {}
            }
            at = at.add(1);
        }
    }
}

/// Whether the program's environment has old values that were too short for the new ones.
static STALE: AtomicBool = AtomicBool::new(false);

type SetVariable = unsafe extern "C" fn(*const c_char, *const c_char, c_int) -> c_int;

/// Sets the values that were too long for the program's environment, if it has a variable of that name. On a thread of the
/// program, where it could do the same.
pub fn set_stale() {
    // A child of vfork's must leave its parent's environment alone.
    if !STALE.load(Ordering::Acquire) || !super::is_member() || !STALE.swap(false, Ordering::AcqRel) {
        return;
    }
    // SAFETY: leaked when it was stored; libc's function, or the program's own in its place, has this type; the texts end
    // with zeros.
    unsafe {
        let function = pass_dlsym(std::ptr::null_mut(), c"setenv".as_ptr());
        let Some(current) = CURRENT.load(Ordering::Acquire).as_ref().filter(|_| !function.is_null()) else { return };
        let set: SetVariable = std::mem::transmute(function);
        for entry in &current.entries {
            let Ok(name) = CString::new(name_of(entry.as_bytes())) else { continue };
            let value = entry.as_ptr().add(name.as_bytes().len() + 1);
            if config::variable(&name.to_string_lossy()).is_some() {
                set(name.as_ptr(), value, 1);
            }
        }
    }
}

fn name_of(entry: &[u8]) -> &[u8] {
    entry.split(|&b| b == b'=').next().unwrap_or_default()
}

fn is_named(entry: &[u8], name: &str) -> bool {
    name_of(entry) == name.as_bytes()
}

/// Room for an environment: an array of pointers and one text, mapped, so that a vfork's child takes nothing from its
/// parent's allocator.
struct Room {
    start: u64,
    length: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = sys::unmap(self.start, self.length as u64);
    }
}

/// Calls `run` with the environment that a program is to get.
fn with_environment<R>(given: Argv, run: impl FnOnce(Argv) -> R) -> R {
    // SAFETY: leaked when it was stored.
    let carried = unsafe { CURRENT.load(Ordering::Acquire).as_ref() };
    let Some(carried) = carried else { return run(given) };
    let mut count = 0;
    // SAFETY: an environment is a null-terminated array of zero-terminated strings, or null.
    unsafe {
        while !given.is_null() && !(*given.add(count)).is_null() {
            count += 1;
        }
    }
    let entry = |index: usize| {
        // SAFETY: `index` is below `count`.
        unsafe { CStr::from_ptr(*given.add(index)) }.to_bytes()
    };
    let theirs = (0..count).map(entry).find_map(|e| e.strip_prefix(b"LD_PRELOAD="));
    let preload_room = PRELOAD.len() + 2 + carried.preload.len() + 1 + theirs.map_or(0, <[u8]>::len) + 1;
    let pointers = (count + carried.entries.len() + 2) * size_of::<*const c_char>();
    let length = (pointers + preload_room).next_multiple_of(4096);
    let Ok(start) = sys::map_anonymous(length) else { return run(given) };
    let room = Room { start, length };
    let array = room.start as *mut *const c_char;
    let mut filled = 0;
    let mut push = |pointer: *const c_char| {
        // SAFETY: the array has room for the given entries, ours, the preload entry and the terminator.
        unsafe { array.add(filled).write(pointer) };
        filled += 1;
    };
    for index in 0..count {
        let name = name_of(entry(index));
        if name != PRELOAD.as_bytes() && !carried.entries.iter().any(|e| name_of(e.as_bytes()) == name) {
            // SAFETY: `index` is below `count`.
            push(unsafe { *given.add(index) });
        }
    }
    for ours in &carried.entries {
        push(ours.as_ptr());
    }
    let text = (room.start as usize + pointers) as *mut u8;
    let mut at = 0;
    let mut append = |bytes: &[u8]| {
        // SAFETY: the text was measured above.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), text.add(at), bytes.len()) };
        at += bytes.len();
    };
    append(b"LD_PRELOAD=");
    append(carried.preload.as_bytes());
    if let Some(theirs) = theirs.filter(|t| !t.starts_with(carried.preload.as_bytes()) && !t.is_empty()) {
        append(b":");
        append(theirs);
    } else if let Some(theirs) = theirs {
        append(&theirs[carried.preload.len().min(theirs.len())..]);
    }
    append(&[0]);
    push(text.cast());
    push(std::ptr::null());
    let result = run(array);
    drop(room);
    result
}

fn own_environment() -> Argv {
    // SAFETY: reads libc's variable; a program that changes it meanwhile races with its own exec.
    unsafe { environ.cast::<*const c_char>() }
}

/// How many threads of this process are replacing its program now.
static REPLACING: AtomicU32 = AtomicU32::new(0);

/// Whether a thread blocks our signal because its program is being replaced: it must not be made to take it.
pub fn is_underway() -> bool {
    REPLACING.load(Ordering::Acquire) != 0
}

/// In a fork's child: other threads are not here.
pub fn after_fork() {
    REPLACING.store(0, Ordering::Release);
}

/// As [`with_environment`], for calls that replace the calling program.
pub fn replacing(given: Argv, run: impl FnOnce(Argv) -> c_int) -> c_int {
    // A vfork's child counts in its parent's memory, and nobody would take it back.
    let own = u32::from(super::is_member());
    if own != 0 {
        super::settle_program();
    }
    REPLACING.fetch_add(own, Ordering::AcqRel);
    let mask = signal::block();
    let result = with_environment(given, run);
    // Only a call that failed returns. libc's errno is not touched by raw calls.
    signal::set_mask(mask);
    REPLACING.fetch_sub(own, Ordering::AcqRel);
    result
}

/// Whether the calling process's programs are to be carried along.
pub fn is_carrying() -> bool {
    config::config().is_some()
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// Ours goes along.
    fn execve(path: *const c_char, argv: Argv, envp: Argv) -> c_int {
        if !is_carrying() { return next(path, argv, envp); }
        replacing(envp, |envp| next(path, argv, envp))
    }
    /// Ours goes along.
    fn execv(path: *const c_char, argv: Argv) -> c_int {
        if !is_carrying() { return next(path, argv); }
        replacing(own_environment(), |envp| execve::next(path, argv, envp))
    }
    /// Ours goes along.
    fn execvp(file: *const c_char, argv: Argv) -> c_int {
        if !is_carrying() { return next(file, argv); }
        replacing(own_environment(), |envp| execvpe::next(file, argv, envp))
    }
    /// Ours goes along.
    fn execvpe(file: *const c_char, argv: Argv, envp: Argv) -> c_int {
        if !is_carrying() { return next(file, argv, envp); }
        replacing(envp, |envp| next(file, argv, envp))
    }
    /// Ours goes along.
    fn fexecve(number: c_int, argv: Argv, envp: Argv) -> c_int {
        if !is_carrying() { return next(number, argv, envp); }
        replacing(envp, |envp| next(number, argv, envp))
    }
    /// Ours goes along.
    fn execveat(directory: c_int, path: *const c_char, argv: Argv, envp: Argv, flags: c_int) -> c_int {
        if !is_carrying() { return next(directory, path, argv, envp, flags); }
        replacing(envp, |envp| next(directory, path, argv, envp, flags))
    }
    /// Ours goes along.
    fn posix_spawn(
        pid: *mut pid_t, path: *const c_char, actions: FileActions, attributes: Attributes, argv: Argv, envp: Argv,
    ) -> c_int {
        if !is_carrying() { return next(pid, path, actions, attributes, argv, envp); }
        with_environment(envp, |envp| next(pid, path, actions, attributes, argv, envp))
    }
    /// Ours goes along.
    fn pidfd_spawn(
        pidfd: *mut c_int, path: *const c_char, actions: FileActions, attributes: Attributes, argv: Argv, envp: Argv,
    ) -> c_int {
        if !is_carrying() { return next(pidfd, path, actions, attributes, argv, envp); }
        with_environment(envp, |envp| next(pidfd, path, actions, attributes, argv, envp))
    }
    /// Ours goes along.
    fn pidfd_spawnp(
        pidfd: *mut c_int, file: *const c_char, actions: FileActions, attributes: Attributes, argv: Argv, envp: Argv,
    ) -> c_int {
        if !is_carrying() { return next(pidfd, file, actions, attributes, argv, envp); }
        with_environment(envp, |envp| next(pidfd, file, actions, attributes, argv, envp))
    }
    /// Ours goes along.
    fn posix_spawnp(
        pid: *mut pid_t, file: *const c_char, actions: FileActions, attributes: Attributes, argv: Argv, envp: Argv,
    ) -> c_int {
        if !is_carrying() { return next(pid, file, actions, attributes, argv, envp); }
        with_environment(envp, |envp| next(pid, file, actions, attributes, argv, envp))
    }
}
