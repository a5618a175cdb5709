//! Plugin `pid-virt`: the ids of the process and its threads, and what becomes of its family.
//!
//! So far the ids that the application knows are the kernel's: a restart asks for the same ones. Nothing is translated,
//! nothing is wrapped.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

#[cfg(test)]
mod both_halves;
mod family;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it runs in dmtcp_restart")]
mod restart;
mod state;

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::{hook, plugin, proc_files, restart_half, sys};
use state::Ids;

/// The name that sections and messages carry.
const NAME: &str = "pid-virt";

plugin! {
    name: "pid-virt",
    priority: -300,
    requires: [],
    wrappers: [],
    init: |_| true,
}

hook!(PreCheckpoint, describe);

fn describe(core: Core) {
    match look() {
        Ok(ids) => core.json(Ids::SECTION, &ids),
        Err(sentence) => core.fail(&sentence),
    }
}

/// The ids of the calling process. The error is a sentence.
fn look() -> Result<Ids, String> {
    let unreadable = |e| format!("the ids of the process cannot be read from /proc: error {e}");
    let stat = proc_files::read_file("/proc/thread-self/../../stat").map_err(unreadable)?;
    let [ppid, pgid, sid] = state::family(&stat).ok_or_else(|| unreadable(libc::EPROTO))?;
    let mut tids = proc_files::numbers_in("/proc/thread-self/..").map_err(unreadable)?;
    let pid = sys::pid();
    tids.retain(|tid| *tid != pid);
    tids.sort_unstable();
    let ended = family::ended().map_err(|e| format!("the ended children of the process cannot be read: error {e}"))?;
    let leaderless = family::leaderless(pgid, sid);
    Ok(Ids {
        pid,
        tids,
        ppid,
        pgid,
        sid,
        users: sys::user_ids(),
        ended,
        leaderless,
        foreground: state::foreground(&stat),
    })
}

restart_half!("pid-virt", restart::Half);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_are_seen() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(sys::tid()).unwrap();
            let _ = held.recv();
        });
        let tid = receiver.recv().unwrap();
        let ids = look().unwrap();
        assert_eq!(ids.pid, std::process::id() as i32);
        assert!(ids.tids.contains(&tid) && !ids.tids.contains(&ids.pid));
        // SAFETY: no arguments.
        assert_eq!(ids.ppid, unsafe { libc::getppid() });
        drop(hold);
        thread.join().unwrap();
    }
}
