//! Senders of signals: what handlers, sigwaitinfo(2) and sigtimedwait(2) are told of them.
//!
//! A handler that wants a siginfo gets it from the kernel, with a real id. So while ids are translated, a function of ours
//! is in its place, and calls it. Handlers that were set before are replaced when the restart takes the table up; libc's own
//! two signals and that of the checkpoint are left alone, for who handles them compares real ids.

use crate::translate::shown;
use crate::{inline, table};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::ids::Table;
use dmtcp_plugin_api::{proc_files, sys};
use libc::{c_int, c_void, siginfo_t, sigset_t, timespec};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

const SIGNALS: usize = 65;
const SA_SIGINFO: u64 = 4;
/// libc's own: to cancel, and to change users.
const OWN: std::ops::RangeInclusive<usize> = 32..=CHANGE_USERS;
/// The signal by which libc carries changes of users and groups to all threads.
pub const CHANGE_USERS: usize = 33;
const MASK: usize = 8;

/// The program's functions behind ours, 0: none.
static HANDLERS: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];
/// The checkpoint's signal.
static CHECKPOINT: AtomicI32 = AtomicI32::new(0);

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// `struct kernel_sigaction` of x86_64: handler, flags, restorer, mask.
pub type KernelAction = [u64; 4];

/// Notes the checkpoint's signal: that of the only handler there is at INIT which belongs to a real-time signal.
pub fn note_checkpoint_signal(_: Core) {
    let handled = |number: &usize| kernel_action(*number).is_some_and(|action| action[0] > 1);
    let first = (*OWN.end() + 1..SIGNALS).rev().find(handled).unwrap_or(0);
    CHECKPOINT.store(first as i32, Ordering::Release);
}

/// What the kernel does with a signal.
pub fn kernel_action(number: usize) -> Option<KernelAction> {
    let mut action = [0; 4];
    // SAFETY: the kernel writes one action.
    unsafe { sys::call(libc::SYS_rt_sigaction as i32, [number, 0, action.as_mut_ptr() as usize, MASK, 0, 0]) }.ok()?;
    Some(action)
}

/// Sets an action that was there, or one with a function of ours that does what that did. The former one; `None`: it cannot
/// be set.
pub fn exchange_kernel_action(number: usize, action: &KernelAction) -> Option<KernelAction> {
    let mut old = [0; 4];
    let arguments = [number, action.as_ptr() as usize, old.as_mut_ptr() as usize, MASK, 0, 0];
    // SAFETY: as the caller promises, the function is one for handlers; the kernel reads one action and writes one.
    unsafe { sys::call(libc::SYS_rt_sigaction as i32, arguments) }.ok()?;
    Some(old)
}

/// Changes the calling thread's mask of blocked signals; the former one.
pub fn change_mask(how: c_int, mask: u64) -> u64 {
    let mut old = 0u64;
    let arguments = [how as usize, (&raw const mask) as usize, (&raw mut old) as usize, MASK, 0, 0];
    // SAFETY: the kernel reads one mask and writes one.
    let _ = unsafe { sys::call(libc::SYS_rt_sigprocmask as i32, arguments) };
    old
}

/// The checkpoint's signal in a mask.
pub fn checkpoint_bit() -> u64 {
    match CHECKPOINT.load(Ordering::Acquire) {
        0 => 0,
        signal => 1 << (signal - 1),
    }
}

/// The checkpoint's signal.
pub fn checkpoint() -> c_int {
    CHECKPOINT.load(Ordering::Acquire)
}

/// rt_sigaction(2) past libc: while ids are translated, our function is in the place of one that gets a siginfo. That of the
/// checkpoint stays what it is. The former action.
pub fn change(number: c_int, action: Option<KernelAction>) -> Result<KernelAction, c_int> {
    let place = HANDLERS.get(number as usize).ok_or(libc::EINVAL)?;
    if number == checkpoint() {
        return Ok([0; 4]);
    }
    let Some(given) = action else {
        let action = kernel_action(number as usize).ok_or(libc::EINVAL)?;
        return Ok(programs(place, action));
    };
    let before = place.load(Ordering::Acquire);
    let mut new = given;
    if given[1] & SA_SIGINFO != 0 && given[0] > 1 {
        place.store(given[0] as usize, Ordering::Release);
        new[0] = ours() as u64;
    }
    let old = exchange_kernel_action(number as usize, &new).ok_or(libc::EINVAL);
    if old.is_err() {
        place.store(before, Ordering::Release);
    }
    old.map(|[handler, flags, restorer, mask]| {
        [if handler == ours() as u64 { before as u64 } else { handler }, flags, restorer, mask]
    })
}

/// An action as the program knows it.
fn programs(place: &AtomicUsize, [handler, flags, restorer, mask]: KernelAction) -> KernelAction {
    let handler = if handler == ours() as u64 { place.load(Ordering::Acquire) as u64 } else { handler };
    [handler, flags, restorer, mask]
}

/// Whether the kernel forgets children as soon as they end: the process does not want to know.
pub fn ends_unseen() -> bool {
    kernel_action(libc::SIGCHLD as usize)
        .is_some_and(|action| action[0] == libc::SIG_IGN as u64 || action[1] & libc::SA_NOCLDWAIT as u64 != 0)
}

/// Our function's address.
fn ours() -> usize {
    handle as Handler as usize
}

/// The hook for RESTART: takes the places of handlers that were set when nothing was translated.
pub fn take_places(_: Core) {
    if table::current().is_none() {
        return;
    }
    for (number, place) in HANDLERS.iter().enumerate().skip(1) {
        if OWN.contains(&number) || number as i32 == checkpoint() || number as i32 == libc::SIGSYS {
            continue;
        }
        let Some(mut action) = kernel_action(number) else { continue };
        if action[1] & SA_SIGINFO == 0 || action[0] <= 1 || action[0] == ours() as u64 {
            continue;
        }
        place.store(action[0] as usize, Ordering::Release);
        action[0] = ours() as u64;
        exchange_kernel_action(number, &action);
    }
}

/// In the place of a handler of the program's.
extern "C" fn handle(number: c_int, info: *mut siginfo_t, context: *mut c_void) {
    if let Some(table) = table::current() {
        show_sender(table, info);
    }
    let place = HANDLERS.get(number as usize).map_or(0, |place| place.load(Ordering::Acquire));
    if place > 1 {
        // SAFETY: the program has set this function as the handler of the signal, with SA_SIGINFO.
        let handler: Handler = unsafe { std::mem::transmute(place) };
        handler(number, info, context);
    }
}

/// The program's function behind a handler of ours; of any other handler, its own address. For the core.
pub extern "C" fn handler_behind(number: c_int, handler: u64) -> u64 {
    let place = HANDLERS.get(number as usize).filter(|_| handler == ours() as u64);
    place.map(|place| place.load(Ordering::Acquire) as u64).filter(|behind| *behind > 1).unwrap_or(handler)
}

/// Whether a signal of this number and code says who sent it.
fn names_sender(number: c_int, code: c_int) -> bool {
    let sent = matches!(code, libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE | libc::SI_MESGQ);
    sent || number == libc::SIGCHLD && code > 0
}

/// Puts the virtual id of the sender into a siginfo that names one.
pub fn show_sender(table: Table, info: *mut siginfo_t) {
    // SAFETY: the kernel, or a call that succeeded, has filled it: number, errno, code, then at 16 the sender.
    unsafe {
        let words = info.cast::<i32>();
        let (number, code, sender) = (*words, *words.add(2), words.add(4));
        if names_sender(number, code) {
            *sender = shown(table, *sender);
        }
    }
}

/// `struct signalfd_siginfo`: words of it, and the places of number, code and sender.
const RECORD: usize = 32;
const RECORD_CODE: usize = 2;
const RECORD_SENDER: usize = 3;
/// The words from here on are always zero.
const RECORD_REST: usize = 25;

/// Shows the senders in what was read, if that came from a signalfd.
pub fn show_in_records(table: Table, number: c_int, buffer: *mut c_void, length: usize) {
    if !length.is_multiple_of(RECORD * 4) || !(buffer as usize).is_multiple_of(4) {
        return;
    }
    // SAFETY: the kernel has just written so many bytes there.
    let words = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<i32>(), length / 4) };
    let like = |record: &[i32]| (1..65).contains(&record[0]) && record[RECORD_REST..].iter().all(|word| *word == 0);
    if !words.chunks_exact(RECORD).all(like) {
        return;
    }
    let link = proc_files::read_link(&proc_files::task_path(sys::tid(), &format!("fd/{number}")));
    if link.is_ok_and(|link| link == b"anon_inode:[signalfd]") {
        for record in words.chunks_exact_mut(RECORD) {
            if names_sender(record[0], record[RECORD_CODE]) {
                record[RECORD_SENDER] = shown(table, record[RECORD_SENDER]);
            }
        }
    }
}

/// The result of a call that has taken a signal.
pub fn taken(result: c_int, info: *mut siginfo_t) -> c_int {
    if result > 0
        && !info.is_null()
        && let Some(table) = table::current()
    {
        show_sender(table, info);
    }
    result
}

/// sigaction of a signal that is ours while calls past libc are trapped.
fn believe(action: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    // SAFETY: the program passes null or valid actions; the first word of a sigset_t is the kernel's set.
    unsafe {
        let set = |mask: *const sigset_t| mask.cast::<u64>().read();
        let given = action.as_ref().map(|a| [a.sa_sigaction as u64, a.sa_flags as u64, 0, set(&raw const a.sa_mask)]);
        let [handler, flags, _, mask] = inline::believe(given.as_ref());
        if let Some(old) = old.as_mut() {
            *old = std::mem::zeroed();
            (old.sa_sigaction, old.sa_flags) = (handler as usize, flags as c_int);
            (&raw mut old.sa_mask).cast::<u64>().write(mask);
        }
    }
    0
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// While ids are translated, our function is in the place of one that gets a siginfo.
    fn sigaction(number: c_int, action: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
        if inline::is_believed(number) {
            return believe(action, old);
        }
        // Ours may be in the kernel from a time when ids were translated.
        let concerned = |place: &&AtomicUsize| table::current().is_some() || place.load(Ordering::Acquire) != 0;
        let place = HANDLERS.get(number as usize).filter(|_| !OWN.contains(&(number as usize))).filter(concerned);
        let Some(place) = place else { return next(number, action, old) };
        let before = place.load(Ordering::Acquire);
        // SAFETY: the program passes null or valid actions.
        let mut copy = unsafe { action.as_ref() }.map(|_| unsafe { action.read() });
        if let Some(copy) = copy.as_mut().filter(|c| c.sa_flags & libc::SA_SIGINFO != 0 && c.sa_sigaction > 1) {
            place.store(copy.sa_sigaction, Ordering::Release);
            copy.sa_sigaction = ours();
        }
        let result = next(number, copy.as_ref().map_or(std::ptr::null(), std::ptr::from_ref), old);
        if result != 0 {
            place.store(before, Ordering::Release);
        // SAFETY: the call has just filled it.
        } else if let Some(old) = unsafe { old.as_mut() }.filter(|old| old.sa_sigaction == ours()) {
            old.sa_sigaction = before;
        }
        result
    }
    /// The former handler is the program's.
    fn signal(number: c_int, handler: usize) -> usize {
        if inline::is_believed(number) {
            return inline::believe(Some(&[handler as u64, libc::SA_RESTART as u64, 0, 0]))[0] as usize;
        }
        let before = next(number, handler);
        match HANDLERS.get(number as usize) {
            Some(place) if before == ours() => place.load(Ordering::Acquire),
            _ => before,
        }
    }
    /// The virtual id of the sender.
    fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int { taken(next(set, info), info) }
    /// The virtual ids of senders, from a signalfd.
    fn read(number: c_int, buffer: *mut c_void, room: usize) -> isize {
        let length = next(number, buffer, room);
        if length > 0
            && let Some(table) = table::current()
        {
            show_in_records(table, number, buffer, length as usize);
        }
        length
    }
    /// The virtual id of the sender.
    fn sigtimedwait(set: *const sigset_t, info: *mut siginfo_t, limit: *const timespec) -> c_int {
        taken(next(set, info, limit), info)
    }
}
