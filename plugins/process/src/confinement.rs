//! What the program has taken away from itself, or given itself, that nobody can put back: filters of seccomp(2), and
//! segments of modify_ldt(2).
//!
//! The kernel shows a filter to none but a tracer with privilege, so a restored process is without those that the program
//! had made; each checkpoint and each restart says so. Those that were in force when the program started are the business
//! of who starts it, and of who restarts it. In strict mode a thread may only read, write and end: the kernel would kill
//! it where it is stopped, so such a process is left alone.

use dmtcp_plugin_api::{proc_files, sys};
use std::sync::atomic::{AtomicU32, Ordering};

/// Mode of seccomp(2) that allows read, write, exit and sigreturn.
const STRICT: u32 = 1;
/// What modify_ldt(2) does: read the table.
const READ: usize = 0;

/// Filters that were in force at the start of the program, or of its last restart.
static INHERITED: AtomicU32 = AtomicU32::new(0);
/// Filters that restarts have lost.
static LOST: AtomicU32 = AtomicU32::new(0);
/// Filters of the program's own, as the last look found them.
static OWN: AtomicU32 = AtomicU32::new(0);

/// Mode and number of filters in /proc/PID/status.
fn parse(status: &[u8]) -> (u32, u32) {
    let text = String::from_utf8_lossy(status);
    let number = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
    let mode = number("Seccomp:").unwrap_or(0);
    // Before Linux 5.9 the kernel does not count them.
    (mode, number("Seccomp_filters:").unwrap_or(mode / 2))
}

fn of_task(path: &str) -> (u32, u32) {
    proc_files::read_file(path).map_or((0, 0), |status| parse(&status))
}

/// Notes what is in force now and is not the program's doing.
pub fn note() {
    INHERITED.store(of_task("/proc/thread-self/status").1, Ordering::Release);
    LOST.store(OWN.load(Ordering::Acquire), Ordering::Release);
}

/// Looks at all threads, before any is stopped. The error is a sentence: the process cannot be saved.
pub fn check() -> Result<(), String> {
    let mut most = 0;
    for task in proc_files::numbers_in("/proc/thread-self/..").unwrap_or_default() {
        let (mode, filters) = of_task(&proc_files::task_path(task, "status"));
        if mode == STRICT {
            return Err(format!(
                "thread {task} may make no system calls but four (seccomp(2), strict mode): the process cannot be saved"
            ));
        }
        most = most.max(filters);
    }
    let made = most.saturating_sub(INHERITED.load(Ordering::Acquire));
    OWN.store(made + LOST.load(Ordering::Acquire), Ordering::Release);
    Ok(())
}

/// Filters of the program's own: those in force, and those that restarts have lost.
pub fn filters() -> u32 {
    OWN.load(Ordering::Acquire)
}

/// What is lost by a restart.
pub fn losses() -> Vec<String> {
    let mut losses = Vec::new();
    let filters = filters();
    if filters > 0 {
        losses.push(format!("filters of seccomp(2) ({filters}): after a restart the program is without them"));
    }
    let mut entry = [0u8; 8];
    // SAFETY: the kernel writes at most the size that is passed.
    let length =
        unsafe { sys::call(libc::SYS_modify_ldt as i32, [READ, (&raw mut entry) as usize, entry.len(), 0, 0, 0]) };
    if length.is_ok_and(|length| length > 0) {
        losses.push("segments of modify_ldt(2): after a restart the program is without them".into());
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_filters_are_told() {
        assert_eq!(parse(b"NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n"), (2, 3));
        assert_eq!(parse(b"Seccomp:\t2\n"), (2, 1));
        assert_eq!(parse(b"Seccomp:\t1\nSeccomp_filters:\t0\n"), (1, 0));
        assert_eq!(parse(b"Name:\tx\n"), (0, 0));
    }

    #[test]
    fn a_process_without_a_filter_of_its_own_loses_nothing() {
        note();
        check().unwrap();
        assert_eq!(losses(), Vec::<String>::new());
    }
}
