//! System V objects: who made them and who used them last. The kernel tells real ids.

use crate::table;
use crate::translate::shown;
use libc::{c_int, c_void, msqid_ds, pid_t, shmid_ds};

/// Commands that describe an object by its place in the kernel's list instead of its id, newer ones without asking whether
/// it may be read.
const SHM_STAT: [c_int; 2] = [13, 15];
const MSG_STAT: [c_int; 2] = [11, 13];
const GETPID: c_int = 11;

/// Shows ids that a call has just written.
fn show(places: [*mut pid_t; 2]) {
    if let Some(table) = table::current() {
        for place in places {
            // SAFETY: the call has filled the structure that this is in.
            unsafe { place.write(shown(table, place.read())) };
        }
    }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// Who made the memory and who attached or detached it last.
    fn shmctl(id: c_int, command: c_int, into: *mut shmid_ds) -> c_int {
        let result = next(id, command, into);
        if result >= 0 && (command == libc::IPC_STAT || SHM_STAT.contains(&command)) {
            // SAFETY: the call has filled it.
            show(unsafe { [&raw mut (*into).shm_cpid, &raw mut (*into).shm_lpid] });
        }
        result
    }
    /// Who sent and who received last.
    fn msgctl(id: c_int, command: c_int, into: *mut msqid_ds) -> c_int {
        let result = next(id, command, into);
        if result >= 0 && (command == libc::IPC_STAT || MSG_STAT.contains(&command)) {
            // SAFETY: the call has filled it.
            show(unsafe { [&raw mut (*into).msg_lspid, &raw mut (*into).msg_lrpid] });
        }
        result
    }
    /// Who changed the semaphore last.
    fn semctl(id: c_int, index: c_int, command: c_int, argument: *mut c_void) -> c_int {
        let result = next(id, index, command, argument);
        match table::current() {
            Some(table) if command == GETPID => shown(table, result),
            _ => result,
        }
    }
}
