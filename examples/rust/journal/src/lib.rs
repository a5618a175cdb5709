//! A plugin that offers a service to others, and keeps a descriptor that the program cannot reach.
//!
//! Other plugins count what happens ([`service`]); at each checkpoint a line for each count goes into the file that
//! `JOURNAL` names. A hook opens the file, so the descriptor is one of the checkpoint thread's own table: it shows in no
//! /proc/self/fd, and a program that closes every number does not close it. No image holds it; RESTART opens the file again.

pub mod service;

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::sys::{self, Fd};
use dmtcp_plugin_api::{hook, plugin, proc_files};
use service::{Journal, SERVICE};
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

plugin! {
    name: "journal",
    priority: 0,
    requires: [],
    wrappers: [],
    init: |core| {
        let environment = proc_files::read_file("/proc/thread-self/environ").unwrap_or_default();
        let Some(path) = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"JOURNAL=")) else {
            core.fail("JOURNAL does not say which file the journal is");
            return false;
        };
        // INIT runs once.
        let _ = PATH.set(path.to_vec());
        core.offer_service(SERVICE, &TABLE)
    },
}

/// A thing that is counted.
struct Entry {
    /// The address of its name.
    name: AtomicPtr<c_char>,
    count: AtomicU64,
}

static PATH: OnceLock<Vec<u8>> = OnceLock::new();
static TABLE: Journal = Journal { count };
/// What others count: without a lock, since a thread may be stopped or jump away at any instruction.
static ENTRIES: [Entry; 16] =
    [const { Entry { name: AtomicPtr::new(std::ptr::null_mut()), count: AtomicU64::new(0) } }; 16];
const CLOSED: i32 = -1;
/// Of the checkpoint thread's table.
static FILE: AtomicI32 = AtomicI32::new(CLOSED);

unsafe extern "C" fn count(name: *const c_char) {
    let name = name.cast_mut();
    for entry in &ENTRIES {
        let before = entry.name.compare_exchange(std::ptr::null_mut(), name, Ordering::AcqRel, Ordering::Acquire);
        if before.is_ok() || before == Err(name) {
            entry.count.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

hook!(PreSuspend, open);
hook!(PreCheckpoint, write);
hook!(Restart, |core| {
    // The number is one of before: the checkpoint thread has another table now.
    FILE.store(CLOSED, Ordering::Relaxed);
    open(core);
});
// The child's checkpoint thread has a table of its own.
hook!(AtforkChild, |_| FILE.store(CLOSED, Ordering::Relaxed));

fn open(core: Core) {
    if FILE.load(Ordering::Relaxed) != CLOSED {
        return;
    }
    let path = PATH.get().map_or(&[][..], Vec::as_slice);
    match sys::open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC, 0o600) {
        Ok(file) => FILE.store(Fd::leak(file), Ordering::Relaxed),
        Err(errno) => core.tell(&format!("{} cannot be opened (errno {errno})", String::from_utf8_lossy(path))),
    }
}

fn write(core: Core) {
    for entry in &ENTRIES {
        let name = entry.name.load(Ordering::Acquire);
        if !name.is_null() {
            // SAFETY: names are zero-terminated and live for ever.
            let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
            let line = format!("{name} {}\n", entry.count.load(Ordering::Relaxed));
            if sys::write(FILE.load(Ordering::Relaxed), line.as_bytes()) != Ok(line.len()) {
                core.tell("a line of the journal is lost");
            }
        }
    }
}
