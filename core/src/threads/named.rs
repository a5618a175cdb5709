//! Ids in what a parked thread carries with it: the child that it waits for, the senders of its pending signals.
//!
//! They are real ids, in registers and in signals' data. The image notes what the application calls them; after a restart
//! that has given out other ids, the new real ones are put there. The calls are raw, so no wrapper does it, unless they are trapped.

use super::rewind;
use super::slot::{Saved, Slot};
use crate::ids;
use libc::{REG_RDI, REG_RIP, REG_RSI, ucontext_t};
use std::sync::atomic::{AtomicU64, Ordering};

/// Calls that are made outside of this code are trapped; an end of 0: none is.
static SPARED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Notes which code may call the kernel as it is.
pub fn note_trapped(start: u64, end: u64) {
    SPARED[0].store(start, Ordering::Release);
    SPARED[1].store(end, Ordering::Release);
}

fn is_trapped(pc: u64) -> bool {
    let [start, end] = SPARED.each_ref().map(|word| word.load(Ordering::Acquire));
    end != 0 && !(start..end).contains(&pc)
}

/// No process ever has this id.
const NOBODY: i32 = i32::MAX;

/// Where a register holds the id that the thread waits for, if it is in such a call.
fn register(saved: &Saved) -> Option<i32> {
    // SAFETY: the thread is parked; its frame stays where it is until it is let go.
    let frame = unsafe { &*(saved.frame as *const ucontext_t) };
    match rewind::call_under_way(frame, saved)? {
        libc::SYS_wait4 => Some(REG_RDI),
        libc::SYS_waitid => {
            let kind = frame.uc_mcontext.gregs[REG_RDI as usize] as u32;
            matches!(kind, libc::P_PID | libc::P_PGID).then_some(REG_RSI)
        }
        _ => None,
    }
}

/// A process's id, or a group's with its sign; 0 and -1 name no one in particular.
fn translate(id: i32, with: fn(i32) -> i32) -> i32 {
    match id {
        1.. => with(id),
        0 | -1 => id,
        _ => -with(-id),
    }
}

/// Notes what the application calls the ids that a parked thread carries.
pub fn note(slot: &Slot) {
    // SAFETY: the thread is parked, and the caller is the checkpoint thread.
    let saved = unsafe { slot.saved() };
    saved.carries = 0;
    if let Some(register) = register(saved) {
        // SAFETY: as in `register`.
        let frame = unsafe { &*(saved.frame as *const ucontext_t) };
        saved.carries = translate(frame.uc_mcontext.gregs[register as usize] as i32, ids::to_virtual);
    }
    saved.pending.note_senders();
}

/// After a restart: puts the real ids there that those are now.
pub fn renew(slot: &Slot) {
    // SAFETY: as in `note`.
    let saved = unsafe { slot.saved() };
    if let Some(register) = register(saved).filter(|_| saved.carries != 0) {
        // SAFETY: as in `register`.
        let frame = unsafe { &mut *(saved.frame as *mut ucontext_t) };
        // A call that will be trapped takes what the application knows.
        let pc = frame.uc_mcontext.gregs[REG_RIP as usize] as u64;
        let real = if is_trapped(pc) { saved.carries } else { translate(saved.carries, ids::to_real) };
        let value = &mut frame.uc_mcontext.gregs[register as usize];
        if *value as i32 != real {
            let again = saved.carries > 0 && ids::waits_again(slot.known(), saved.carries);
            *value = i64::from(if again { NOBODY } else { real });
        }
    }
    saved.pending.renew_senders();
}
