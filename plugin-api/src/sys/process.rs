//! Raw system calls about a process and its threads: limits, scheduling, ids.

use super::gate::syscall;
use super::{Result, done};
use syscalls::Sysno;

/// prlimit64 of the calling process: soft and hard limit; sets new ones if there are any.
pub fn limit(resource: u32, new: Option<[u64; 2]>) -> Result<[u64; 2]> {
    let mut old = [0u64; 2];
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both are `struct rlimit64`, two 64-bit words, and live over the call.
    done(unsafe { syscall!(Sysno::prlimit64, 0, resource, new, old.as_mut_ptr()) })?;
    Ok(old)
}

/// getrusage.
pub fn usage(who: i32) -> libc::rusage {
    // SAFETY: zeros are a valid rusage.
    let mut out: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills it. It fails for no `who` that there is.
    let _ = unsafe { syscall!(Sysno::getrusage, who, &raw mut out) };
    out
}

/// `struct sched_attr`, first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Size of the struct.
    pub size: u32,
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Priority of a real-time policy.
    pub priority: u32,
    /// Budget of SCHED_DEADLINE; of others the length of a slice.
    pub runtime: u64,
    /// Deadline of SCHED_DEADLINE.
    pub deadline: u64,
    /// Period of SCHED_DEADLINE.
    pub period: u64,
}

/// sched_getattr.
pub fn scheduling(tid: i32) -> Result<Scheduling> {
    let mut out = Scheduling::default();
    // SAFETY: the kernel fills as much as it is told there is room for.
    done(unsafe { syscall!(Sysno::sched_getattr, tid, &raw mut out, size_of::<Scheduling>(), 0) })?;
    Ok(out)
}

/// sched_setattr.
pub fn set_scheduling(tid: i32, new: &Scheduling) -> Result<()> {
    let new = Scheduling { size: size_of::<Scheduling>() as u32, ..*new };
    // SAFETY: the struct lives over the call and says its size.
    done(unsafe { syscall!(Sysno::sched_setattr, tid, &raw const new, 0) }).map(drop)
}

/// sched_getaffinity: one bit per processor; how many bytes the kernel filled.
pub fn affinity(tid: i32, into: &mut [u64]) -> Result<usize> {
    // SAFETY: the buffer is valid for its length.
    done(unsafe { syscall!(Sysno::sched_getaffinity, tid, size_of_val(into), into.as_mut_ptr()) })
}

/// sched_setaffinity.
pub fn set_affinity(tid: i32, mask: &[u64]) -> Result<()> {
    // SAFETY: the mask is valid for its length.
    done(unsafe { syscall!(Sysno::sched_setaffinity, tid, size_of_val(mask), mask.as_ptr()) }).map(drop)
}

/// getpriority of a thread: its nice value, whatever its policy.
pub fn nice(tid: i32) -> Result<i32> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::getpriority, libc::PRIO_PROCESS, tid) }).map(|biased| 20 - biased as i32)
}

/// setpriority of a thread.
pub fn set_nice(tid: i32, nice: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::setpriority, libc::PRIO_PROCESS, tid, nice) }).map(drop)
}

const IOPRIO_WHO_PROCESS: i32 = 1;

/// ioprio_get of a thread.
pub fn io_priority(tid: i32) -> Result<usize> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::ioprio_get, IOPRIO_WHO_PROCESS, tid) })
}

/// ioprio_set of a thread.
pub fn set_io_priority(tid: i32, priority: usize) -> Result<()> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::ioprio_set, IOPRIO_WHO_PROCESS, tid, priority) }).map(drop)
}

/// membarrier.
pub fn memory_barrier(command: i32) -> Result<usize> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::membarrier, command, 0, 0) })
}

/// getuid, geteuid, getgid, getegid.
pub fn user_ids() -> [u32; 4] {
    // SAFETY: no arguments; the calls cannot fail.
    let id = |number| done(unsafe { syscall!(number) }).unwrap_or(0) as u32;
    [Sysno::getuid, Sysno::geteuid, Sysno::getgid, Sysno::getegid].map(id)
}
