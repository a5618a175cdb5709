//! Locks for wrappers and hooks of C plugins: `DmtcpMutex` and `DmtcpRWLock`.
//!
//! They are futexes and nothing else: no libc, no thread id (which may be another one after a restart), no memory but their
//! own. A thread that waits for one is stopped and saved like any other. The layout is the same for 32 and 64 bits.
//!
//! ```text
//!   DmtcpMutex    word: 0 free, 1 locked, 2 locked and waited for    owner: who, by the address of his thread-local data
//!   DmtcpRWLock   state: WRITER | readers    queued: writers that wait    change: goes up whenever the state gets free
//! ```
//! What can go wrong: a hook waits for a lock of a stopped thread. That ends its checkpoint ([`super::hooks`]).

use dmtcp_plugin_api::sys;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// `DmtcpMutexType`.
type MutexType = c_int;
/// `DMTCP_MUTEX_RECURSIVE`.
const RECURSIVE: u32 = 1;
/// `DMTCP_MUTEX_LLL`: nobody asks who has it.
const PLAIN: u32 = 2;
const WRITER: u32 = 1 << 31;

/// `DmtcpMutex`.
#[repr(C)]
pub struct Mutex {
    word: AtomicU32,
    kind: u32,
    owner: AtomicU64,
    depth: AtomicU32,
    reserved: u32,
}

/// `DmtcpRWLock`.
#[repr(C)]
pub struct RwLock {
    state: AtomicU32,
    queued: AtomicU32,
    change: AtomicU32,
    reserved: u32,
}

thread_local! {
    /// Its address tells threads apart, and stays over a restart.
    static HERE: u8 = const { 0 };
}

fn me() -> u64 {
    HERE.with(|here| std::ptr::from_ref(here) as u64)
}

/// A lock of the caller's.
fn at<'a, T>(lock: *const T) -> Option<&'a T> {
    // SAFETY: the interface demands null or a lock that outlives its use; its fields are atomics, or set by `Init` only.
    unsafe { lock.as_ref() }
}

/// Makes a mutex of a kind.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpMutexInit(mutex: *mut Mutex, kind: MutexType) {
    if !mutex.is_null() {
        let new = Mutex {
            word: AtomicU32::new(0),
            kind: kind as u32,
            owner: AtomicU64::new(0),
            depth: AtomicU32::new(0),
            reserved: 0,
        };
        // SAFETY: the caller has the room, and nobody uses it yet.
        unsafe { mutex.write(new) };
    }
}

/// What the caller's having the mutex already means; `None`: he has not.
fn again(mutex: &Mutex, busy: c_int) -> Option<c_int> {
    if mutex.kind == PLAIN || mutex.owner.load(Ordering::Relaxed) != me() {
        return None;
    }
    if mutex.kind != RECURSIVE {
        return Some(busy);
    }
    mutex.depth.fetch_add(1, Ordering::Relaxed);
    Some(0)
}

fn taken(mutex: &Mutex) -> c_int {
    mutex.owner.store(me(), Ordering::Relaxed);
    mutex.depth.store(1, Ordering::Relaxed);
    0
}

/// Takes a mutex. 0, or EDEADLK: the caller has it, and it is not recursive.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpMutexLock(mutex: *mut Mutex) -> c_int {
    let Some(mutex) = at(mutex) else { return libc::EINVAL };
    if let Some(result) = again(mutex, libc::EDEADLK) {
        return result;
    }
    if mutex.word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
        while mutex.word.swap(2, Ordering::Acquire) != 0 {
            let _ = sys::futex_wait(mutex.word.as_ptr(), 2, None);
        }
    }
    taken(mutex)
}

/// Takes a mutex that is free. 0 or EBUSY.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpMutexTryLock(mutex: *mut Mutex) -> c_int {
    let Some(mutex) = at(mutex) else { return libc::EINVAL };
    if let Some(result) = again(mutex, libc::EBUSY) {
        return result;
    }
    match mutex.word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => taken(mutex),
        Err(_) => libc::EBUSY,
    }
}

/// Gives a mutex back. 0, or EPERM: the caller does not have it.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpMutexUnlock(mutex: *mut Mutex) -> c_int {
    let Some(mutex) = at(mutex) else { return libc::EINVAL };
    if mutex.kind != PLAIN && mutex.owner.load(Ordering::Relaxed) != me() {
        return libc::EPERM;
    }
    if mutex.kind == RECURSIVE && mutex.depth.fetch_sub(1, Ordering::Relaxed) > 1 {
        return 0;
    }
    mutex.owner.store(0, Ordering::Relaxed);
    let word = mutex.word.as_ptr();
    if mutex.word.swap(0, Ordering::Release) == 2 {
        sys::futex_wake(word);
    }
    0
}

/// Makes a lock.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpRWLockInit(lock: *mut RwLock) {
    if !lock.is_null() {
        let zero = || AtomicU32::new(0);
        // SAFETY: the caller has the room, and nobody uses it yet.
        unsafe { lock.write(RwLock { state: zero(), queued: zero(), change: zero(), reserved: 0 }) };
    }
}

fn try_read(lock: &RwLock, pass_queue: bool) -> bool {
    loop {
        let state = lock.state.load(Ordering::Acquire);
        if state & WRITER != 0 || (!pass_queue && lock.queued.load(Ordering::Acquire) != 0) {
            return false;
        }
        if lock.state.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return true;
        }
    }
}

/// Waits until a try succeeds; each unlock that frees the state is a reason for another one.
fn wait(lock: &RwLock, mut attempt: impl FnMut() -> bool) {
    loop {
        let change = lock.change.load(Ordering::Acquire);
        if attempt() {
            return;
        }
        let _ = sys::futex_wait(lock.change.as_ptr(), change, None);
    }
}

fn read(lock: *mut RwLock, pass_queue: bool) -> c_int {
    let Some(lock) = at(lock) else { return libc::EINVAL };
    wait(lock, || try_read(lock, pass_queue));
    0
}

/// Takes a lock for reading, behind writers that wait.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpRWLockRdLock(lock: *mut RwLock) -> c_int {
    read(lock, false)
}

/// Takes a lock for reading, past writers that wait: for who has it for reading already.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpRWLockRdLockIgnoreQueuedWriter(lock: *mut RwLock) -> c_int {
    read(lock, true)
}

/// Takes a lock for reading if that is possible at once. 0 or EBUSY.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpRWLockTryRdLock(lock: *mut RwLock) -> c_int {
    let Some(lock) = at(lock) else { return libc::EINVAL };
    if try_read(lock, false) { 0 } else { libc::EBUSY }
}

/// Takes a lock for writing.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpRWLockWrLock(lock: *mut RwLock) -> c_int {
    let Some(lock) = at(lock) else { return libc::EINVAL };
    lock.queued.fetch_add(1, Ordering::AcqRel);
    wait(lock, || lock.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok());
    lock.queued.fetch_sub(1, Ordering::AcqRel);
    0
}

/// Gives a lock back. 0, or EPERM: nobody has it.
#[unsafe(no_mangle)]
pub extern "C" fn DmtcpRWLockUnlock(lock: *mut RwLock) -> c_int {
    let Some(lock) = at(lock) else { return libc::EINVAL };
    let change = lock.change.as_ptr();
    let is_free = match lock.state.load(Ordering::Acquire) {
        0 => return libc::EPERM,
        WRITER => {
            lock.state.store(0, Ordering::Release);
            true
        }
        _ => lock.state.fetch_sub(1, Ordering::Release) == 1,
    };
    if is_free {
        lock.change.fetch_add(1, Ordering::AcqRel);
        sys::futex_wake(change);
    }
    0
}
