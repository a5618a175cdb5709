//! SIGSYS as the program knows it: the action that it has set, and signals that no trapped call has sent.

use crate::signals::{self, KernelAction};
use dmtcp_plugin_api::sys;
use libc::{c_int, siginfo_t, ucontext_t};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the program believes to have set: handler, flags, restorer, mask. A reader may see a change half done, as with any
/// two threads of which one sets an action.
static BELIEVED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
const SA_RESETHAND: u64 = 0x8000_0000;

/// Whether the kernel has our handler.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether the action of this signal is only believed.
pub fn is_believed(number: c_int) -> bool {
    number == libc::SIGSYS && TAKEN.load(Ordering::Acquire)
}

/// The kernel has our handler from now on; notes what it had before.
pub fn take(action: &KernelAction) {
    note(action);
    TAKEN.store(true, Ordering::Release);
}

/// What the program has set is the kernel's business again.
pub fn give_back(restorer: u64) {
    if !TAKEN.swap(false, Ordering::AcqRel) {
        return;
    }
    let [handler, flags, own, mask] = believe(None);
    let action = match own {
        0 if handler > 1 => [handler, flags | super::SA_RESTORER, restorer, mask],
        own => [handler, flags, own, mask],
    };
    signals::exchange_kernel_action(libc::SIGSYS as usize, &action);
}

fn note(action: &KernelAction) {
    for (word, value) in BELIEVED.iter().zip(action) {
        word.store(*value, Ordering::Release);
    }
}

/// Sets what the program believes; what it believed before.
pub fn believe(action: Option<&KernelAction>) -> KernelAction {
    let before = std::array::from_fn(|index| BELIEVED[index].load(Ordering::Acquire));
    if let Some(action) = action {
        note(action);
    }
    before
}

/// A SIGSYS that is not ours: from a filter of the program's, or sent.
pub fn deliver(number: c_int, info: *mut siginfo_t, frame: &mut ucontext_t) {
    let [handler, flags, _, mask] = believe(None);
    match handler {
        0 => {
            signals::exchange_kernel_action(number as usize, &[0; 4]);
            let again = [sys::pid() as usize, sys::tid() as usize, number as usize, 0, 0, 0];
            // SAFETY: sends the signal to the calling thread, which has just lost its handler.
            let _ = unsafe { sys::call(libc::SYS_tgkill as i32, again) };
        }
        1 => {}
        _ => {
            if flags & SA_RESETHAND != 0 {
                BELIEVED[0].store(0, Ordering::Release);
            }
            signals::change_mask(libc::SIG_BLOCK, mask & !(super::BIT | signals::checkpoint_bit()));
            // SAFETY: the program has set this function as the handler of this signal.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut ucontext_t) =
                unsafe { std::mem::transmute(handler as usize) };
            handler(number, info, frame);
        }
    }
}
