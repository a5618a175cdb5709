//! What the launch decided, the environment of the restart, and questions whose answer is simple here: no descriptor of
//! ours is in the program's table, and ids are the kernel's.

use super::text;
use crate::life::restore;
use crate::{config, host, signal};
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Longest value that the original gives.
const LONGEST: usize = 122_880;
/// What dmtcp_restart looks at.
const SKIP_TRUNCATE: &str = "DMTCP_SKIP_TRUNCATE_FILE_AT_RESTART";
/// `DmtcpGetRestartEnvErr_t`.
type RestartEnvErr = c_int;
const NOT_FOUND: c_int = -1;
const TOO_LONG: c_int = -2;
const BUFFER_TOO_SMALL: c_int = -3;
const NULL_POINTER: c_int = -5;

/// A variable in the environment of dmtcp_restart. 0; -1: not set, or no restart; -2: it does not fit into the caller's
/// buffer; -3: it is longer than any value that can be had; -5: a null pointer.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_restart_env(name: *const c_char, into: *mut c_char, room: usize) -> RestartEnvErr {
    let Some(name) = text(name).filter(|_| !into.is_null()) else { return NULL_POINTER };
    let Some(value) = restore::environment(name) else { return NOT_FOUND };
    if value.len() >= LONGEST {
        return BUFFER_TOO_SMALL;
    }
    if value.len() >= room {
        return TOO_LONG;
    }
    // SAFETY: the caller has `room` bytes, and the value with its zero fits.
    unsafe {
        std::ptr::copy_nonoverlapping(value.as_ptr(), into.cast(), value.len());
        into.add(value.len()).write(0);
    }
    0
}

/// The signal that stops threads.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_ckpt_signal() -> c_int {
    config::config().map_or(0, |c| c.signal)
}

/// Blocks that signal for the calling thread: no checkpoint until it is unblocked.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_block_ckpt_signal() {
    change_mask(libc::SIG_BLOCK);
}

/// Undoes `dmtcp_block_ckpt_signal`.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_unblock_ckpt_signal() {
    change_mask(libc::SIG_UNBLOCK);
}

fn change_mask(how: c_int) {
    let Some(config) = config::config() else { return };
    let bit = 1u64 << (config.signal - 1);
    let before = signal::set_mask(u64::MAX);
    signal::set_mask(if how == libc::SIG_BLOCK { before | bit } else { before & !bit });
}

fn is_set(name: &str) -> c_int {
    c_int::from(config::variable(name).as_deref() == Some("1"))
}

/// 1: the launch asked for --ckpt-open-files.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_should_ckpt_open_files() -> c_int {
    is_set(dmtcp_protocol::env::CKPT_OPEN_FILES)
}

/// 1: the launch asked for --allow-file-overwrite.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_allow_overwrite_with_ckpted_files() -> c_int {
    is_set(dmtcp_protocol::env::ALLOW_OVERWRITE)
}

/// 1: the restart was asked by DMTCP_SKIP_TRUNCATE_FILE_AT_RESTART not to cut files back to the length that they had.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_skip_truncate_file_at_restart(_path: *const c_char) -> c_int {
    let value = restore::environment(SKIP_TRUNCATE.as_bytes());
    c_int::from(value.is_some_and(|value| !value.is_empty() && value != b"0"))
}

/// 0: no descriptor of ours is in the program's table.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_is_protected_fd(_number: c_int) -> c_int {
    0
}

/// Nothing to close.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_close_protected_fd(_number: c_int) {}

/// -1: the environment of the restart is in no descriptor; ask `dmtcp_get_restart_env`.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_protected_environ_fd() -> c_int {
    -1
}

/// -1: there is no log of calls to read.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_readlog_fd() -> c_int {
    -1
}

/// The pid that the program knows: the kernel's.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_pid_real_to_virtual(pid: c_int) -> c_int {
    pid
}

/// The kernel's pid: the one that the program knows.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_pid_virtual_to_real(pid: c_int) -> c_int {
    pid
}

/// `dmtcp_pid_real_to_virtual` by the name that it had in interface 3.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_real_to_virtual_pid(pid: c_int) -> c_int {
    dmtcp_pid_real_to_virtual(pid)
}

/// `dmtcp_pid_virtual_to_real` by the name that it had in interface 3.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_virtual_to_real_pid(pid: c_int) -> c_int {
    dmtcp_pid_virtual_to_real(pid)
}

/// A line of `dmtcp_add_to_ckpt_header`. The list only grows.
struct Line {
    key: String,
    value: String,
    next: *const Line,
}

static LINES: AtomicPtr<Line> = AtomicPtr::new(std::ptr::null_mut());

/// Adds a line to what every following image tells of the process. 0; -5: a null pointer.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_add_to_ckpt_header(key: *const c_char, value: *const c_char) -> c_int {
    let (Some(key), Some(value)) = (text(key), text(value)) else { return NULL_POINTER };
    super::hold::hold();
    let line = Box::leak(Box::new(Line {
        key: String::from_utf8_lossy(key).into_owned(),
        value: String::from_utf8_lossy(value).into_owned(),
        next: LINES.load(Ordering::Acquire),
    }));
    while let Err(first) = LINES.compare_exchange(line.next.cast_mut(), line, Ordering::AcqRel, Ordering::Acquire) {
        line.next = first;
    }
    super::hold::release();
    0
}

/// Puts the lines into the image that is being described: section `header` of the core.
pub fn describe() {
    let mut lines: Vec<(&str, &str)> = Vec::new();
    // SAFETY: lines are leaked.
    let mut at = unsafe { LINES.load(Ordering::Acquire).as_ref() };
    while let Some(line) = at {
        lines.push((&line.key, &line.value));
        // SAFETY: as above.
        at = unsafe { line.next.as_ref() };
    }
    if lines.is_empty() {
        return;
    }
    lines.reverse();
    let bytes = serde_json::to_vec(&lines).unwrap_or_default();
    host::description::with(|d| d.sections.push(("core".into(), "header".into(), bytes)));
}
