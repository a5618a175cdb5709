//! Raw system calls for in-process code: no libc, no errno, no cancellation point. Errors are errno values.
//!
//! Each function is a thin wrapper of the call of its name; see its man page in section 2.

pub mod gate;
mod process;

pub use process::{
    Scheduling, affinity, io_priority, limit, memory_barrier, nice, scheduling, set_affinity, set_io_priority,
    set_nice, set_scheduling, usage, user_ids,
};

use gate::syscall;
use std::ffi::c_void;
use syscalls::Sysno;

type Result<T> = std::result::Result<T, i32>;

/// No errno is higher.
const HIGHEST_ERROR: isize = 4095;

fn done(result: usize) -> Result<usize> {
    let value = result as isize;
    if (-HIGHEST_ERROR..0).contains(&value) { Err(-value as i32) } else { Ok(result) }
}

/// Any system call.
///
/// # Safety
/// As the call itself: pointers among the arguments must be valid for what the kernel does with them.
pub unsafe fn call(number: i32, args: [usize; 6]) -> Result<usize> {
    // SAFETY: the caller's promise.
    done(unsafe { gate::enter(number as usize, args) })
}

/// A descriptor that closes itself by a raw close.
#[derive(Debug)]
pub struct Fd(i32);

impl Fd {
    /// Takes over a descriptor.
    pub fn own(number: i32) -> Self {
        Self(number)
    }
    /// Its number.
    pub fn number(&self) -> i32 {
        self.0
    }
    /// Gives the number away.
    pub fn leak(self) -> i32 {
        let number = self.0;
        std::mem::forget(self);
        number
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        close(self.0);
    }
}

/// A path with its terminating zero, on the stack if it is short.
fn with_path<R>(path: &[u8], f: impl FnOnce(*const u8) -> R) -> R {
    let mut short = [0u8; 256];
    if path.len() < short.len() {
        short[..path.len()].copy_from_slice(path);
        return f(short.as_ptr());
    }
    let mut long = Vec::with_capacity(path.len() + 1);
    long.extend_from_slice(path);
    long.push(0);
    f(long.as_ptr())
}

/// openat(AT_FDCWD, ...).
pub fn open(path: &[u8], flags: i32, mode: u32) -> Result<Fd> {
    // SAFETY: the path is zero-terminated and lives over the call.
    with_path(path, |p| done(unsafe { syscall!(Sysno::openat, libc::AT_FDCWD, p, flags, mode) })).map(|n| Fd(n as i32))
}

/// close.
pub fn close(number: i32) {
    // SAFETY: no memory is passed. Errors are of no use: the descriptor is gone either way.
    let _ = unsafe { syscall!(Sysno::close, number) };
}

/// read.
pub fn read(number: i32, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for its length.
    done(unsafe { syscall!(Sysno::read, number, into.as_mut_ptr(), into.len()) })
}

/// write.
pub fn write(number: i32, from: &[u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for its length.
    done(unsafe { syscall!(Sysno::write, number, from.as_ptr(), from.len()) })
}

/// pread64.
pub fn pread(number: i32, into: &mut [u8], offset: u64) -> Result<usize> {
    // SAFETY: the buffer is valid for its length.
    done(unsafe { syscall!(Sysno::pread64, number, into.as_mut_ptr(), into.len(), offset) })
}

/// pwrite64.
pub fn pwrite(number: i32, from: &[u8], offset: u64) -> Result<usize> {
    // SAFETY: the buffer is valid for its length.
    done(unsafe { syscall!(Sysno::pwrite64, number, from.as_ptr(), from.len(), offset) })
}

/// lseek.
pub fn seek(number: i32, offset: i64, whence: i32) -> Result<u64> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::lseek, number, offset, whence) }).map(|n| n as u64)
}

/// ftruncate.
pub fn set_length(number: i32, length: u64) -> Result<()> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::ftruncate, number, length) }).map(drop)
}

/// fsync.
pub fn sync(number: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::fsync, number) }).map(drop)
}

/// mkdirat(AT_FDCWD, ...).
pub fn make_directory(path: &[u8], mode: u32) -> Result<()> {
    // SAFETY: the path is zero-terminated and lives over the call.
    with_path(path, |p| done(unsafe { syscall!(Sysno::mkdirat, libc::AT_FDCWD, p, mode) })).map(drop)
}

/// unlinkat(AT_FDCWD, ..., 0).
pub fn unlink(path: &[u8]) -> Result<()> {
    // SAFETY: the path is zero-terminated and lives over the call.
    with_path(path, |p| done(unsafe { syscall!(Sysno::unlinkat, libc::AT_FDCWD, p, 0) })).map(drop)
}

/// unlinkat(AT_FDCWD, ..., AT_REMOVEDIR).
pub fn remove_directory(path: &[u8]) -> Result<()> {
    // SAFETY: the path is zero-terminated and lives over the call.
    with_path(path, |p| done(unsafe { syscall!(Sysno::unlinkat, libc::AT_FDCWD, p, libc::AT_REMOVEDIR) })).map(drop)
}

/// renameat(AT_FDCWD, ..., AT_FDCWD, ...).
pub fn rename(from: &[u8], to: &[u8]) -> Result<()> {
    let at = libc::AT_FDCWD;
    // SAFETY: the paths are zero-terminated and live over the call.
    with_path(from, |f| with_path(to, |t| done(unsafe { syscall!(Sysno::renameat, at, f, at, t) }))).map(drop)
}

/// linkat(AT_FDCWD, ..., AT_FDCWD, ..., 0).
pub fn link(from: &[u8], to: &[u8]) -> Result<()> {
    let at = libc::AT_FDCWD;
    // SAFETY: the paths are zero-terminated and live over the call.
    with_path(from, |f| with_path(to, |t| done(unsafe { syscall!(Sysno::linkat, at, f, at, t, 0) }))).map(drop)
}

/// symlinkat(..., AT_FDCWD, ...).
pub fn symlink(target: &[u8], path: &[u8]) -> Result<()> {
    let at = libc::AT_FDCWD;
    // SAFETY: the paths are zero-terminated and live over the call.
    with_path(target, |t| with_path(path, |p| done(unsafe { syscall!(Sysno::symlinkat, t, at, p) }))).map(drop)
}

/// readlinkat(AT_FDCWD, ...).
pub fn readlink(path: &[u8], into: &mut [u8]) -> Result<usize> {
    with_path(path, |p| {
        // SAFETY: the path is zero-terminated, the buffer valid for its length.
        done(unsafe { syscall!(Sysno::readlinkat, libc::AT_FDCWD, p, into.as_mut_ptr(), into.len()) })
    })
}

/// fstat.
pub fn fstat(number: i32) -> Result<libc::stat> {
    // SAFETY: all-zero bytes are a valid `stat`.
    let mut out: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `out` is a kernel stat buffer of x86_64.
    done(unsafe { syscall!(Sysno::fstat, number, &raw mut out) })?;
    Ok(out)
}

/// stat.
pub fn stat(path: &[u8]) -> Result<libc::stat> {
    stat_with(path, 0)
}

/// Of a symbolic link itself.
pub fn link_stat(path: &[u8]) -> Result<libc::stat> {
    stat_with(path, libc::AT_SYMLINK_NOFOLLOW)
}

fn stat_with(path: &[u8], flags: i32) -> Result<libc::stat> {
    // SAFETY: all-zero bytes are a valid `stat`.
    let mut out: libc::stat = unsafe { std::mem::zeroed() };
    with_path(path, |p| {
        // SAFETY: the path is zero-terminated, `out` a kernel stat buffer.
        done(unsafe { syscall!(Sysno::newfstatat, libc::AT_FDCWD, p, &raw mut out, flags) })
    })?;
    Ok(out)
}

/// getdents64.
pub fn getdents(number: i32, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for its length.
    done(unsafe { syscall!(Sysno::getdents64, number, into.as_mut_ptr(), into.len()) })
}

/// fcntl with an integer argument.
pub fn fcntl(number: i32, command: i32, argument: usize) -> Result<usize> {
    // SAFETY: callers use commands whose argument is an integer.
    done(unsafe { syscall!(Sysno::fcntl, number, command, argument) })
}

/// ioctl that fills or reads one value.
pub fn ioctl<T>(number: i32, request: usize, value: &mut T) -> Result<usize> {
    // SAFETY: callers pass the type that the request is documented to use.
    done(unsafe { syscall!(Sysno::ioctl, number, request, std::ptr::from_mut(value)) })
}

/// fcntl with a pointer to a value.
pub fn fcntl_value<T>(number: i32, command: i32, value: &mut T) -> Result<usize> {
    // SAFETY: callers pass the type that the command is documented to use.
    done(unsafe { syscall!(Sysno::fcntl, number, command, std::ptr::from_mut(value)) })
}

/// fstatfs: the file system's magic number.
pub fn filesystem(number: i32) -> Result<u64> {
    // SAFETY: all-zero bytes are a valid `statfs`.
    let mut out: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `out` is a kernel statfs buffer of x86_64.
    done(unsafe { syscall!(Sysno::fstatfs, number, &raw mut out) })?;
    Ok(out.f_type as u64)
}

/// fstatfs: bytes that this user may still write there; `None` if the file system does not count them.
pub fn free_bytes(number: i32) -> Result<Option<u64>> {
    // SAFETY: all-zero bytes are a valid `statfs`.
    let mut out: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `out` is a kernel statfs buffer of x86_64.
    done(unsafe { syscall!(Sysno::fstatfs, number, &raw mut out) })?;
    let blocks = if user_ids()[1] == 0 { out.f_bfree } else { out.f_bavail };
    Ok((out.f_blocks > 0).then(|| blocks.saturating_mul(out.f_bsize as u64)))
}

/// pipe2: reading end, writing end.
pub fn pipe(flags: i32) -> Result<(Fd, Fd)> {
    let mut ends = [-1i32; 2];
    // SAFETY: the array has room for both ends.
    done(unsafe { syscall!(Sysno::pipe2, ends.as_mut_ptr(), flags) })?;
    Ok((Fd(ends[0]), Fd(ends[1])))
}

/// tee: copies what is in one pipe to another without consuming it.
pub fn tee(from: i32, to: i32, length: usize) -> Result<usize> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::tee, from, to, length, libc::SPLICE_F_NONBLOCK) })
}

/// poll of one descriptor, without waiting: what is ready.
pub fn ready(number: i32, events: i16) -> Result<i16> {
    let mut poll = libc::pollfd { fd: number, events, revents: 0 };
    // SAFETY: one valid entry.
    done(unsafe { syscall!(Sysno::poll, &raw mut poll, 1, 0) })?;
    Ok(poll.revents)
}

/// dup3, or dup2 without flags.
pub fn dup_to(from: i32, to: i32, flags: i32) -> Result<()> {
    if from == to {
        return Ok(());
    }
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::dup3, from, to, flags) }).map(drop)
}

/// close_range.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::close_range, first, last, 0) }).map(drop)
}

/// An anonymous private mapping, readable and writable.
pub fn map_anonymous(length: usize) -> Result<u64> {
    map(0, length, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
}

/// mmap. Never MAP_FIXED over memory that is in use: the caller's duty.
pub fn map(address: u64, length: usize, prot: i32, flags: i32, fd: i32, offset: u64) -> Result<u64> {
    // SAFETY: new mappings harm nothing; callers do not pass MAP_FIXED over memory in use.
    done(unsafe { syscall!(Sysno::mmap, address, length, prot, flags, fd, offset) }).map(|n| n as u64)
}

/// munmap. The caller must own the range.
pub fn unmap(address: u64, length: u64) -> Result<()> {
    // SAFETY: callers unmap only what they mapped.
    done(unsafe { syscall!(Sysno::munmap, address, length) }).map(drop)
}

/// mprotect. The caller must own the range.
pub fn protect(address: u64, length: u64, prot: i32) -> Result<()> {
    // SAFETY: callers change only what they mapped.
    done(unsafe { syscall!(Sysno::mprotect, address, length, prot) }).map(drop)
}

/// mremap with an old length of 0: a second mapping of the object behind a shared mapping, from the same offset on.
pub fn second_view(address: u64, length: u64) -> Result<u64> {
    // SAFETY: MREMAP_MAYMOVE with an old length of 0 leaves the old mapping alone and makes a new one.
    done(unsafe { syscall!(Sysno::mremap, address, 0, length, libc::MREMAP_MAYMOVE, 0) }).map(|n| n as u64)
}

/// mincore: which pages of a range are in memory, lowest bit of one byte each.
pub fn resident(address: u64, length: u64, into: &mut [u8]) -> Result<()> {
    if (into.len() as u64) < length / 4096 {
        return Err(libc::EINVAL);
    }
    // SAFETY: the kernel writes one byte per page, for which there is room.
    done(unsafe { syscall!(Sysno::mincore, address, length, into.as_mut_ptr()) }).map(drop)
}

/// Whether there is a readable byte at an address of this process; never faults.
pub fn can_read(address: u64) -> bool {
    copy_from(address, &mut [0]) == Ok(1)
}

/// Copies memory of this process that may not be there; never faults.
pub fn copy_from(address: u64, into: &mut [u8]) -> Result<usize> {
    copy_from_process(tid(), address, into)
}

/// As [`copy_from`], of a process that may be traced.
pub fn copy_from_process(process: i32, address: u64, into: &mut [u8]) -> Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: into.len() };
    // SAFETY: `into` has room for what is copied; a bad remote address gives EFAULT.
    done(unsafe { syscall!(Sysno::process_vm_readv, process, &raw const local, 1, &raw const remote, 1, 0) })
}

/// gettid.
pub fn tid() -> i32 {
    // SAFETY: no arguments.
    done(unsafe { syscall!(Sysno::gettid) }).unwrap_or(0) as i32
}

/// getpid.
pub fn pid() -> i32 {
    // SAFETY: no arguments.
    done(unsafe { syscall!(Sysno::getpid) }).unwrap_or(0) as i32
}

/// getppid.
pub fn parent() -> i32 {
    // SAFETY: no arguments.
    done(unsafe { syscall!(Sysno::getppid) }).unwrap_or(0) as i32
}

/// sched_yield.
pub fn yield_cpu() {
    // SAFETY: no arguments.
    let _ = unsafe { syscall!(Sysno::sched_yield) };
}

/// clock_gettime as nanoseconds.
pub fn clock(clock: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec.
    let _ = unsafe { syscall!(Sysno::clock_gettime, clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Waits on a futex word while it has this value, at most so many nanoseconds (`None`: for ever).
pub fn futex_wait(word: *const u32, value: u32, limit: Option<u64>) -> Result<()> {
    let time =
        limit.map(|n| libc::timespec { tv_sec: (n / 1_000_000_000) as i64, tv_nsec: (n % 1_000_000_000) as i64 });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: a wrong address gives EFAULT; the timespec lives over the call.
    done(unsafe { syscall!(Sysno::futex, word, libc::FUTEX_WAIT, value, time, 0, 0) }).map(drop)
}

/// Wakes all that wait on a futex word.
pub fn futex_wake(word: *const u32) {
    // SAFETY: a wrong address gives EFAULT.
    let _ = unsafe { syscall!(Sysno::futex, word, libc::FUTEX_WAKE, i32::MAX, 0, 0, 0) };
}

/// prctl with integer arguments.
pub fn prctl(option: i32, a: usize, b: usize, c: usize, d: usize) -> Result<usize> {
    // SAFETY: callers pass options whose arguments are integers or point to what the option wants.
    done(unsafe { syscall!(Sysno::prctl, option, a, b, c, d) })
}

/// Whether two descriptors, one in each process or thread's table, are one open file description (kcmp(2)).
pub fn same_description(first: (i32, i32), second: (i32, i32)) -> Result<bool> {
    const KCMP_FILE: i32 = 0;
    // SAFETY: no memory is passed.
    done(unsafe { syscall!(Sysno::kcmp, first.0, second.0, KCMP_FILE, first.1, second.1) }).map(|n| n == 0)
}

/// kcmp(2), KCMP_EPOLL_TFD: whether `number` of a task is the description that its descriptor `epoll` watches under the
/// number `added`; `which` counts among several entries of that number.
pub fn watched_by_epoll(task: i32, epoll: i32, number: i32, added: i32, which: u32) -> Result<bool> {
    const KCMP_EPOLL_TFD: i32 = 7;
    let slot = [epoll as u32, added as u32, which];
    // SAFETY: the slot lives over the call and has the three fields of `struct kcmp_epoll_slot`.
    done(unsafe { syscall!(Sysno::kcmp, task, task, KCMP_EPOLL_TFD, number, slot.as_ptr()) }).map(|n| n == 0)
}

const SECOND: u64 = 1_000_000_000;

fn timespec(nanoseconds: u64) -> libc::timespec {
    libc::timespec { tv_sec: (nanoseconds / SECOND) as i64, tv_nsec: (nanoseconds % SECOND) as i64 }
}

/// timerfd_gettime: nanoseconds left. Brings the timer's count of expirations up to date.
pub fn timer_left(number: i32) -> Result<u64> {
    let mut out = libc::itimerspec { it_interval: timespec(0), it_value: timespec(0) };
    // SAFETY: `out` is a valid itimerspec.
    done(unsafe { syscall!(Sysno::timerfd_gettime, number, &raw mut out) })?;
    Ok(out.it_value.tv_sec as u64 * SECOND + out.it_value.tv_nsec as u64)
}

/// timerfd_settime; times in nanoseconds.
pub fn set_timer(number: i32, flags: i32, value: u64, interval: u64) -> Result<()> {
    let new = libc::itimerspec { it_interval: timespec(interval), it_value: timespec(value) };
    // SAFETY: `new` lives over the call.
    done(unsafe { syscall!(Sysno::timerfd_settime, number, flags, &raw const new, 0) }).map(drop)
}

/// Sleeps for so many nanoseconds; returns early when a signal comes.
pub fn nap(nanoseconds: u64) {
    let word = 0u32;
    let _ = futex_wait(&raw const word, 0, Some(nanoseconds));
}

/// Writes all bytes at an offset.
pub fn write_all_at(number: i32, mut from: &[u8], mut offset: u64) -> Result<()> {
    while !from.is_empty() {
        match pwrite(number, from, offset) {
            Ok(0) => return Err(libc::ENOSPC),
            Ok(count) => {
                from = &from[count..];
                offset += count as u64;
            }
            Err(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A pointer as a system call's argument.
pub fn argument<T>(pointer: *const T) -> usize {
    pointer.cast::<c_void>() as usize
}
