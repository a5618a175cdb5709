//! Which stopped threads are in a signal handler of the application that has interrupted a function of the vdso.
//!
//! The program counter of such a thread is the handler's, and where it returns to stands in a signal frame further up its
//! stack: in code of the kernel's that may be elsewhere, or another's, after a restart. The stop lets these threads go
//! again, for handlers are brief as a rule; of one that is not, see `restart/src/vdso.rs`.
//!
//! What can go wrong: frames are found by what they look like, in the part of the stack that is read. One that was left
//! behind by a handler that has ended costs a stop its patience; one beyond that part is not found.

use super::slot::Slot;
use crate::capture::{self, sink};
use libc::{REG_CSGSFS, REG_RIP, REG_RSP, ucontext_t};

/// How much of each stack is read, in words: what a signal frame takes, with a processor's largest state, and the
/// handler's own functions.
const WORDS: usize = 4 << 10;
/// Bytes of them.
const WINDOW: u64 = (WORDS * size_of::<u64>()) as u64;
/// How many stacks are followed: that of the handler, and those that it has interrupted.
const STACKS: usize = 4;
/// What the kernel notes of the segments of 64-bit code: CS 0x33, GS and FS 0, SS 0x2b.
const SEGMENTS: u64 = 0x002b_0000_0000_0033;

/// Offset of a register in a signal frame, in words: the address of the restorer comes first.
const fn at(register: i32) -> usize {
    1 + std::mem::offset_of!(ucontext_t, uc_mcontext) / size_of::<u64>() + register as usize
}

const SEGMENTS_AT: usize = at(REG_CSGSFS);
/// Where the processor's state is; right behind the registers.
const STATE_AT: usize = at(23);

/// Where the registers of a signal frame lead.
#[derive(Debug, PartialEq, Eq)]
struct Interrupted {
    pc: u64,
    sp: u64,
}

/// The signal frames in a piece of a stack that begins at this address.
fn frames(stack: &[u64], start: u64) -> impl Iterator<Item = Interrupted> + '_ {
    stack.windows(STATE_AT + 1).enumerate().filter(|(_, frame)| frame[SEGMENTS_AT] == SEGMENTS).filter_map(
        move |(index, frame)| {
            let address = start + (index * size_of::<u64>()) as u64;
            // The kernel puts the processor's state above the frame.
            let is_above = frame[STATE_AT].checked_sub(address).is_some_and(|distance| distance < WINDOW);
            is_above.then(|| Interrupted { pc: frame[at(REG_RIP)], sp: frame[at(REG_RSP)] })
        },
    )
}

/// Looks at the stacks of threads.
pub struct Looker {
    words: Vec<u64>,
}

impl Looker {
    pub fn new() -> Self {
        Self { words: vec![0; WORDS] }
    }

    /// Whether a parked thread will return into the vdso.
    pub fn returns_into_vdso(&mut self, slot: &Slot) -> bool {
        // SAFETY: the thread is parked, so its slot is ours to read, and its signal frame stays until it goes on.
        let mut sp = unsafe { (*(slot.saved().frame as *const ucontext_t)).uc_mcontext.gregs[REG_RSP as usize] } as u64;
        for _ in 0..STACKS {
            let start = sp & !7;
            let read = sink::copy_words(start, &mut self.words);
            let mut elsewhere = None;
            for frame in frames(&self.words[..read], start) {
                if capture::in_vdso(frame.pc) {
                    return true;
                }
                if frame.sp.wrapping_sub(start) >= WINDOW {
                    elsewhere = Some(frame.sp);
                }
            }
            let Some(next) = elsewhere else { return false };
            sp = next;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x7fff_0000_0000;

    fn stack_with_a_frame(pc: u64, sp: u64, state: u64) -> Vec<u64> {
        let mut stack = vec![SEGMENTS; 100];
        stack[10 + at(REG_RIP)] = pc;
        stack[10 + at(REG_RSP)] = sp;
        stack[10 + STATE_AT] = state;
        stack
    }

    #[test]
    fn a_frame_is_found_where_its_state_is_above_it() {
        let stack = stack_with_a_frame(0x1234, 0x5678, START + 0x400);
        let found: Vec<_> = frames(&stack, START).collect();
        assert_eq!(found, [Interrupted { pc: 0x1234, sp: 0x5678 }]);
        assert_eq!(frames(&stack_with_a_frame(1, 2, START), START).count(), 0);
        assert_eq!(frames(&[SEGMENTS; 20], START).count(), 0);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test is a program")]
    fn the_kernel_lays_frames_out_like_that() {
        use std::sync::atomic::{AtomicU64, Ordering};
        static PC: AtomicU64 = AtomicU64::new(0);
        static SEEN: AtomicU64 = AtomicU64::new(0);
        extern "C" fn handler(_: i32, _: *const libc::siginfo_t, frame: *const ucontext_t) {
            // SAFETY: the kernel's frame; the restorer's address is right below the context.
            let (stack, pc) = unsafe {
                let start = frame.cast::<u64>().sub(1);
                (std::slice::from_raw_parts(start, STATE_AT + 1), (*frame).uc_mcontext.gregs[REG_RIP as usize] as u64)
            };
            PC.store(pc, Ordering::Relaxed);
            let found = frames(stack, stack.as_ptr() as u64).next().map_or(0, |frame| frame.pc);
            SEEN.store(found, Ordering::Relaxed);
        }
        // SAFETY: a handler that only reads its frame, for a signal that this test alone uses.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()), 0);
            assert_eq!(libc::raise(libc::SIGURG), 0);
        }
        assert_ne!(PC.load(Ordering::Relaxed), 0);
        assert_eq!(SEEN.load(Ordering::Relaxed), PC.load(Ordering::Relaxed));
    }
}
