//! The system calls that no crate wraps, or that must not go through libc's wrappers, and what the environment forbids.
//!
//! Each returns errors as [`io::Error`]; none keeps state.

use bytemuck::{Pod, Zeroable};
use dmtcp_protocol::env;
use nix::unistd::Pid;
use std::io;
use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `struct clone_args` of clone3(2).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, Pod, Zeroable)]
pub struct CloneArgs {
    /// CLONE_*.
    pub flags: u64,
    /// Where a pidfd goes.
    pub pidfd: u64,
    /// Where the child's tid goes in the child's memory.
    pub child_tid: u64,
    /// Where it goes in the parent's.
    pub parent_tid: u64,
    /// Signal at the child's end.
    pub exit_signal: u64,
    /// Lowest byte of its stack; 0: as the parent.
    pub stack: u64,
    /// Length of the stack.
    pub stack_size: u64,
    /// Thread pointer.
    pub tls: u64,
    /// Address of the ids that it shall have, innermost namespace first.
    pub set_tid: u64,
    /// How many these are.
    pub set_tid_size: u64,
}

fn result(value: libc::c_long) -> io::Result<u64> {
    if value == -1 { Err(io::Error::last_os_error()) } else { Ok(value as u64) }
}

/// Whether `DMTCP_FORBID` names this kernel feature.
pub fn forbidden(feature: &str) -> bool {
    std::env::var(env::FORBID).is_ok_and(|list| list.split(',').any(|name| name.trim() == feature))
}

/// A child like fork's, with these flags, this signal at its end and, if given, this pid. `Ok(0)` in the child.
///
/// # Safety
/// As for fork: the calling process must have one thread, for locks that others hold stay locked in the child.
pub unsafe fn fork(flags: libc::c_int, exit_signal: libc::c_int, pid: Option<i32>) -> io::Result<i32> {
    let args = CloneArgs {
        flags: flags as u64,
        exit_signal: exit_signal as u64,
        set_tid: pid.as_ref().map_or(0, |pid| std::ptr::from_ref(pid) as u64),
        set_tid_size: u64::from(pid.is_some()),
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM and a stack, the child goes on with a copy of everything, here.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    result(pid).map(|pid| pid as i32)
}

/// Maps private anonymous memory at an address where nothing is. `EEXIST` if something is there after all.
pub fn map_anonymous(start: u64, length: u64, prot: libc::c_int, flags: libc::c_int) -> io::Result<()> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    map(start, length, prot, flags, -1, 0)
}

/// Maps a file at an address where nothing is.
pub fn map_file(
    start: u64,
    length: u64,
    prot: libc::c_int,
    flags: libc::c_int,
    file: RawFd,
    offset: u64,
) -> io::Result<()> {
    map(start, length, prot, flags, file, offset)
}

fn map(start: u64, length: u64, prot: libc::c_int, flags: libc::c_int, file: RawFd, offset: u64) -> io::Result<()> {
    let flags = flags | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE never takes the place of memory that is in use.
    let at = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            start,
            length,
            prot as libc::c_long,
            flags as libc::c_long,
            file as libc::c_long,
            offset,
        )
    };
    result(at).map(drop)
}

/// Changes the protection of memory that was mapped with [`map_anonymous`] or [`map_file`].
pub fn protect(start: u64, length: u64, prot: libc::c_int) -> io::Result<()> {
    // SAFETY: the callers pass ranges that they have mapped themselves and hold no reference into.
    result(unsafe { libc::syscall(libc::SYS_mprotect, start, length, prot as libc::c_long) }).map(drop)
}

/// Advice on memory that was mapped with [`map_anonymous`] or [`map_file`].
pub fn advise(start: u64, length: u64, advice: libc::c_int) -> io::Result<()> {
    // SAFETY: the callers pass ranges that they have mapped themselves, and advice that keeps their content.
    result(unsafe { libc::syscall(libc::SYS_madvise, start, length, advice as libc::c_long) }).map(drop)
}

/// Moves a mapping to where nothing is.
///
/// # Safety
/// Nobody may use the memory at its old place any more, and nothing may be at the new one.
pub unsafe fn move_mapping(from: Range<u64>, to: u64) -> io::Result<()> {
    let length = from.end - from.start;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the caller's promise.
    let at = unsafe { libc::syscall(libc::SYS_mremap, from.start, length, length, flags as libc::c_long, to) };
    result(at).map(drop)
}

/// The calling thread's thread pointer.
fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the ABI has the thread pointer's own value at %fs:0.
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags)) };
    pointer
}

/// Takes away the restartable sequence that libc registered for the calling thread: once its memory is unmapped, the
/// kernel would kill the thread at the next preemption.
pub fn unregister_rseq() {
    const UNREGISTER: libc::c_long = 1;
    const SIGNATURE: libc::c_long = 0x5305_3053;
    // SAFETY: dlsym only looks the names up; both are data that never changes after start.
    let (offset, size) = unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
        if offset.is_null() || size.is_null() || *size == 0 {
            return;
        }
        (*offset, *size)
    };
    let area = thread_pointer().wrapping_add_signed(offset);
    // The length that was registered is 32, or, where the kernel knows more fields, what the library says.
    for length in [32, libc::c_long::from(size), libc::c_long::from(size.next_multiple_of(32))] {
        // SAFETY: taking the registration away changes no memory but the area itself.
        if unsafe { libc::syscall(libc::SYS_rseq, area, length, UNREGISTER, SIGNATURE) } == 0 {
            return;
        }
    }
}

/// Whether the calling thread has a capability, seen from its own user namespace.
pub fn has_capability(number: u32) -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0u32];
    let mut data = [0u32; 6];
    // SAFETY: the kernel reads 8 bytes and writes 24.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    done == 0 && data[3 * (number as usize / 32)] & (1 << (number % 32)) != 0
}

/// Lets a capability survive an exec, if the calling thread has it: without this only root keeps any.
pub fn keep_capability_over_exec(number: u32) {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0u32];
    let mut data = [0u32; 6];
    let word = 3 * (number as usize / 32);
    // SAFETY: the kernel reads the header, and writes or reads 24 bytes. What is not permitted is refused.
    unsafe {
        if libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) == 0 {
            data[word + 2] |= data[word + 1] & (1 << (number % 32));
            libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr());
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0);
        }
    }
}

/// Blocks every signal for the calling thread and those that it makes.
pub fn block_signals() {
    let all = u64::MAX;
    // SAFETY: the kernel reads 8 bytes. Libc's own signals are meant as well, so libc is not asked.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, 0usize, 8usize) };
}

/// A descriptor that becomes readable when a process ends.
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let number = result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

/// Waits until a child has ended, and leaves it to be waited for.
pub fn await_end(child: Pid) {
    let flags = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    // SAFETY: no place for the answer is asked for. An error means that there is nothing to wait for.
    while unsafe { libc::syscall(libc::SYS_waitid, libc::P_PID, child.as_raw(), 0usize, flags, 0usize) } != 0 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
}

/// Ends the calling process by this signal, without a core file. Returns if the signal does not do that.
pub fn die_by(signal: i32) {
    let none = 0u64;
    // SAFETY: numbers only, and an action and a mask that the kernel reads; the default action runs no code of ours.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        libc::signal(signal, libc::SIG_DFL);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0usize, 8usize);
        libc::kill(libc::getpid(), signal);
    }
}

/// How a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildState {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it; real-time signals are meant as well.
    Killed(i32),
    /// This signal stopped it.
    Stopped(i32),
}

/// News of a child, or of any with -1, without waiting; `None` if there is none, ECHILD if there is no child.
pub fn child_news(pid: i32) -> io::Result<Option<(i32, ChildState)>> {
    let mut status = 0;
    // SAFETY: the kernel writes the status.
    let pid = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let state = match status {
        _ if pid == 0 => return Ok(None),
        _ if libc::WIFEXITED(status) => ChildState::Exited(libc::WEXITSTATUS(status)),
        _ if libc::WIFSIGNALED(status) => ChildState::Killed(libc::WTERMSIG(status)),
        _ => ChildState::Stopped(libc::WSTOPSIG(status)),
    };
    Ok(Some((pid, state)))
}

/// CPUs that the calling thread may run on.
pub fn allowed_cpus() -> usize {
    let mut set = [0u64; 1024];
    // SAFETY: the kernel writes at most the length that it is told.
    let bytes = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&set), set.as_mut_ptr()) };
    if bytes <= 0 { 1 } else { set.iter().map(|word| word.count_ones() as usize).sum() }
}

/// A descendant of a process that has ended, if there is one.
pub fn ended_descendant(process: Pid) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|word| word.parse().ok()).map(Pid::from_raw).find_map(|child| {
        let status = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The name before the state may hold anything.
        let has_ended = status.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']));
        if has_ended { Some(child) } else { ended_descendant(child) }
    })
}
