//! Children that a restart has brought back, those that had ended among them: what they had used before.
//!
//! The kernel tells of a child's past only while it is there, so their parent notes it at the checkpoint, and adds it when
//! it has waited for the child: to what wait4(2) says of it, and to what its children have used. What libc has waited for
//! itself (system, pclose) is missing among the children when somebody asks what those have used.
//!
//! What can go wrong: of a child that lives the kernel tells the time in clock ticks, and nothing of its memory and how
//! often it waited. What the children of a child had used before a restart is missing, if it waited for them behind it.

use super::{CHILDREN, executed, is_owner};
use crate::{children, family, state, table};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::usage::Usage;
use dmtcp_plugin_api::{ids, proc_files, sys};
use libc::{c_int, pid_t, rusage};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// A child.
struct Child {
    real: i32,
    base: Usage,
    /// Whether [`CHILDREN`] has it.
    counted: AtomicBool,
}

/// Never freed: a thread that reads it may be stopped for as long as it lives.
static KIN: AtomicPtr<Vec<Child>> = AtomicPtr::new(std::ptr::null_mut());

fn kin() -> &'static [Child] {
    // SAFETY: it is never freed.
    unsafe { KIN.load(Ordering::Acquire).as_ref() }.map_or(&[], Vec::as_slice)
}

/// The children of this process that are known.
fn known() -> &'static [Child] {
    let kin = kin();
    if kin.is_empty() || !is_owner() { &[] } else { kin }
}

/// What a child that has ended has used, and its children; `None`: it lives, or is none.
fn of_ended(child: i32) -> Option<Usage> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut used = MaybeUninit::<rusage>::zeroed();
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    let (place, room) = (info.as_mut_ptr() as usize, used.as_mut_ptr() as usize);
    let args = [libc::P_PID as usize, child as usize, place, flags as usize, room, 0];
    // SAFETY: the kernel writes one siginfo_t, and one rusage.
    unsafe { sys::call(libc::SYS_waitid as i32, args) }.ok()?;
    // SAFETY: zeros are valid values, and what the kernel wrote is.
    let (info, used) = unsafe { (info.assume_init(), used.assume_init()) };
    // SAFETY: waitid fills this field in; without news it is zero.
    (unsafe { info.si_pid() } == child).then(|| Usage::from(&used))
}

/// What a child has used, and its children that it has waited for.
fn of(child: i32) -> Option<Usage> {
    of_ended(child).or_else(|| state::used(&proc_files::read_file(&format!("/proc/{child}/stat")).ok()?))
}

/// At PRECHECKPOINT: all children, by their virtual ids.
pub fn look(core: Core) -> Vec<(i32, Usage)> {
    let known = known();
    let all = family::children().unwrap_or_default().into_iter().filter_map(|real| {
        let before = known.iter().find(|child| child.real == real).map(|child| child.base);
        Some((ids::to_virtual(core, real), of(real)?.plus(&before.unwrap_or_default())))
    });
    all.filter(|(id, _)| *id > 0).collect()
}

/// At RESTART: those that have come back.
pub fn restore(core: Core, before: &[(i32, Usage)]) {
    let brought_back = before.iter().filter_map(|(id, used)| {
        let real = ids::to_real(core, *id);
        let base = used.minus(&of(real).filter(|_| children::is_child(real))?);
        Some(Child { real, base, counted: AtomicBool::new(false) })
    });
    KIN.store(Box::leak(Box::new(brought_back.collect())), Ordering::Release);
}

/// In a fork's child, and where nothing was noted: there are none.
pub fn forget() {
    KIN.store(std::ptr::null_mut(), Ordering::Release);
}

fn count(child: &Child) {
    if !child.counted.swap(true, Ordering::AcqRel) {
        CHILDREN.add(&child.base);
        executed::pass_on();
    }
}

/// Counts those that are no children any more, whoever has waited for them.
pub fn count_the_gone() {
    let there = |child: &&Child| !child.counted.load(Ordering::Acquire) && !children::is_child(child.real);
    known().iter().filter(there).for_each(count);
}

/// A child, by its real id, has been waited for since there had been so many restarts: adds what it had used before.
pub fn gone(real: pid_t, used: *mut rusage, restarts: u32) {
    let child = known().iter().find(|child| child.real == real);
    let Some(child) = child.filter(|_| table::restarts() == restarts) else { return };
    count(child);
    // SAFETY: the program passes null, or a place that the call has just filled.
    if let Some(used) = unsafe { used.as_mut() } {
        child.base.add_to(used);
    }
}

/// Waits by a call that gives the real id of a child, its status, and what it has used.
pub fn waiting(status: *mut c_int, used: *mut rusage, wait: impl FnOnce() -> pid_t) -> pid_t {
    let restarts = table::restarts();
    let child = wait();
    if child > 0 && !kin().is_empty() {
        // SAFETY: the call has just written the status of a child.
        let status = unsafe { *status };
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            gone(child, used, restarts);
        }
    }
    child
}
