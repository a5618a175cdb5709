//! A child that a program makes by machine instructions of its own, past libc: nobody of us has run in it. When all threads
//! of its parent are stopped, that asks it to join.
//!
//! ```text
//!   parent                                     child
//!     its memory is a copy of ours, and
//!     libc is not at work on its birth
//!     SEIZE, INTERRUPT  ---------------------> stands still, and so executes no program meanwhile
//!     looks once more; our signal; DETACH ---> handler: [`answer`] makes the checkpoint thread, and waits
//!                                              that one does what a fork's child does, and joins
//!                                              the handler's thread enters the call again that was interrupted
//! ```
//! libc knows nothing of the new thread: it has the stack and the thread control block of the parent's checkpoint thread, of
//! which the child's memory has a copy, and which nobody uses there.
//!
//! What can go wrong: where the parent may not trace its child (a sandbox), it stays outside, and so does the child of a
//! thread that made it in the instant in which another one was in fork(2). With plugins in C nobody is asked: their hooks
//! need a thread of libc's. The parent may be told, by SIGCHLD, that its child has stopped.

use super::{CHECKPOINT_THREAD_MASK, JOINED, MEMBER, UNDERWAY, birth, checkpoint_thread, keeper};
use crate::threads::slot::Sample;
use crate::threads::{self, rewind, stop, tracer};
use crate::{config, interface, signal};
use dmtcp_plugin_api::{arena, proc_files, sys};
use libc::{siginfo_t, ucontext_t};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How long the handler's thread waits for the new one to begin, in nanoseconds.
const BEGIN_LIMIT: u64 = 10_000_000_000;
/// What the tracer's registers are called by: their number in `struct user_regs_struct`.
const RIP: usize = 16;
/// Where a thread is inside of something that it must come out of first: our own libraries may hold a lock there.
const BUSY: [&[u8]; 2] = [b"/libdmtcp", b"[vdso]"];

/// How many threads are between the two sides of a birth by libc's functions.
static BEING_BORN: AtomicU32 = AtomicU32::new(0);
/// How often this process has looked at a child's memory: one that shares ours shows the same number.
static LOOKS: AtomicU32 = AtomicU32::new(0);
/// The request is this word's address.
static REQUEST: AtomicU32 = AtomicU32::new(0);
/// Futex word: whether the new checkpoint thread has begun.
static BEGUN: AtomicU32 = AtomicU32::new(0);
/// The checkpoint thread's: pointer to its thread control block,
static POINTER: AtomicU64 = AtomicU64::new(0);
/// an address of its stack above which its first frame and the control block are,
static TOP: AtomicU64 = AtomicU64::new(0);
/// and where libc keeps its id.
static ID: AtomicU64 = AtomicU64::new(0);

/// A birth by libc's functions begins.
pub fn birth_begins() {
    BEING_BORN.fetch_add(1, Ordering::AcqRel);
}

/// It is over in the parent.
pub fn birth_ends() {
    BEING_BORN.fetch_sub(1, Ordering::AcqRel);
}

/// In a child that is no longer being born.
pub fn after_fork() {
    BEING_BORN.store(0, Ordering::Release);
}

/// The checkpoint thread notes what another one would need to take its place.
pub fn note_thread() {
    const PR_GET_TID_ADDRESS: i32 = 40;
    let here = 0u64;
    let mut id = 0u64;
    let _ = sys::prctl(PR_GET_TID_ADDRESS, (&raw mut id) as usize, 0, 0, 0);
    ID.store(id, Ordering::Relaxed);
    TOP.store((&raw const here) as u64 & !15, Ordering::Relaxed);
    POINTER.store(threads::thread_pointer(), Ordering::Release);
}

fn request() -> u64 {
    (&raw const REQUEST) as u64
}

/// A 32-bit word of another process's memory.
fn word(process: i32, at: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    (sys::copy_from_process(process, at, &mut bytes) == Ok(4)).then(|| u32::from_ne_bytes(bytes))
}

/// Whether a child's memory is a copy of the calling process's in which none of our code has run or is about to.
pub fn is_forsaken(child: i32) -> bool {
    let looks = LOOKS.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
    let pointer = POINTER.load(Ordering::Acquire);
    // Its parent may have been such a child itself when it was made: then it has the id of an older relative. One that is
    // being born by libc has no id, and then its own, by the time at which its birth is over.
    pointer != 0
        && word(child, (&raw const POINTER) as u64) == Some(pointer as u32)
        && word(child, (&raw const BEING_BORN) as u64) == Some(0)
        && word(child, (&raw const MEMBER) as u64).is_some_and(|member| member != 0 && member != child as u32)
        && word(child, (&raw const LOOKS) as u64).is_some_and(|theirs| theirs != looks)
}

/// Asks a child to join if nobody else would have it do so. The caller is the checkpoint thread, all others are stopped.
/// False: it was not asked, or could not be.
pub fn ask(child: i32) -> bool {
    let number = config::config().map_or(0, |c| c.signal);
    if number == 0 || interface::hooks::are_there() || !is_forsaken(child) {
        return false;
    }
    tracer::hold(child, |ptrace| {
        let is_ready = is_forsaken(child) && !is_busy(child, ptrace) && tracer::take_out(signal::bit(), ptrace);
        is_ready && stop::send_to(child, child, number, request()).is_ok()
    })
}

/// Whether a process that stands still for its tracer does so at a place that it should be let out of.
fn is_busy(process: i32, ptrace: tracer::Ptrace<'_>) -> bool {
    let mut registers = [0u64; tracer::REGISTERS];
    if ptrace(tracer::GET_REGISTERS, 0, registers.as_mut_ptr() as usize).is_err() {
        return true;
    }
    let maps = proc_files::read_file(&format!("/proc/{process}/maps")).unwrap_or_default();
    let holds = |line: &&[u8]| {
        let text = String::from_utf8_lossy(line);
        let bounds = text.split(' ').next().and_then(|range| range.split_once('-'));
        let bounds = bounds
            .and_then(|(low, high)| Some((u64::from_str_radix(low, 16).ok()?, u64::from_str_radix(high, 16).ok()?)));
        bounds.is_some_and(|(low, high)| (low..high).contains(&registers[RIP]))
    };
    let line = maps.split(|&b| b == b'\n').find(holds).unwrap_or_default();
    BUSY.iter().any(|name| line.windows(name.len()).any(|w| w == *name))
}

/// In the handler of our signal: whether it is a request, which is then carried out.
pub fn answer(info: *const siginfo_t, frame: *mut ucontext_t) -> bool {
    if stop::content(info).is_none_or(|(_, value)| value != request()) {
        return false;
    }
    if [0, sys::pid()].contains(&MEMBER.load(Ordering::Acquire)) {
        return true;
    }
    // SAFETY: the kernel's frame of the signal that the calling thread handles.
    let frame = unsafe { &mut *frame };
    let again = rewind::call_to_repeat(frame, &Sample { number: -1, ..Sample::default() });
    // The calling thread is the only one.
    keeper::begin();
    BEGUN.store(0, Ordering::Release);
    // SAFETY: the stack below `TOP`, the control block and the word of the id belong to a thread that is not here.
    let made = unsafe {
        make_thread(TOP.load(Ordering::Relaxed), POINTER.load(Ordering::Relaxed), ID.load(Ordering::Relaxed))
    };
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    while made > 0 && BEGUN.load(Ordering::Acquire) == 0 && sys::clock(libc::CLOCK_MONOTONIC) - start < BEGIN_LIMIT {
        let _ = sys::futex_wait(BEGUN.as_ptr(), 0, Some(BEGIN_LIMIT));
    }
    rewind::apply(frame, again);
    true
}

/// Starts [`begin`] in a thread with this stack, this thread pointer, and a word that holds its id as long as it is there.
#[unsafe(naked)]
unsafe extern "C" fn make_thread(_top: u64, _pointer: u64, _id: u64) -> i64 {
    core::arch::naked_asm!(
        "mov r8, rsi",
        "mov rsi, rdi",
        "mov r10, rdx",
        "mov edi, {flags}",
        "mov eax, 56", // clone
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        "xor ebp, ebp",
        "call {begin}",
        "ud2",
        flags = const libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID,
        begin = sym begin,
    )
}

extern "C" fn begin() -> ! {
    signal::set_mask(CHECKPOINT_THREAD_MASK);
    birth::late();
    JOINED.store(UNDERWAY, Ordering::Release);
    BEGUN.store(1, Ordering::Release);
    sys::futex_wake(BEGUN.as_ptr());
    let (stack, _) = arena::checkpoint_stack();
    checkpoint_thread(stack as *mut c_void);
    loop {
        // SAFETY: ends the calling thread, which nobody waits for.
        let _ = unsafe { sys::call(libc::SYS_exit as i32, [0; 6]) };
    }
}
