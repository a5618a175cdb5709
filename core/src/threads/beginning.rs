//! Handlers that are about to begin where a thread is stopped: the kernel has laid out their frames, and that of our signal
//! on top. What they are told is in their frames, the sender's real id among it.
//!
//! ```text
//!   our signal's frame    registers: first instruction of B; RDI number, RSI siginfo, RDX ucontext, RSP its frame
//!   B's frame             return address (sigreturn) | ucontext: first instruction of A, ... | siginfo
//!   A's frame             return address (sigreturn) | ucontext: where the program was       | siginfo
//! ```
//! Such frames also lie below one of a handler that runs: B may be anywhere, and A begins when B returns.
//!
//! Where a plugin's handlers stand in for the program's and translate, the image notes in the siginfo what the application
//! calls the sender, in a word that the kernel leaves zero; a restart puts that into the place of the real id, and has the
//! program's function begin instead of the plugin's, which would translate again. What can go wrong: a frame that lies
//! deeper than `REACH` below what a running handler uses is not seen.

use super::pending::{self, Info};
use super::slot::Slot;
use crate::{ids, signal};
use dmtcp_plugin_api::sys;
use libc::{REG_RAX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP, ucontext_t};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of the return address.
const RETURN_ADDRESS: u64 = 8;
/// Bytes of the kernel's `struct ucontext`, which is shorter than libc's.
const CONTEXT: u64 = 304;
/// The word of the siginfo that holds the note.
const NOTE: usize = 15;
/// In the note: it is one.
const NOTED: u64 = 1 << 63;
/// How far frames are looked for behind one another, in bytes.
const REACH: usize = 32 << 10;
/// Frames on one stack: more than there are signals.
const DEPTH: usize = 65;
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// Whether there are notes.
static ARE_NOTED: AtomicBool = AtomicBool::new(false);

/// Notes what the application calls the senders that handlers of parked threads are about to be told.
pub fn note_senders(slots: &[&Slot]) {
    let is_stood_in_for =
        |number| signal::disposition(number).is_some_and(|now| ids::handler_behind(number, now.handler) != now.handler);
    if !SIGNALS.into_iter().any(is_stood_in_for) {
        return;
    }
    ARE_NOTED.store(true, Ordering::Release);
    for_each(slots, |_, info| {
        if let Some(sender) = pending::sender_of(info) {
            info[NOTE] = NOTED | u64::from(ids::to_virtual(sender).unsigned_abs());
        }
    });
}

/// After a restart: that is what they are told.
pub fn renew_senders(slots: &[&Slot]) {
    for_each(slots, |begins, info| {
        if info[NOTE] & NOTED != 0 {
            pending::set_sender(info, info[NOTE] as i32);
            *begins = ids::handler_behind(info[0] as i32, *begins as u64) as i64;
        }
    });
}

/// Takes the notes away before threads go on.
pub fn forget_senders(slots: &[&Slot]) {
    for_each(slots, |_, info| info[NOTE] = 0);
    ARE_NOTED.store(false, Ordering::Release);
}

/// Does something with the first instruction of each handler that is about to begin, and with what that is told.
fn for_each(slots: &[&Slot], act: impl Fn(&mut i64, &mut Info)) {
    if !ARE_NOTED.load(Ordering::Acquire) {
        return;
    }
    let mut frames = Frames::new();
    for slot in slots {
        // SAFETY: the thread is parked, and the caller is the checkpoint thread.
        let parked = unsafe { slot.saved() }.frame;
        for (context, info) in frames.beginning(parked) {
            // SAFETY: `Frames::info` has found a frame of the kernel's there; the thread that uses it is parked.
            let (context, info) = unsafe { (&mut *context, &mut *info) };
            act(&mut context.uc_mcontext.gregs[REG_RIP as usize], info);
        }
    }
}

/// Looks for frames of handlers.
struct Frames {
    /// What handlers return to.
    returns: Vec<u64>,
    stack: Vec<u8>,
}

impl Frames {
    fn new() -> Self {
        let mut returns: Vec<u64> =
            SIGNALS.filter_map(signal::disposition).map(|now| now.restorer).filter(|restorer| *restorer != 0).collect();
        returns.sort_unstable();
        returns.dedup();
        Self { returns, stack: vec![0; REACH] }
    }

    /// What goes on at the first instruction of a handler, and what that is told, of all that is found from this frame on.
    fn beginning(&mut self, parked: u64) -> Vec<(*mut ucontext_t, *mut Info)> {
        let mut found = Vec::new();
        let mut at = parked;
        while found.len() < DEPTH {
            let context = at as *mut ucontext_t;
            let info = self.info(at);
            found.extend(info.map(|info| (context, info)));
            // SAFETY: the frame that the thread is parked with, or one that `search` or `info` has found.
            let sp = unsafe { &*context }.uc_mcontext.gregs[REG_RSP as usize] as u64;
            let next = if info.is_some() { Some(sp + RETURN_ADDRESS) } else { self.search(sp) };
            let Some(next) = next else { break };
            at = next;
        }
        found
    }

    /// The context of the first frame from an address on that goes on at the first instruction of a handler.
    fn search(&mut self, from: u64) -> Option<u64> {
        let length = sys::copy_from(from, &mut self.stack).unwrap_or(0);
        let words = self.stack[..length].chunks_exact(8);
        let values = words.map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        let returning = (from..).step_by(8).zip(values).filter(|(_, word)| self.returns.contains(word));
        returning.map(|(address, _)| address + RETURN_ADDRESS).find(|context| self.info(*context).is_some())
    }

    /// The siginfo of the handler whose first instruction is the next one in this context; `None`: it is not one's.
    fn info(&self, context: u64) -> Option<*mut Info> {
        let mut registers = [0u64; 23];
        let at = context + std::mem::offset_of!(ucontext_t, uc_mcontext) as u64;
        read(at, &mut registers)?;
        let register = |index: i32| registers[index as usize];
        let frame = register(REG_RSP);
        let context = frame.checked_add(RETURN_ADDRESS)?;
        let info = context.checked_add(CONTEXT)?;
        if [REG_RAX, REG_RDX, REG_RSI].map(register) != [0, context, info] {
            return None;
        }
        let (mut returns, mut told): ([u64; 1], Info) = ([0], [0; 16]);
        read(frame, &mut returns)?;
        read(info, &mut told)?;
        let is_told = (told[0] as u32) as u64 == register(REG_RDI) && SIGNALS.contains(&(told[0] as i32));
        (is_told && self.returns.contains(&returns[0])).then_some(info as *mut Info)
    }
}

/// Reads words that may not be there.
fn read(from: u64, into: &mut [u64]) -> Option<()> {
    let length = size_of_val(into);
    // SAFETY: the words, as bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(into.as_mut_ptr().cast::<u8>(), length) };
    (sys::copy_from(from, bytes) == Ok(length)).then_some(())
}
