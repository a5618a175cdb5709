//! A plugin in Rust that says what the program does with descriptors, threads, forks and programs. `c/watcher.c` is the same in C.
//!
//! Hooks of these events run on the thread of the program that does it, at any time.

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::{hook, plugin, sys};
use std::ffi::{CStr, c_char};

plugin! {
    name: "watcher",
    priority: 0,
    requires: [],
    wrappers: [],
    init: |_| true,
}

fn say(text: &str) {
    // Standard error may be closed: then there is nobody to tell.
    let _ = sys::write(libc::STDERR_FILENO, format!("watcher.rs: {text}\n").as_bytes());
}

fn name(path: *const c_char) -> String {
    // SAFETY: payloads hold the program's own zero-terminated paths.
    unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned()
}

hook!(OpenFd, |_, open| say(&format!("open {} {}", open.fd, name(open.path))));
hook!(ReopenFd, |_, open| say(&format!("reopen {} {}", open.fd, name(open.path))));
hook!(CloseFd, |_, close| say(&format!("close {}", close.fd)));
hook!(DupFd, |_, dup| say(&format!("dup {} {}", dup.old_fd, dup.new_fd)));
hook!(PthreadStart, |_: Core| say("thread starts"));
hook!(PthreadReturn, |_: Core| say("thread returns"));
hook!(PthreadExit, |_: Core| say("thread exits"));
hook!(AtforkPrepare, |_: Core| say("fork begins"));
hook!(AtforkParent, |_: Core| say("forked"));
hook!(AtforkFailed, |_: Core| say("fork failed"));
hook!(VforkPrepare, |_: Core| say("vfork begins"));
hook!(VforkParent, |_: Core| say("vforked"));
hook!(VforkChild, |_: Core| say("vfork's child"));
hook!(VforkFailed, |_: Core| say("vfork failed"));
hook!(ThreadResume, |_, _resume| say(&format!("thread resumes {}", sys::tid())));
hook!(PreExec, |_, exec| {
    say(&format!("exec {}", name(exec.filename)));
    // What the new program's copy of this plugin is to know. The file has an end, and another plugin may have written.
    let _ = sys::write(exec.serialization_fd, b"word of watcher.rs\n");
});
hook!(PostExec, |_, exec| {
    let mut words = [0u8; 256];
    let length = sys::pread(exec.serialization_fd, &mut words, 0).unwrap_or(0);
    say(&format!("executed; there was {}", String::from_utf8_lossy(&words[..length]).replace('\n', ", ")));
});
