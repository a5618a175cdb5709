//! The memory stub: the last code of the restarter that runs, and the only code that survives its memory.
//!
//! It is an interpreter for a table of system calls ([`Op`]), a page of assembly that is copied to a place that is free
//! in the old and in the new address space. All decisions are made before, in [`crate::layout`]; the stub knows only
//! what to do about a result. It touches no stack but its own, no thread pointer and no library.
//!
//! ```text
//!   stub's mapping:  code (r-x) | Control | ops | bytes that ops point at | stack of the first task | other stacks
//!
//!   first task:   op, op, op ... -> enter_process -> go = 1, wake -> enter_task(slot), or exit if that thread had ended
//!   other tasks:  wait for go -> wait for hold == 0 -> enter_task(slot)
//! ```
//! `hold` is 1 only if the first thread had ended: the kernel clears it when the first task is gone, so that nobody
//! unmaps the stub under it.

mod x86_64;

use crate::kernel::{self, CloneArgs};
use dmtcp_protocol::handoff::Handoff;
use std::io;
use std::ops::Range;

/// What the stub makes of the result of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// An error ends the process with the op's text.
    Must = 0,
    /// An error is nobody's business.
    May = 1,
    /// Success skips as many ops as [`Op::skip`] says; an error is nobody's business.
    Else = 2,
}

/// A system call for the stub to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Op {
    /// Number of the system call.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
    /// What to make of the result.
    pub rule: Rule,
    /// See [`Rule::Else`].
    pub skip: u32,
    /// Address of what to say when it fails.
    pub text: u64,
    /// Length of that.
    pub text_length: u64,
}

/// What the stub's code works from. The assembly knows the offsets.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// What the restored core is given; first, so that both have one address.
    pub handoff: Handoff,
    /// Futex word: not 0 for as long as the other tasks wait for the first one's end.
    pub hold: u32,
    /// Exit code of a failure.
    pub failure: u32,
    /// First op.
    pub ops: u64,
    /// After the last op.
    pub ops_end: u64,
    /// [`dmtcp_image::record::Restore::enter_process`].
    pub enter_process: u64,
    /// [`dmtcp_image::record::Restore::enter_task`].
    pub enter_task: u64,
    /// Where failures are told: a descriptor.
    pub report: u64,
    /// Whether each task gives up its capabilities first: they came with a user namespace, not with the user.
    pub drop_capabilities: u64,
}

impl Default for Control {
    fn default() -> Self {
        // SAFETY: all fields are numbers.
        unsafe { std::mem::zeroed() }
    }
}

impl Control {
    /// Its bytes, to be written into another process.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: all fields are numbers, and leave no padding between them (asserted below).
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Handoff>() == 56 && size_of::<Control>() == 112);
    assert!(offset_of!(Control, handoff) == 0 && offset_of!(Handoff, go) == 16);
    assert!(offset_of!(Control, hold) == 56 && offset_of!(Control, failure) == 60);
    assert!(offset_of!(Control, ops) == 64 && offset_of!(Control, ops_end) == 72);
    assert!(offset_of!(Control, enter_process) == 80 && offset_of!(Control, enter_task) == 88);
    assert!(offset_of!(Control, report) == 96 && offset_of!(Control, drop_capabilities) == 104);
    assert!(size_of::<Op>() == 80 && offset_of!(Op, rule) == 56 && offset_of!(Op, skip) == 60);
    assert!(offset_of!(Op, text) == 64 && offset_of!(Op, text_length) == 72);
};

/// Stack of the first task; `enter_process` runs on it.
const FIRST_STACK: usize = 512 << 10;
/// Stack of every other task.
const STACK: usize = 64 << 10;
const PAGE: usize = 4096;

/// Where the stub's mapping and its parts are, in this process or in another.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    start: u64,
    tasks: usize,
    room: usize,
}

impl Place {
    /// Bytes of a mapping for so many tasks, with `room` for ops and what they point at.
    pub fn length_for(tasks: usize, room: usize) -> u64 {
        let stacks = FIRST_STACK + tasks.saturating_sub(1) * STACK;
        (code_length() + PAGE + room.next_multiple_of(PAGE) + stacks) as u64
    }

    /// The parts of a mapping at this address.
    pub fn new(start: u64, tasks: usize, room: usize) -> Self {
        Self { start, tasks, room }
    }

    /// All of it.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + Self::length_for(self.tasks, self.room)
    }

    /// The code, which is all that is executable.
    pub fn code(&self) -> Range<u64> {
        self.start..self.start + code_length() as u64
    }

    /// The routine that hands the process over.
    pub fn entry(&self) -> u64 {
        self.start
    }

    /// The control block.
    pub fn control(&self) -> u64 {
        self.code().end
    }

    /// Where ops and their bytes go.
    pub fn table(&self) -> u64 {
        self.control() + PAGE as u64
    }

    /// Top of the stack that the first task enters the stub with.
    pub fn stack_top(&self) -> u64 {
        self.table() + (self.room.next_multiple_of(PAGE) + FIRST_STACK) as u64
    }

    /// How to make a task that will wait in the stub. `index` counts from 1.
    pub fn task(&self, index: usize) -> CloneArgs {
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        let stack = self.stack_top() + ((index - 1) * STACK) as u64;
        CloneArgs { flags: flags as u64, stack, stack_size: STACK as u64, ..CloneArgs::default() }
    }
}

/// The stub's code, to be copied to where its mapping starts.
pub fn code() -> &'static [u8] {
    x86_64::code()
}

/// The stub in the calling process, before it takes over.
#[derive(Debug)]
pub struct Stub {
    place: Place,
}

impl Stub {
    /// Maps the stub at an address that is free.
    pub fn map(start: u64, tasks: usize, room: usize) -> io::Result<Self> {
        let place = Place::new(start, tasks, room);
        let range = place.range();
        let length = range.end - range.start;
        kernel::map_anonymous(start, length, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_NORESERVE)?;
        // SAFETY: the mapping was just made, is writable, and is longer than the code.
        unsafe { std::ptr::copy_nonoverlapping(code().as_ptr(), start as *mut u8, code().len()) };
        let code = place.code();
        kernel::protect(code.start, code.end - code.start, libc::PROT_READ | libc::PROT_EXEC)?;
        Ok(Self { place })
    }

    /// Where its parts are.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The control block. It is zero at first.
    pub fn control(&mut self) -> &mut Control {
        // SAFETY: the page after the code belongs to this mapping, is writable, aligned, and zero, which is a valid
        // `Control`. The other tasks read only `go` and `hold`, as futex words, until the first task enters the stub.
        unsafe { &mut *(self.place.control() as *mut Control) }
    }

    /// Copies the table into place.
    pub fn fill(&mut self, table: &[u8]) {
        let room = self.place.room;
        assert!(table.len() <= room, "the table of {} bytes has room for {room}", table.len());
        // SAFETY: the room belongs to this mapping and is writable; nobody else knows of it yet.
        unsafe { std::ptr::copy_nonoverlapping(table.as_ptr(), self.place.table() as *mut u8, table.len()) };
    }

    /// Makes a task that waits in the stub until memory stands, then enters it with this slot. `index` counts from 1,
    /// `tid` is the id that it shall have.
    pub fn add_task(&self, index: usize, slot: u64, tid: Option<i32>) -> io::Result<i32> {
        let args = CloneArgs {
            set_tid: tid.as_ref().map_or(0, |tid| std::ptr::from_ref(tid) as u64),
            set_tid_size: u64::from(tid.is_some()),
            ..self.place.task(index)
        };
        // SAFETY: the routine is the copied one and follows this signature; the new task runs on a stack of its own
        // in the stub's mapping, touches nothing but the control block, and never returns.
        let result = unsafe {
            let routine: extern "C" fn(*const CloneArgs, usize, u64, u64) -> isize =
                std::mem::transmute(self.place.start as usize + x86_64::clone_offset());
            routine(&raw const args, size_of_val(&args), self.place.control(), slot)
        };
        if result < 0 { Err(io::Error::from_raw_os_error(-result as i32)) } else { Ok(result as i32) }
    }

    /// Hands the process over. `slot` is the first task's; with `None` that task ends after the others may go.
    ///
    /// # Safety
    /// The calling thread must be the only one that runs code of the restarter, with all signals blocked and no rseq
    /// area registered; the control block and its ops must be complete, and all that the ops point at must lie in
    /// memory that they keep.
    pub unsafe fn enter(&self, slot: Option<u64>) -> ! {
        // SAFETY: the routine is the copied one and follows this signature; the rest is the caller's promise.
        unsafe {
            let routine: extern "C" fn(u64, u64, u64, u64) -> ! = std::mem::transmute(self.place.entry() as usize);
            routine(self.place.control(), self.place.stack_top(), slot.unwrap_or(0), u64::from(slot.is_none()))
        }
    }
}

fn code_length() -> usize {
    code().len().next_multiple_of(PAGE)
}
