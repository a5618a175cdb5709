//! The checkpoint signal, hidden from the application: its disposition is ours, it is never blocked and never waited for.
//!
//! What the application sets for the number is remembered and honoured: a delivery that is not ours reaches its handler.
//! Wrapped are the functions that change dispositions and masks or wait for signals; raw system calls are not seen, and a
//! thread that blocks our signal by one is reported when it does not stop.

use crate::life::adoption;
use crate::threads::rewind;
use crate::{config, ids, threads, timed};
use dmtcp_plugin_api::sys;
use libc::{c_int, siginfo_t, sigset_t, timespec, ucontext_t};
use std::sync::atomic::{AtomicU64, Ordering};

/// Flags of sigaction(2) as the kernel has them.
pub const SA_SIGINFO: u64 = 4;
/// See [`SA_SIGINFO`].
pub const SA_RESTORER: u64 = 0x0400_0000;
/// See [`SA_SIGINFO`].
pub const SA_ONSTACK: u64 = 0x0800_0000;
/// See [`SA_SIGINFO`].
pub const SA_RESTART: u64 = 0x1000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;

/// `struct kernel_sigaction` of x86_64.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelAction {
    /// SIG_DFL 0, SIG_IGN 1, or a function.
    pub handler: u64,
    /// SA_*.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while it runs.
    pub mask: u64,
}

/// The kernel's disposition of a signal, libc's internal ones included.
pub fn disposition(number: i32) -> Option<KernelAction> {
    let mut action = KernelAction::default();
    // SAFETY: the kernel writes one action.
    unsafe { sys::call(libc::SYS_rt_sigaction as i32, [number as usize, 0, (&raw mut action) as usize, 8, 0, 0]) }
        .ok()?;
    Some(action)
}

/// Sets it.
pub fn set_disposition(number: i32, action: &KernelAction) -> Result<(), i32> {
    // SAFETY: the action's function and restorer are code that stays.
    unsafe {
        sys::call(libc::SYS_rt_sigaction as i32, [number as usize, std::ptr::from_ref(action) as usize, 0, 8, 0, 0])
    }
    .map(drop)
}

/// Signals that stay unblocked beside the checkpoint's.
static UNBLOCKED: AtomicU64 = AtomicU64::new(0);

/// Leaves these signals unblocked from now on, whatever the program or the core asks for.
pub fn leave_unblocked(signals: u64) {
    UNBLOCKED.store(signals, Ordering::Release);
}

/// Sets the calling thread's mask and gives the old one.
pub fn set_mask(mask: u64) -> u64 {
    let mask = mask & !UNBLOCKED.load(Ordering::Acquire);
    let mut old = 0u64;
    // SAFETY: both are kernel sets of 8 bytes.
    let _ = unsafe {
        sys::call(
            libc::SYS_rt_sigprocmask as i32,
            [libc::SIG_SETMASK as usize, (&raw const mask) as usize, (&raw mut old) as usize, 8, 0, 0],
        )
    };
    old
}

/// Blocks our signal for the calling thread, and gives the mask to go back to.
pub fn block() -> u64 {
    let before = set_mask(u64::MAX);
    set_mask(before | bit());
    before
}

/// Lets the calling thread take our signal.
pub fn unblock() {
    let before = set_mask(u64::MAX);
    set_mask(before & !bit());
}

/// What the application believes to have set for our number. Handler, flags and mask are separate words: a reader may see
/// a change half done, as with any two threads that race sigaction against a delivery.
struct Believed {
    handler: AtomicU64,
    flags: AtomicU64,
    mask: AtomicU64,
}

static BELIEVED: Believed = Believed { handler: AtomicU64::new(0), flags: AtomicU64::new(0), mask: AtomicU64::new(0) };

fn number() -> c_int {
    config::config().map_or(0, |c| c.signal)
}

/// The checkpoint signal as a set.
pub fn bit() -> u64 {
    match number() {
        0 => 0,
        n => 1 << (n - 1),
    }
}

/// Whether the application has set a handler for our number.
pub fn is_handled_by_application() -> bool {
    BELIEVED.handler.load(Ordering::Acquire) > 1
}

/// A delivery of our number that is not ours: what the application has asked for happens.
pub extern "C" fn foreign_delivery(number: c_int, info: *mut siginfo_t, frame: *mut ucontext_t) {
    if threads::carried_slot(info).is_some() {
        // It has come too late for its stop, or is not the only one of it: nobody's, but it has interrupted a call.
        // SAFETY: the kernel's frame of the signal that the calling thread handles.
        rewind::enter_again(unsafe { &mut *frame });
        return;
    }
    if adoption::answer(info, frame) {
        return;
    }
    let handler = BELIEVED.handler.load(Ordering::Acquire);
    let flags = BELIEVED.flags.load(Ordering::Acquire);
    match handler {
        0 => {
            // The default action of every signal that can be ours is to end the process.
            let _ = set_disposition(number, &KernelAction::default());
            let _ = set_mask(0);
            // SAFETY: sends the signal to the calling thread.
            let _ = unsafe {
                sys::call(libc::SYS_tgkill as i32, [sys::pid() as usize, sys::tid() as usize, number as usize, 0, 0, 0])
            };
        }
        1 => {}
        _ => {
            if flags & SA_RESETHAND != 0 {
                BELIEVED.handler.store(0, Ordering::Release);
            }
            // As long as everything is blocked, no stop can come in between.
            if ids::handler_behind(number, handler) == handler {
                threads::show_sender(info);
            }
            // SAFETY: the frame is the kernel's; its mask is what was blocked before the delivery.
            let before = unsafe { (&raw const (*frame).uc_sigmask).cast::<u64>().read() };
            let own = if flags & libc::SA_NODEFER as u64 == 0 { bit() } else { 0 };
            set_mask((before | BELIEVED.mask.load(Ordering::Acquire) | own) & !bit());
            // SAFETY: the application set this function as the handler of this signal.
            let function: extern "C" fn(c_int, *mut siginfo_t, *mut ucontext_t) =
                unsafe { std::mem::transmute(handler as usize) };
            function(number, info, frame);
        }
    }
}

/// A copy of a set without our signal; the set itself if it is null.
fn without(set: *const sigset_t) -> Option<sigset_t> {
    if set.is_null() {
        return None;
    }
    // SAFETY: the application passes a valid set, as the wrapped function demands.
    let mut copy = unsafe { set.read() };
    // SAFETY: the first word of a sigset_t is the kernel's set.
    unsafe { *(&raw mut copy).cast::<u64>() &= !(bit() | UNBLOCKED.load(Ordering::Acquire)) };
    Some(copy)
}

fn pointer(set: &Option<sigset_t>) -> *const sigset_t {
    set.as_ref().map_or(std::ptr::null(), std::ptr::from_ref)
}

fn believe(action: *const libc::sigaction, old: *mut libc::sigaction) {
    // SAFETY: the application passes valid or null pointers, as sigaction(2) demands.
    unsafe {
        let before = (
            BELIEVED.handler.load(Ordering::Acquire),
            BELIEVED.flags.load(Ordering::Acquire),
            BELIEVED.mask.load(Ordering::Acquire),
        );
        if let Some(action) = action.as_ref() {
            BELIEVED.flags.store(action.sa_flags as u64, Ordering::Release);
            BELIEVED.mask.store((&raw const action.sa_mask).cast::<u64>().read(), Ordering::Release);
            BELIEVED.handler.store(action.sa_sigaction as u64, Ordering::Release);
        }
        if !old.is_null() {
            old.write_bytes(0, 1);
            (*old).sa_sigaction = before.0 as usize;
            (*old).sa_flags = before.1 as c_int;
            (&raw mut (*old).sa_mask).cast::<u64>().write(before.2);
        }
    }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// Our number is only believed to change; other handlers must not block our signal while they run.
    fn sigaction(signal: c_int, action: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
        if signal == number() {
            believe(action, old);
            return 0;
        }
        if action.is_null() {
            return next(signal, action, old);
        }
        // SAFETY: not null, and valid as sigaction(2) demands.
        let mut copy = unsafe { action.read() };
        if let Some(mask) = without(&raw const copy.sa_mask) {
            copy.sa_mask = mask;
        }
        next(signal, &raw const copy, old)
    }
    /// As sigaction.
    fn signal(signal: c_int, handler: usize) -> usize {
        if signal == number() {
            return BELIEVED.handler.swap(handler as u64, Ordering::AcqRel) as usize;
        }
        next(signal, handler)
    }
    /// Our signal stays unblocked.
    fn sigprocmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
        if how == libc::SIG_UNBLOCK {
            return next(how, set, old);
        }
        next(how, pointer(&without(set)), old)
    }
    /// Our signal stays unblocked.
    fn pthread_sigmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
        if how == libc::SIG_UNBLOCK {
            return next(how, set, old);
        }
        next(how, pointer(&without(set)), old)
    }
    /// Our signal stays unblocked.
    fn sigsuspend(set: *const sigset_t) -> c_int {
        next(pointer(&without(set)))
    }
    /// Our signal stays unblocked.
    fn ppoll(fds: *mut libc::pollfd, count: libc::nfds_t, limit: *const timespec, set: *const sigset_t) -> c_int {
        next(fds, count, limit, pointer(&without(set)))
    }
    /// Our signal stays unblocked.
    fn pselect(
        count: c_int, read: *mut libc::fd_set, write: *mut libc::fd_set, except: *mut libc::fd_set,
        limit: *const timespec, set: *const sigset_t,
    ) -> c_int {
        next(count, read, write, except, limit, pointer(&without(set)))
    }
    /// Our signal stays unblocked.
    fn epoll_pwait(
        epoll: c_int, events: *mut libc::epoll_event, room: c_int, limit: c_int, set: *const sigset_t,
    ) -> c_int {
        timed::with_deadline(limit, || next(epoll, events, room, limit, pointer(&without(set))))
    }
    /// Our signal is not to be eaten.
    fn sigwait(set: *const sigset_t, signal: *mut c_int) -> c_int {
        next(pointer(&without(set)), signal)
    }
    /// Our signal is not to be eaten.
    fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int {
        next(pointer(&without(set)), info)
    }
    /// Our signal is not to be eaten.
    fn sigtimedwait(set: *const sigset_t, info: *mut siginfo_t, limit: *const timespec) -> c_int {
        timed::with_copy(limit, |limit| next(pointer(&without(set)), info, limit))
    }
    /// Our signal stays unblocked.
    fn epoll_pwait2(
        epoll: c_int, events: *mut libc::epoll_event, room: c_int, limit: *const timespec, set: *const sigset_t,
    ) -> c_int {
        timed::with_copy(limit, |limit| next(epoll, events, room, limit, pointer(&without(set))))
    }
    /// Our signal is not to be eaten.
    fn signalfd(number: c_int, set: *const sigset_t, flags: c_int) -> c_int {
        next(number, pointer(&without(set)), flags)
    }
    /// New threads must not start with our signal blocked.
    fn pthread_attr_setsigmask_np(attributes: *mut libc::pthread_attr_t, set: *const sigset_t) -> c_int {
        next(attributes, pointer(&without(set)))
    }
}
