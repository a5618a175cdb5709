//! What the wrappers have in common: ids in, ids out, errno.

use crate::table;
use dmtcp_plugin_api::ids::Table;
use dmtcp_plugin_api::sys;
use libc::c_int;

/// Sets errno and gives what a function returns that failed.
pub fn fail(error: c_int) -> c_int {
    // SAFETY: the calling thread's errno.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// The calling thread's errno.
pub fn errno() -> c_int {
    // SAFETY: as in `fail`.
    unsafe { *libc::__errno_location() }
}

/// A raw result as libc's functions give it.
pub fn answer(result: Result<usize, i32>) -> isize {
    match result {
        Ok(value) => value as isize,
        Err(error) => fail(error) as isize,
    }
}

/// The real id behind what a program passes, where 0 means itself.
pub fn real(table: Table, id: i32) -> Option<i32> {
    if id <= 0 { Some(id) } else { table.real(id) }
}

/// As [`real`], where the id may be a thread's. A thread that libc has made for itself is known only to the kernel; one of
/// the own process is no stranger.
pub fn task(table: Table, id: i32) -> Option<i32> {
    real(table, id).or_else(|| (table.known(id).is_none() && is_own(id)).then_some(id))
}

fn is_own(tid: i32) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { sys::call(libc::SYS_tgkill as i32, [sys::pid() as usize, tid as usize, 0, 0, 0, 0]) }.is_ok()
}

/// As [`real`], where a negative id is a group's, and -1 everybody.
pub fn target(table: Table, id: i32) -> Option<i32> {
    if id < -1 { Some(-table.real(-id)?) } else { real(table, id) }
}

/// What a program is told of an id; 0: a stranger whose id is somebody else's.
pub fn shown(table: Table, real: i32) -> i32 {
    if real <= 0 { real } else { table.shown(real).unwrap_or(0) }
}

/// What a program is told of the id of a task that it has just made, or that is its own.
pub fn made(table: Table, real: i32) -> i32 {
    if real <= 0 { real } else { table.ensure(real) }
}

/// Asks again, if a restart fell between the kernel's answer, which then was an id of before, and its translation.
#[inline(always)]
pub fn within_one_life<R>(ask: impl Fn() -> R) -> R {
    loop {
        let restarts = table::restarts();
        let answer = ask();
        if table::restarts() == restarts {
            return answer;
        }
    }
}

/// A task's own id, by a call that may be made twice.
#[inline(always)]
pub fn own(call: impl Fn() -> i32) -> i32 {
    within_one_life(|| {
        let real = call();
        table::current().map_or(real, |table| made(table, real))
    })
}

/// Calls again, from the look at the id on, when the call has found nobody and a restart fell between the two.
#[inline(always)]
pub fn settled<R: From<i32> + PartialEq>(nobody: c_int, call: impl Fn() -> R) -> R {
    loop {
        let restarts = table::restarts();
        let result = call();
        if result != R::from(-1) || table::restarts() == restarts || errno() != nobody {
            return result;
        }
    }
}

/// Calls with the real id of a task, or fails with ESRCH.
#[inline(always)]
pub fn with_task<R: From<i32> + PartialEq>(id: i32, call: impl Fn(i32) -> R) -> R {
    settled(libc::ESRCH, || match table::current() {
        None => call(id),
        Some(table) => match task(table, id) {
            Some(real) => call(real),
            None => R::from(fail(libc::ESRCH)),
        },
    })
}

/// Makes a call that may be made twice, and shows the id that comes back.
#[inline(always)]
pub fn showing(call: impl Fn() -> c_int) -> c_int {
    within_one_life(|| {
        let id = call();
        table::current().map_or(id, |table| shown(table, id))
    })
}

/// Makes a call that may be made twice with the real id of a task, or fails with ESRCH, and shows the id that comes back.
#[inline(always)]
pub fn asking(id: i32, call: impl Fn(i32) -> c_int) -> c_int {
    within_one_life(|| with_task(id, |real| showing(|| call(real))))
}
