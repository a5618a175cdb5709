//! A plugin in Rust: says each event on standard error.
//!
//! ```text
//!   cargo build --release
//!   dmtcp_launch --with-plugin target/release/libexample_event_printer.so PROGRAM
//! ```

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::{hook, plugin};

plugin! {
    name: "event-printer",
    priority: 0,
    requires: [],
    wrappers: [],
    init: |_| true,
}

fn say(core: Core, event: &str) {
    core.tell(event);
}

hook!(Init, |core| say(core, "INIT"));
hook!(PreSuspend, |core| say(core, "PRESUSPEND"));
hook!(PreCheckpoint, |core| say(core, "PRECHECKPOINT"));
hook!(Resume, |core| say(core, "RESUME"));
hook!(Restart, |core| say(core, "RESTART"));
hook!(Running, |core| say(core, "RUNNING"));
hook!(Exit, |core| say(core, "EXIT"));
