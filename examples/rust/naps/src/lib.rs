//! A plugin that uses the service of another one: counts in the journal (`rust/journal`) how often the program naps. Without
//! a plugin that offers the service, the launch ends with a sentence that says so.

#[path = "../../journal/src/service.rs"]
mod service;

use dmtcp_plugin_api::{hook, plugin, wrappers};
use libc::{c_int, timespec};
use service::{Journal, SERVICE};
use std::sync::OnceLock;

static JOURNAL: OnceLock<&'static Journal> = OnceLock::new();

wrappers! { static WRAPPERS;
    /// Counts.
    fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
        if let Some(journal) = JOURNAL.get() {
            // SAFETY: the name is a static.
            unsafe { (journal.count)(c"naps".as_ptr()) };
        }
        next(time, left)
    }
}

plugin! {
    name: "naps",
    priority: 0,
    requires: ["journal"],
    wrappers: [WRAPPERS],
    init: |_| true,
}

// Not in `init`: the plugin that offers the service may come later.
hook!(Init, |core| {
    // SAFETY: the service of this name has this table.
    if let Some(journal) = unsafe { core.find_service::<Journal>(SERVICE) } {
        // INIT runs once.
        let _ = JOURNAL.set(journal);
    }
});
