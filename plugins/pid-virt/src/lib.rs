//! Plugin `pid-virt`: the ids of the process and its threads, and what becomes of its family.
//!
//! The ids that a program knows are virtual; in the first run they are the kernel's, and nothing is translated. A restart
//! asks for the same ones. Where it cannot have them, all processes get others, and from then on, for as long as they run
//! and for all that they fork and execute, this plugin's wrappers put real ids into calls and virtual ones into results:
//!
//! | module | owns |
//! |---|---|
//! | [`table`] | the table that all processes share: since when, who notes what, how it outlives an exec |
//! | [`tcb`] | the word in which libc keeps a thread's id: it holds the virtual one |
//! | [`own`] | who am I; signals, groups, sessions, terminals, descriptors' owners, scheduling |
//! | [`mutexes`] | robust mutexes and those that change priorities: the kernel reads ids in them |
//! | [`threads`] | libc's functions that read another thread's word; new threads |
//! | [`children`] | fork, vfork, spawn and all that waits |
//! | [`outside`] | children that are not restarted |
//! | [`commands`] | system(3) |
//! | [`clocks`] | clocks of processor time and timers on them |
//! | [`call`] | syscall(3) |
//! | [`inline`] | system calls past libc |
//! | [`paths`] | names in /proc that hold an id |
//! | [`proc_text`], [`listing`] | what stands in files of /proc, and what is listed there |
//! | [`signals`] | senders of signals |
//! | [`used`] | processor time, and what else is counted |
//! | [`users`] | setuid(3) and its kin |
//! | [`timers`] | the thread in which libc calls the functions of timers |
//! | [`messages`] | credentials in messages |
//! | [`objects`] | who used a System V object last |
//! | [`watching`] | tracing and rights of other processes |
//!
//! An id that names nobody of the computation gives ESRCH, never a stranger: who else lives here cannot be told from who
//! was remembered. What is not seen, `docs/limitations.md` lists.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

#[cfg(test)]
mod both_halves;
mod call;
mod children;
mod clocks;
mod commands;
mod continued;
mod family;
mod inline;
mod listing;
mod messages;
mod mutexes;
mod objects;
mod outside;
mod own;
mod paths;
mod proc_text;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it runs in dmtcp_restart")]
mod restart;
mod signals;
mod state;
mod table;
mod tcb;
mod threads;
mod timers;
mod translate;
mod used;
mod users;
mod watching;

use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::{hook, ids, plugin, proc_files, restart_half, sys};
use state::{Ended, Ids};

/// The name that sections and messages carry.
const NAME: &str = "pid-virt";

plugin! {
    name: "pid-virt",
    priority: 300,
    requires: [],
    wrappers: [
        own::WRAPPERS, children::WRAPPERS, children::VFORK_WRAPPERS, threads::WRAPPERS, clocks::WRAPPERS, call::WRAPPERS,
        paths::WRAPPERS, signals::WRAPPERS, mutexes::WRAPPERS,
        used::wrappers::WRAPPERS, commands::WRAPPERS, listing::WRAPPERS, users::WRAPPERS, messages::WRAPPERS, objects::WRAPPERS, watching::WRAPPERS,
    ],
    init: init,
}

fn init(core: Core) -> bool {
    tcb::locate();
    table::attach();
    used::executed::take_over();
    inline::begin_program(core);
    core.offer_service(ids::SERVICE, &table::TRANSLATOR)
}

hook!(Init, signals::note_checkpoint_signal);
hook!(AtforkChild, table::note_child);
hook!(AtforkChild, inline::enter_child);
hook!(AtforkChild, commands::forget);
hook!(AtforkChild, users::forget);
hook!(AtforkChild, used::rounds::begin_child);
hook!(PreCheckpoint, describe);
hook!(PreCheckpoint, used::rounds::look);
hook!(Resume, table::give_back);
hook!(Placed, |core| {
    table::take_up(core);
    continued::tell_again();
    proc_text::show_in_open_files();
});
hook!(Restart, priority: 1, table::note_tasks);
hook!(Restart, used::rounds::restore);
hook!(Restart, signals::take_places);
hook!(Restart, outside::tell);
hook!(Restart, inline::begin);
hook!(Restart, mutexes::move_ids);
hook!(Restart, timers::move_id);
hook!(Restart, threads::cancel_again);

fn describe(core: Core) {
    let mut ids = match look(|ended| outside::look(core, ended)) {
        Ok(ids) => ids,
        Err(sentence) => return core.fail(&sentence),
    };
    let tasks = proc_files::numbers_in("/proc/thread-self/..").unwrap_or_default();
    table::note_family(&family::children().unwrap_or_default(), &tasks);
    table::note_youngest(&family::youngest());
    continued::note();
    let object = core.new_object();
    match table::claim(core, object) {
        Ok(()) => ids.table = object,
        Err(error) => core.log(Level::Warning, &format!("no room for a table of ids: error {error}")),
    }
    core.json(Ids::SECTION, &ids);
}

/// The ids of the calling process, as the program knows them; `lost` says which children will have ended after a restart.
/// The error is a sentence.
fn look(lost: impl FnOnce(&[Ended]) -> Vec<Ended>) -> Result<Ids, String> {
    let unreadable = |e| format!("the ids of the process cannot be read from /proc: error {e}");
    let stat = proc_files::read_file("/proc/thread-self/../../stat").map_err(unreadable)?;
    let [ppid, pgid, sid] = state::family(&stat).ok_or_else(|| unreadable(libc::EPROTO))?;
    let mut tids = proc_files::numbers_in("/proc/thread-self/..").map_err(unreadable)?;
    let pid = sys::pid();
    tids.retain(|tid| *tid != pid);
    let mut ended =
        family::ended().map_err(|e| format!("the ended children of the process cannot be read: error {e}"))?;
    ended.extend(lost(&ended));
    let leaderless = family::leaderless(pgid, sid);
    let mut ids = Ids {
        pid,
        tids,
        ppid,
        pgid,
        sid,
        users: sys::user_ids(),
        ended,
        leaderless,
        foreground: state::foreground(&stat),
        exit_signal: state::exit_signal(&stat),
        table: 0,
    };
    ids.show(|real| (table::TRANSLATOR.to_virtual)(real));
    ids.tids.sort_unstable();
    // What the program could not know cannot be waited for either.
    ids.ended.retain(|child| child.pid > 0);
    Ok(ids)
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
        let ids = look(|_| Vec::new()).unwrap();
        assert_eq!(ids.pid, std::process::id() as i32);
        assert!(ids.tids.contains(&tid) && !ids.tids.contains(&ids.pid));
        // SAFETY: no arguments.
        assert_eq!(ids.ppid, unsafe { libc::getppid() });
        drop(hold);
        thread.join().unwrap();
    }
}
