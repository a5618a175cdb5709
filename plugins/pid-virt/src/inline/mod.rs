//! System calls that a program makes past libc: Go's run time, sanitizers, assembly. They pass every wrapper, so while ids
//! are translated they are trapped, and carried out by what is behind the wrappers.
//!
//! ```text
//!   syscall instruction outside of libc --SIGSYS--> calls::trapped: ids in, call, ids out --> behind the instruction
//!   syscall instruction in libc's code  ----------> the kernel
//! ```
//! **How.** Syscall User Dispatch (prctl(2), Linux 5.11) traps each call of a thread but those made in one range of code:
//! libc's. A filter of seccomp(2) would trap the calls that carry ids alone, at the same price for each (measured: a trapped
//! call costs about 20 times an empty one either way, one that is let through a fifth more), but it cannot be had here:
//! * a filter stays over exec, where the new program has no handler yet, or is static and never will: its first getpid ends
//!   it. The dispatch ends with the program;
//! * a filter needs no_new_privs, which takes setuid programs away from the program and is there for ever;
//! * a filter cannot be taken back, the dispatch can.
//!
//! In return every call past libc pays, not those with ids alone. So it is for programs that need it: `auto`, the default,
//! looks through the program's code for instructions that make calls with ids, and leaves all others alone. Nothing at all
//! happens before a restart has translated ids.
//!
//! **Who.** Each thread for itself: those that a restart brings back, before they go on; new ones in the wrapper of
//! pthread_create; those that are made past libc, and children (fork, vfork) when they are born ([`births`]). The checkpoint
//! thread is not trapped. A program that is executed begins anew if it is under control.
//!
//! **Our own calls** must not be trapped: the core makes some with all signals blocked. The core and this plugin make theirs
//! by a `syscall; ret` in libc's code (`sys::gate`); those of other plugins are trapped, and passed on untranslated.
//!
//! **SIGSYS** that is blocked ends the process when a call is trapped. So it is never blocked while calls are trapped: not by
//! libc's functions (the core's wrappers), not by calls past libc ([`masks`]), not in handlers of before. It is the
//! program's in all else: its action for it, and what is sent to it, are kept apart ([`foreign`]).
//!
//! **Interrupted calls.** A call that blocks does so inside the handler, which blocks nothing and may be left by a jump.
//! A signal of the program's interrupts it there, and the call fails with EINTR or goes on, as the kernel decides. The
//! checkpoint signal is nothing else: the thread is parked in libc's instruction, and its number is on the stack.
//!
//! What can go wrong: a program that saves a mask with SIGSYS in it before the restart and takes it back behind it, by
//! siglongjmp or out of a signal's frame, is ended by its next call past libc. Threads that libc makes for itself, and children
//! of clone(3) that share memory, are not trapped.

mod births;
mod calls;
mod code;
mod foreign;
mod masks;

use crate::signals::{self, KernelAction};
use crate::table;
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::sys;
use libc::{c_void, siginfo_t, ucontext_t};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use foreign::{believe, is_believed};

const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
const OFF: usize = 0;
const ON: usize = 1;
/// SIGSYS in a mask.
pub const BIT: u64 = 1 << (libc::SIGSYS - 1);
const SA_RESTORER: u64 = 0x0400_0000;

/// libc's code: where it begins and how long it is. 0: nothing is trapped.
static START: AtomicU64 = AtomicU64::new(0);
static LENGTH: AtomicU64 = AtomicU64::new(0);
/// The function of libc by which handlers return.
static RESTORER: AtomicUsize = AtomicUsize::new(0);

/// When calls are to be trapped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Auto,
    Always,
    Never,
}

impl When {
    fn named(value: Option<&[u8]>) -> Self {
        match value {
            Some(b"always") => Self::Always,
            Some(b"never") => Self::Never,
            _ => Self::Auto,
        }
    }
}

/// The hook for RESTART.
pub fn begin(core: Core) {
    START.store(0, Ordering::Release);
    let when = When::named(core.restart_environment(c"DMTCP_INLINE_IDS").as_deref());
    if table::current().is_some() && prepare(core, when) {
        core.in_each_thread(enter_stopped);
    } else {
        // SAFETY: own instructions need nothing.
        unsafe { core.divert(0, 0, 0, 0) };
        foreign::give_back(RESTORER.load(Ordering::Acquire) as u64);
    }
}

/// In a program that was executed while ids are translated.
pub fn begin_program(core: Core) {
    if table::current().is_some() && prepare(core, When::named(table::variable(b"DMTCP_INLINE_IDS="))) {
        signals::change_mask(libc::SIG_UNBLOCK, BIT);
        enter();
    }
}

/// Everything but the threads; whether calls are to be trapped.
fn prepare(core: Core, when: When) -> bool {
    if when == When::Never {
        return false;
    }
    let libraries = code::libraries();
    if when == When::Auto && !code::makes_calls_with_ids(core, &libraries) {
        return false;
    }
    let cannot = |why: &str| {
        core.log(Level::Warning, &format!("calls past libc take and give real ids: {why}"));
        false
    };
    if sys::prctl(PR_SET_SYSCALL_USER_DISPATCH, OFF, 0, 0, 0).is_err() {
        return cannot("this kernel has no Syscall User Dispatch");
    }
    let Some(libc) = code::Libc::find(&libraries) else { return cannot("libc's code is not what is expected") };
    // SAFETY: `find` has seen the gate's code there, and libc is not unloaded.
    unsafe {
        sys::gate::set(libc.gate);
        core.divert(libc.gate, libc.start, libc.end, BIT);
    }
    RESTORER.store(libc.restorer, Ordering::Release);
    LENGTH.store(libc.end - libc.start, Ordering::Release);
    unblock_in_handlers();
    if !take_signal() {
        return cannot("SIGSYS cannot be handled");
    }
    START.store(libc.start, Ordering::Release);
    true
}

/// Handlers of before do not block SIGSYS any more.
fn unblock_in_handlers() {
    for number in 1..=64 {
        if let Some(mut action) = signals::kernel_action(number).filter(|action| action[0] > 1 && action[3] & BIT != 0)
            && number as i32 != signals::checkpoint()
        {
            action[3] &= !BIT;
            signals::exchange_kernel_action(number, &action);
        }
    }
}

/// Our handler is that of SIGSYS; what the program had set is noted.
fn take_signal() -> bool {
    let number = libc::SIGSYS as usize;
    let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_RESTART) as u64 | SA_RESTORER;
    let restorer = RESTORER.load(Ordering::Acquire) as u64;
    let ours: KernelAction = [handle as *const () as u64, flags, restorer, 0];
    match signals::exchange_kernel_action(number, &ours) {
        Some(before) if before[0] == ours[0] => true,
        Some(before) => {
            foreign::take(&before);
            true
        }
        None => false,
    }
}

/// The handler of SIGSYS.
extern "C" fn handle(number: i32, info: *mut siginfo_t, context: *mut c_void) {
    const SYS_USER_DISPATCH: i32 = 2;
    // SAFETY: the kernel passes a siginfo, whose third word is the code, and the context.
    let (code, frame) = unsafe { (*info.cast::<i32>().add(2), &mut *context.cast::<ucontext_t>()) };
    if code == SYS_USER_DISPATCH { calls::trapped(frame) } else { foreign::deliver(number, info, frame) }
}

/// From now on the calling thread's calls past libc are trapped.
pub fn enter() {
    let (start, length) = (START.load(Ordering::Acquire), LENGTH.load(Ordering::Acquire));
    if start != 0 {
        let _ = sys::prctl(PR_SET_SYSCALL_USER_DISPATCH, ON, start as usize, length as usize, 0);
    }
}

/// The hook for a fork's child, whose dispatch is off.
pub fn enter_child(_: Core) {
    enter();
}

/// For a thread that is stopped: `frame` is what it goes on with.
extern "C" fn enter_stopped(frame: *mut c_void) {
    // SAFETY: the core passes the thread's `ucontext_t`, in which the first word of the mask is the kernel's set.
    unsafe { *(&raw mut (*frame.cast::<ucontext_t>()).uc_sigmask).cast::<u64>() &= !BIT };
    enter();
}
