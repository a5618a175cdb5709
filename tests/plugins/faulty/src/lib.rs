//! A plugin that goes wrong where the variable FAULTY tells it to: `HOW WHERE`, for instance `panic PRECHECKPOINT`. HOW is
//! `panic`, or `fail`; WHERE is `init` or an event.

use dmtcp_plugin_api::abi::Event;
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::{hook, plugin, proc_files, sys, wrappers};
use libc::c_uint;

wrappers! { static WRAPPERS;
    /// Second in the chain of a function by the plugin's priority.
    fn sleep(seconds: c_uint) -> c_uint {
        // Standard error may be closed: then there is nobody to tell.
        let _ = sys::write(libc::STDERR_FILENO, b"faulty: before\n");
        next(seconds)
    }
}

plugin! {
    name: "faulty",
    priority: -50,
    requires: [],
    wrappers: [WRAPPERS],
    init: |core| !goes_wrong(core, "init"),
}

hook!(Init, |core| at(core, Event::Init));
hook!(PreSuspend, |core| at(core, Event::PreSuspend));
hook!(PreCheckpoint, |core| at(core, Event::PreCheckpoint));
hook!(Resume, |core| at(core, Event::Resume));
hook!(Restart, |core| at(core, Event::Restart));
hook!(Running, |core| at(core, Event::Running));
hook!(Exit, |core| at(core, Event::Exit));

fn at(core: Core, event: Event) {
    goes_wrong(core, event.title());
}

/// Whether it is told to go wrong here; if it is to panic, it does.
fn goes_wrong(core: Core, place: &str) -> bool {
    let environment = proc_files::read_file("/proc/thread-self/../../environ").unwrap_or_default();
    let told = environment.split(|b| *b == 0).find_map(|entry| entry.strip_prefix(b"FAULTY=")).unwrap_or_default();
    let told = String::from_utf8_lossy(told);
    match told.split_once(' ') {
        Some(("panic", wanted)) if wanted == place => panic!("told to at {place}"),
        Some(("fail", wanted)) if wanted == place => {
            core.fail("it was told to fail");
            true
        }
        _ => false,
    }
}
