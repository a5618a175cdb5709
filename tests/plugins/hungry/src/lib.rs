//! A plugin whose wrapper does little but allocate and free: a stop, or a signal of the program's, finds a thread inside the
//! allocator of plugins. Its hooks allocate while such threads are stopped.

use dmtcp_plugin_api::{hook, plugin, sys, wrappers};
use libc::pid_t;

wrappers! { static WRAPPERS;
    /// Allocates, looks whether it is its own, and frees.
    fn getppid() -> pid_t {
        feed(40);
        next()
    }
}

plugin! {
    name: "hungry",
    priority: 0,
    requires: [],
    wrappers: [WRAPPERS],
    init: |_| true,
}

hook!(PreSuspend, |_| feed(250));
hook!(PreCheckpoint, |_| feed(250));
hook!(Resume, |_| feed(250));
hook!(Restart, |_| feed(250));
hook!(Running, |_| feed(250));

/// Lives for a moment on blocks of different sizes. A block that somebody else has as well ends the program.
fn feed(blocks: u8) {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for block in 0..blocks.max(1) {
        eaten.push(vec![block; 1 + usize::from(block) * 37 % 700]);
        if block % 3 == 0 {
            eaten.swap_remove(usize::from(block) % eaten.len());
        }
    }
    if !eaten.iter().all(|bytes| bytes.iter().all(|byte| Some(byte) == bytes.first())) {
        let _ = sys::write(libc::STDERR_FILENO, b"hungry: a block has two owners\n");
        // SAFETY: it ends the process, with a core dump.
        unsafe { libc::abort() }
    }
}
