//! Users and groups: setuid(3) and its kin, which libc carries out in every thread.
//!
//! To the kernel each thread has a user and groups of its own. libc lets all threads make the call, each in the handler of a
//! signal that it sends to the id in the thread's control block: while ids are translated, that is the virtual one. So the
//! call is carried to the threads from here, by the same signal:
//!
//! ```text
//!   caller   asks each thread that there is, one by one, until there are no others; then makes the call itself
//!   thread   in the handler: makes the call, answers
//! ```
//! A signal of libc's own goes on to libc's handler. What can go wrong: the threads cannot be listed, since /proc is not
//! there (chroot). Then the call fails with EAGAIN before anybody has made it: one thread that kept its rights would go
//! unnoticed. And as in libc, a process ends if its threads do not all get the same answer.

use crate::signals::{self, CHANGE_USERS};
use crate::table;
use crate::translate::answer;
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::{proc_files, sys};
use libc::{c_char, c_int, c_long, c_void, gid_t, siginfo_t, uid_t};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

/// Whether a thread is just carrying a call to all others.
static BUSY: AtomicU32 = AtomicU32::new(0);
/// The thread that is asked, by its real id; 0: it has answered.
static ASKED: AtomicU32 = AtomicU32::new(0);
/// What it has answered: 0, or an error.
static ANSWER: AtomicI32 = AtomicI32::new(0);
/// The call: its number, its arguments.
static CALL: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
/// libc's handler, behind ours.
static LIBCS: AtomicUsize = AtomicUsize::new(0);

/// How often somebody who waits looks whether a restart, or the end of a thread, has made waiting vain.
const LOOK_AGAIN: u64 = 20_000_000;
/// "This one", where a call takes several users.
const UNCHANGED: uid_t = uid_t::MAX;

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn ours() -> usize {
    obey as Handler as usize
}

fn make_call() -> Result<usize, i32> {
    let [number, a, b, c] = CALL.each_ref().map(|word| word.load(Ordering::Acquire));
    // SAFETY: the caller of the wrapper passes the arguments, and waits until all have made the call.
    unsafe { sys::call(number as i32, [a, b, c, 0, 0, 0]) }
}

/// In the place of libc's handler.
extern "C" fn obey(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a siginfo: its code is the third word, the value is at byte 24.
    let (code, value) = unsafe { (*info.cast::<i32>().add(2), *info.cast::<usize>().add(3)) };
    if code == libc::SI_QUEUE && value == (&raw const ASKED) as usize {
        // One that came twice, over a restart, finds that its thread is not asked any more.
        if ASKED.load(Ordering::Acquire) == sys::tid() as u32 {
            ANSWER.store(make_call().err().unwrap_or(0), Ordering::Release);
            ASKED.store(0, Ordering::Release);
            sys::futex_wake(ASKED.as_ptr());
        }
        return;
    }
    let libcs = LIBCS.load(Ordering::Acquire);
    if libcs != 0 {
        // SAFETY: this is libc's handler, as it was found in the kernel.
        let libcs: Handler = unsafe { std::mem::transmute(libcs) };
        libcs(signal, info, context);
    }
}

/// Whether our handler is in the place of libc's, which is there as soon as there is a second thread.
fn take_place() -> bool {
    let Some(mut action) = signals::kernel_action(CHANGE_USERS) else { return false };
    if action[0] == ours() as u64 {
        return true;
    }
    if action[0] <= 1 {
        return false;
    }
    LIBCS.store(action[0] as usize, Ordering::Release);
    action[0] = ours() as u64;
    action[1] |= (libc::SA_SIGINFO | libc::SA_RESTART) as u64;
    signals::exchange_kernel_action(CHANGE_USERS, &action).is_some()
}

/// A thread's answer: whether it is another one than `expected`; `None`: the thread has ended, or a restart has come.
fn ask(tid: i32, restarts: u32) -> Option<i32> {
    ASKED.store(tid as u32, Ordering::Release);
    let mut info = [0u64; 16];
    info[0] = CHANGE_USERS as u64;
    info[1] = u64::from(libc::SI_QUEUE as u32);
    info[2] = sys::pid() as u64;
    info[3] = (&raw const ASKED) as u64;
    let info = [sys::pid() as usize, tid as usize, CHANGE_USERS, info.as_ptr() as usize, 0, 0];
    let known = [sys::pid() as usize, tid as usize, 0, 0, 0, 0];
    // SAFETY: the kernel reads a siginfo.
    while let Err(error) = unsafe { sys::call(libc::SYS_rt_tgsigqueueinfo as i32, info) } {
        // No room for one more signal: there will be.
        if error != libc::EAGAIN || table::restarts() != restarts {
            return None;
        }
        sys::nap(LOOK_AGAIN);
    }
    while ASKED.load(Ordering::Acquire) == tid as u32 {
        let _ = sys::futex_wait(ASKED.as_ptr(), tid as u32, Some(LOOK_AGAIN));
        // SAFETY: signal 0 only asks.
        let gone = unsafe { sys::call(libc::SYS_tgkill as i32, known) }.is_err();
        if table::restarts() != restarts || gone && ASKED.load(Ordering::Acquire) == tid as u32 {
            return None;
        }
    }
    Some(ANSWER.load(Ordering::Acquire))
}

/// Lets all other threads make the call; their answers.
fn ask_all() -> Result<BTreeSet<i32>, i32> {
    let mut answers = BTreeSet::new();
    loop {
        let restarts = table::restarts();
        let mut asked = BTreeSet::from([sys::tid()]);
        loop {
            let tasks = proc_files::numbers_in("/proc/thread-self/..").map_err(|_| libc::EAGAIN)?;
            let others: Vec<i32> = tasks.into_iter().filter(|tid| asked.insert(*tid)).collect();
            if others.is_empty() {
                break;
            }
            for tid in others {
                answers.extend(ask(tid, restarts));
            }
        }
        ASKED.store(0, Ordering::Release);
        // Who has been asked has another id now: all again, which changes nothing for those who have made the call.
        if table::restarts() == restarts {
            return Ok(answers);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "libc ends the process in the same way")]
fn carry(number: c_long, arguments: [usize; 3]) -> Result<usize, i32> {
    for (word, value) in CALL.iter().zip([number as usize].into_iter().chain(arguments)) {
        word.store(value, Ordering::Release);
    }
    if !take_place() {
        return Err(libc::EAGAIN);
    }
    let answers = ask_all()?;
    let own = make_call();
    if answers.iter().any(|answer| *answer != own.err().unwrap_or(0)) {
        std::process::abort();
    }
    own
}

/// A call in all threads. Nothing but the signal by which others carry their calls to this one, and that of the
/// checkpoint, interrupts it: a handler that jumped away would leave half of them behind.
fn in_all_threads(number: c_long, arguments: [usize; 3]) -> c_int {
    let mask = signals::change_mask(libc::SIG_BLOCK, !(1 << (CHANGE_USERS - 1) | signals::checkpoint_bit()));
    while BUSY.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_err() {
        let _ = sys::futex_wait(BUSY.as_ptr(), 1, Some(LOOK_AGAIN));
    }
    let result = carry(number, arguments);
    BUSY.store(0, Ordering::Release);
    sys::futex_wake(BUSY.as_ptr());
    signals::change_mask(libc::SIG_SETMASK, mask);
    answer(result) as c_int
}

/// The hook for a fork's child: whoever carried a call is not here.
pub fn forget(_: Core) {
    BUSY.store(0, Ordering::Release);
    ASKED.store(0, Ordering::Release);
}

#[inline(always)]
fn change(number: c_long, arguments: [usize; 3], libcs: impl FnOnce() -> c_int) -> c_int {
    if table::current().is_none() { libcs() } else { in_all_threads(number, arguments) }
}

/// The groups of a user, as libc finds them.
#[allow(clippy::disallowed_methods, reason = "the program has called a function that asks the same")]
fn groups_of(user: *const c_char, group: gid_t) -> Vec<gid_t> {
    let mut groups: Vec<gid_t> = vec![0; 64];
    loop {
        let mut count = groups.len() as c_int;
        // SAFETY: the program passes a zero-terminated name; there is room for so many groups.
        if unsafe { libc::getgrouplist(user, group, groups.as_mut_ptr(), &raw mut count) } >= 0 {
            groups.truncate(count as usize);
            return groups;
        }
        groups.resize(groups.len().max(count as usize) * 2, 0);
    }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// In all threads.
    fn setuid(user: uid_t) -> c_int { change(libc::SYS_setuid, [user as usize, 0, 0], || next(user)) }
    /// In all threads.
    fn setgid(group: gid_t) -> c_int { change(libc::SYS_setgid, [group as usize, 0, 0], || next(group)) }
    /// In all threads.
    fn seteuid(user: uid_t) -> c_int {
        if user == UNCHANGED { return next(user); }
        change(libc::SYS_setresuid, [UNCHANGED as usize, user as usize, UNCHANGED as usize], || next(user))
    }
    /// In all threads.
    fn setegid(group: gid_t) -> c_int {
        if group == UNCHANGED { return next(group); }
        change(libc::SYS_setresgid, [UNCHANGED as usize, group as usize, UNCHANGED as usize], || next(group))
    }
    /// In all threads.
    fn setreuid(real: uid_t, effective: uid_t) -> c_int {
        change(libc::SYS_setreuid, [real as usize, effective as usize, 0], || next(real, effective))
    }
    /// In all threads.
    fn setregid(real: gid_t, effective: gid_t) -> c_int {
        change(libc::SYS_setregid, [real as usize, effective as usize, 0], || next(real, effective))
    }
    /// In all threads.
    fn setresuid(real: uid_t, effective: uid_t, saved: uid_t) -> c_int {
        let arguments = [real as usize, effective as usize, saved as usize];
        change(libc::SYS_setresuid, arguments, || next(real, effective, saved))
    }
    /// In all threads.
    fn setresgid(real: gid_t, effective: gid_t, saved: gid_t) -> c_int {
        let arguments = [real as usize, effective as usize, saved as usize];
        change(libc::SYS_setresgid, arguments, || next(real, effective, saved))
    }
    /// In all threads.
    fn setgroups(count: usize, groups: *const gid_t) -> c_int {
        change(libc::SYS_setgroups, [count, groups as usize, 0], || next(count, groups))
    }
    /// libc sets the groups past the wrapper; as many as the kernel takes.
    fn initgroups(user: *const c_char, group: gid_t) -> c_int {
        if table::current().is_none() { return next(user, group); }
        let groups = groups_of(user, group);
        let mut count = groups.len();
        loop {
            let result = in_all_threads(libc::SYS_setgroups, [count, groups.as_ptr() as usize, 0]);
            if result == 0 || crate::translate::errno() != libc::EINVAL || count <= 1 {
                return result;
            }
            count -= 1;
        }
    }
}
