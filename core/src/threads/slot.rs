//! Slots: one per thread, holding what the signal frame does not, and the stack that the thread parks on.
//!
//! A slot and its stack are one mapping, so that a thread that dies can never take another's down, and slots are never
//! unmapped: a late signal may still carry a slot's address. They are linked in a list that only grows.
//!
//! ```text
//!   +------+-----------------------------+
//!   | Slot |            <-- stack        |
//!   +------+-----------------------------+
//! ```

use super::credentials::Credentials;
use super::pending::Pending;
use crate::capture::policy::Policy;
use dmtcp_plugin_api::headroom;
use dmtcp_plugin_api::usage::Usage;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// Bytes of a slot with its stack. Parked code makes system calls and little else; the signal frame is not on it.
const SIZE: usize = 48 << 10;
const MAGIC: u64 = u64::from_le_bytes(*b"DMTSLOT1");

/// Where a thread is in a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// The slot belongs to nobody.
    Free = 0,
    /// The signal is on its way.
    Signalled = 1,
    /// The thread was inside the vdso; it must be signalled again.
    Again = 2,
    /// The thread waits for the release.
    Parked = 3,
    /// The thread was let go, but may still be on the slot's stack: the slot is its own until it is gone.
    Leaving = 4,
    /// The signal has come: the thread is on its way to where it waits.
    Entered = 5,
}

/// What one parked thread is to do although the others stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Order {
    /// Nothing.
    Stay = 0,
    /// Go on.
    Go = 1,
    /// Queue the signals again that were pending, and say so by taking the order back.
    PutBack = 2,
    /// Take what is pending by now, and say so by taking the order back.
    Take = 3,
    /// Call the function that is set for all, and say so by taking the order back.
    Call = 4,
}

/// Whose slot it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Role {
    /// A thread of the application.
    Application = 0,
    /// The checkpoint thread.
    Checkpoint = 1,
}

/// The system call that a thread was in just before it was signalled: /proc/PID/task/TID/syscall.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Number of the call; -1: none (running, or not in a call).
    pub number: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// Stack pointer.
    pub sp: u64,
    /// Address after the `syscall` instruction.
    pub pc: u64,
}

/// The plain part of a slot: written by the thread while it parks, read by the checkpoint thread once it has.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// Address of the `ucontext_t` in the signal frame.
    pub frame: u64,
    /// Thread pointer.
    pub fs: u64,
    /// GS base.
    pub gs: u64,
    /// set_tid_address(2).
    pub clear_tid: u64,
    /// set_robust_list(2).
    pub robust_head: u64,
    /// Its length.
    pub robust_length: u64,
    /// rseq(2) registration, 0: none.
    pub rseq: u64,
    /// sigaltstack(2): ss_sp, ss_flags, ss_size.
    pub altstack: [u64; 3],
    /// PR_GET_NAME.
    pub name: [u8; 16],
    /// PR_GET_TIMERSLACK.
    pub timer_slack: u64,
    /// personality(2), which is the thread's own.
    pub personality: u64,
    /// Where the thread's memory comes from.
    pub policy: Policy,
    /// What it had used when it stopped, and when it had come back by a restart.
    pub used: [Usage; 2],
    /// PR_GET_PDEATHSIG.
    pub death_signal: i32,
    /// PR_GET_NO_NEW_PRIVS.
    pub no_new_privileges: i32,
    /// PR_MCE_KILL_GET.
    pub memory_failure: i32,
    /// What it may do.
    pub credentials: Credentials,
    /// It could not have those again after the restart.
    pub rights_are_lost: bool,
    /// The call that is to be entered again when the thread goes on; -1: none.
    pub rewind: i64,
    /// What the application calls the child whose id is in a register of that call; 0: nobody in particular.
    pub carries: i32,
    /// The call that it was in.
    pub sample: Sample,
    /// Value of `EPOCH` at the stop.
    pub epoch: u32,
    /// Signals that were pending for the thread.
    pub pending: Pending,
}

/// See the module.
#[repr(C)]
#[derive(Debug)]
pub struct Slot {
    magic: u64,
    /// Highest address of the stack, 16-byte aligned. First fields: assembly reads this one.
    pub stack_top: u64,
    next: AtomicPtr<Slot>,
    tid: AtomicI32,
    /// The thread's id in the image.
    known: AtomicI32,
    state: AtomicU32,
    role: AtomicU32,
    order: AtomicU32,
    saved: std::cell::UnsafeCell<Saved>,
}

// SAFETY: `saved` belongs to the thread from `Entered` until it is `Parked`, else to the checkpoint thread.
unsafe impl Sync for Slot {}

/// Offset of [`Slot::stack_top`], for assembly.
pub const STACK_TOP: usize = std::mem::offset_of!(Slot, stack_top);
/// Offset of [`Saved::frame`] in the slot, for assembly.
pub const FRAME: usize = std::mem::offset_of!(Slot, saved) + std::mem::offset_of!(Saved, frame);

static FIRST: AtomicPtr<Slot> = AtomicPtr::new(std::ptr::null_mut());

/// All slots there are.
pub fn all() -> impl Iterator<Item = &'static Slot> {
    let mut at = FIRST.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: the list holds slots that are never unmapped.
        let slot = unsafe { at.as_ref() }?;
        at = slot.next.load(Ordering::Acquire);
        Some(slot)
    })
}

/// The slot at an address that came with a signal; `None` if it is not one of ours.
pub fn at(address: u64) -> Option<&'static Slot> {
    all().find(|s| s.address() == address)
}

/// The slot of a thread, made if it has none. Only the checkpoint thread calls this.
pub fn of(tid: i32) -> Result<&'static Slot, i32> {
    if let Some(slot) = all().find(|s| s.tid() == tid && s.state() != State::Free) {
        return Ok(slot);
    }
    let slot = match all().find(|s| s.state() == State::Free) {
        Some(slot) => slot,
        None => make()?,
    };
    slot.tid.store(tid, Ordering::Relaxed);
    slot.role.store(Role::Application as u32, Ordering::Relaxed);
    Ok(slot)
}

/// In a fork's child: the threads of the parent are not here.
pub fn forget_all() {
    for slot in all() {
        slot.set_role(Role::Application);
        slot.set_state(State::Free);
    }
}

fn make() -> Result<&'static Slot, i32> {
    let address = headroom::map(SIZE, 0)?;
    let slot = address as *mut Slot;
    // SAFETY: fresh memory, zeroed, large enough and page aligned. Zeros are valid for all fields.
    let slot = unsafe {
        (*slot).magic = MAGIC;
        (*slot).stack_top = address + SIZE as u64;
        &*slot
    };
    slot.next.store(FIRST.load(Ordering::Relaxed), Ordering::Relaxed);
    FIRST.store(std::ptr::from_ref(slot).cast_mut(), Ordering::Release);
    Ok(slot)
}

impl Slot {
    /// Its address: the value that the signal carries.
    pub fn address(&self) -> u64 {
        std::ptr::from_ref(self) as u64
    }

    /// The thread.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// A restart has given the thread another id.
    pub fn set_tid(&self, tid: i32) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    /// The thread's id in the image.
    pub fn known(&self) -> i32 {
        self.known.load(Ordering::Relaxed)
    }

    /// Notes it.
    pub fn set_known(&self, id: i32) {
        self.known.store(id, Ordering::Relaxed);
    }

    /// Where the thread is in the stop.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            1 => State::Signalled,
            2 => State::Again,
            3 => State::Parked,
            4 => State::Leaving,
            5 => State::Entered,
            _ => State::Free,
        }
    }

    /// Moves it on.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u32, Ordering::Release);
    }

    /// Moves it on if it is still where it is believed to be.
    pub fn advance(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether an address is on the stack that the thread waits on.
    pub fn holds(&self, address: u64) -> bool {
        (self.address()..self.stack_top).contains(&address)
    }

    /// What the parked thread is to do although the others stay.
    pub fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            1 => Order::Go,
            2 => Order::PutBack,
            3 => Order::Take,
            4 => Order::Call,
            _ => Order::Stay,
        }
    }

    /// Says what it is to do.
    pub fn give_order(&self, order: Order) {
        self.order.store(order as u32, Ordering::Release);
    }

    /// Whose slot it is.
    pub fn role(&self) -> Role {
        if self.role.load(Ordering::Relaxed) == Role::Checkpoint as u32 { Role::Checkpoint } else { Role::Application }
    }

    /// Makes it the checkpoint thread's.
    pub fn set_role(&self, role: Role) {
        self.role.store(role as u32, Ordering::Relaxed);
    }

    /// What the thread has saved.
    ///
    /// # Safety
    /// The caller is who owns `saved` now: see the implementation of `Sync`.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn saved(&self) -> &mut Saved {
        // SAFETY: the caller's promise makes the reference unique.
        unsafe { &mut *self.saved.get() }
    }
}
