//! Children that run outside of control (static, setuid, started by dmtcp_nocheckpoint): no restart brings them back.
//!
//! Their parent may wait for them, in a call that is under way or in one to come. So that it does not wait for nobody, they
//! are to it, after a restart, children that SIGKILL has ended: they come back as such, and it is sent SIGCHLD.

use crate::state::Ended;
use crate::{family, signals, state};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::{proc_files, sys};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the last checkpoint has seen any.
static LOST: AtomicBool = AtomicBool::new(false);

/// At PRECHECKPOINT, when all members have stopped: the children that are no members and have not ended.
pub fn look(core: Core, ended: &[Ended]) -> Vec<Ended> {
    LOST.store(false, Ordering::Release);
    let members = core.neighbours();
    if members.is_empty() || signals::ends_unseen() {
        return Vec::new();
    }
    let helpers = family::children_of(sys::tid());
    let is_outside =
        |pid: &i32| !members.contains(pid) && !helpers.contains(pid) && ended.iter().all(|child| child.pid != *pid);
    let killed = |pid: i32| {
        let stat = proc_files::read_file(&format!("/proc/{pid}/stat")).ok()?;
        let [_, pgid, sid] = state::family(&stat)?;
        LOST.store(true, Ordering::Release);
        Some(Ended { pid, pgid, sid, status: libc::SIGKILL, exit_signal: state::exit_signal(&stat) })
    };
    family::children().unwrap_or_default().into_iter().filter(is_outside).filter_map(killed).collect()
}

/// The hook for RESTART: the process is told of their end. The kernel lets only a first thread say of a signal that a child
/// is its cause; it comes as one that the process has sent itself.
pub fn tell(_: Core) {
    if LOST.swap(false, Ordering::AcqRel) {
        // SAFETY: no memory is passed.
        let _ = unsafe { sys::call(libc::SYS_kill as i32, [sys::pid() as usize, libc::SIGCHLD as usize, 0, 0, 0, 0]) };
    }
}
