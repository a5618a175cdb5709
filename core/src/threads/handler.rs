//! The handler of the checkpoint signal, and the way back to life of each task after a restart.
//!
//! Runs on a thread that may hold any lock, may have no valid thread pointer (raw clones, restart) and a tiny stack: raw
//! system calls only, no thread-local storage, no allocation, no panic; on the slot's stack from the first call on.

use super::credentials::Credentials;
use super::slot::{self, FRAME, Order, Role, STACK_TOP, Saved, Slot, State};
use super::{EPOCH, PARKED, RETURNED};
use super::{rewind, robust, stop};
use crate::capture::policy::Policy;
use crate::{capture, life, signal};
use dmtcp_plugin_api::sys;
use dmtcp_plugin_api::usage::Usage;
use dmtcp_protocol::handoff::Handoff;
use libc::{REG_RIP, siginfo_t, ucontext_t};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};

const ARCH_SET_GS: usize = 0x1001;
const ARCH_SET_FS: usize = 0x1002;
const ARCH_GET_FS: usize = 0x1003;
const ARCH_GET_GS: usize = 0x1004;
const PR_GET_TID_ADDRESS: i32 = 40;
const PR_MCE_KILL: i32 = 33;
const PR_MCE_KILL_SET: usize = 1;
const PR_MCE_KILL_GET: i32 = 34;
const PR_MCE_KILL_DEFAULT: usize = 2;
const RSEQ_SIGNATURE: usize = 0x5305_3053;
/// Bytes of a thread's rseq area as libc registers it.
pub const RSEQ_LENGTH: usize = 32;
const RSEQ_UNREGISTER: usize = 1;
/// Areas that a thread's variables have room for, as far as they are searched.
const RSEQ_SEARCHED: u64 = 1024;
/// What personality(2) takes for a question.
const ASK: usize = 0xffff_ffff;

/// Installs the handler, raw, for the process.
pub fn install_handler(number: i32) -> Result<(), i32> {
    let action = signal::KernelAction {
        handler: entry as *const () as u64,
        flags: signal::SA_SIGINFO | signal::SA_ONSTACK | signal::SA_RESTART | signal::SA_RESTORER,
        restorer: restorer as *const () as u64,
        mask: u64::MAX,
    };
    signal::set_disposition(number, &action)
}

/// Where the kernel's signal frame returns to.
#[unsafe(naked)]
unsafe extern "C" fn restorer() {
    core::arch::naked_asm!(
        "mov eax, 15",
        "mov r11, [rip + {gate}]",
        "test r11, r11",
        "jz 2f",
        "jmp r11",
        "2:",
        "syscall",
        "ud2",
        gate = sym sys::gate::GATE,
    )
}

/// The handler: finds the slot on the application's stack, then leaves that stack alone.
#[unsafe(naked)]
unsafe extern "C" fn entry(_number: c_int, _info: *const siginfo_t, _frame: *mut ucontext_t) {
    core::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "and rsp, -16",
        "mov r12d, edi",
        "mov r13, rsi",
        "mov rbx, rdx",
        "mov rdi, rsi",
        "call {identify}",
        "test rax, rax",
        "jz 2f",
        "mov rsp, [rax + {stack_top}]",
        "xor ebp, ebp",
        "mov rdi, rax",
        "mov rsi, rbx",
        "call {park}",
        "ud2",
        "2:",
        "mov edi, r12d",
        "mov rsi, r13",
        "mov rdx, rbx",
        "call {foreign}",
        "lea rsp, [rbp - 24]",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        identify = sym identify,
        park = sym park,
        foreign = sym signal::foreign_delivery,
        stack_top = const STACK_TOP,
    )
}

/// Leaves through a signal frame: the kernel puts back registers, CPU state, mask and alternate stack.
#[unsafe(naked)]
unsafe extern "C" fn leave(_frame: u64) -> ! {
    // rt_sigreturn takes the frame from the stack pointer; the ucontext follows the return address that the handler's
    // `ret` would have popped.
    core::arch::naked_asm!("mov rsp, rdi", "jmp {restorer}", restorer = sym restorer)
}

/// The slot that our own signal carries; null for anybody else's, and for one of ours that comes after its stop was given
/// up, or while the thread is on the slot's stack already: whoever unblocks the signal in a thread that blocks it may have
/// met that thread inside of this handler.
extern "C" fn identify(info: *const siginfo_t) -> *const Slot {
    let comes_in = |slot: &&Slot| !slot.holds(info as u64) && slot.advance(State::Signalled, State::Entered);
    carried_slot(info).filter(comes_in).map_or(std::ptr::null(), std::ptr::from_ref)
}

/// The slot that a signal of ours carries.
pub fn carried_slot(info: *const siginfo_t) -> Option<&'static Slot> {
    let (sender, value) = stop::content(info)?;
    if sender != sys::pid() {
        return None;
    }
    slot::at(value)
}

/// The calling thread's pointer to its thread-local variables.
pub fn thread_pointer() -> u64 {
    arch_prctl_get(ARCH_GET_FS)
}

/// Sets it.
///
/// # Safety
/// It must name the thread control block of a thread that nobody else is.
pub unsafe fn set_thread_pointer(to: u64) {
    // SAFETY: the caller's promise.
    let _ = unsafe { sys::call(libc::SYS_arch_prctl as i32, [ARCH_SET_FS, to as usize, 0, 0, 0, 0]) };
}

fn arch_prctl_get(what: usize) -> u64 {
    let mut value = 0u64;
    // SAFETY: the kernel writes one word.
    let _ = unsafe { sys::call(libc::SYS_arch_prctl as i32, [what, (&raw mut value) as usize, 0, 0, 0, 0]) };
    value
}

/// Whether there is a thread control block of libc's at this address: it begins with its own address. A program may have
/// loaded the register with anything for a moment.
fn is_thread_control_block(fs: u64) -> bool {
    let mut first = [0];
    capture::sink::copy_words(fs, &mut first) == 1 && first == [fs]
}

/// Whether this is the thread's rseq area; nothing if it has none at all, which an area of ours tells, since registering it
/// then succeeds, and is undone at once.
fn is_rseq(area: u64) -> Option<bool> {
    // SAFETY: where another area is registered the call changes nothing; the kernel writes to one that it has taken until
    // it is given back, and only ours is passed before it is known that there is another.
    unsafe {
        match sys::call(libc::SYS_rseq as i32, [area as usize, RSEQ_LENGTH, 0, RSEQ_SIGNATURE, 0, 0]) {
            Ok(_) => {
                let arguments = [area as usize, RSEQ_LENGTH, RSEQ_UNREGISTER, RSEQ_SIGNATURE, 0, 0];
                let _ = sys::call(libc::SYS_rseq as i32, arguments);
                None
            }
            Err(error) => Some(error == libc::EBUSY),
        }
    }
}

/// The thread's rseq area: where libc keeps it, or, if the program has made one itself, among the thread's variables.
/// 0: it has none, or it is not found.
fn registered_rseq(fs: u64) -> u64 {
    #[repr(C, align(32))]
    struct Area([u8; RSEQ_LENGTH]);
    if !is_thread_control_block(fs) {
        return 0;
    }
    let probe = Area([0; RSEQ_LENGTH]);
    if is_rseq((&raw const probe) as u64) != Some(false) {
        return 0;
    }
    let of_libc = life::libc_rseq_offset().map(|offset| fs.wrapping_add_signed(offset));
    let nearest = fs & !(RSEQ_LENGTH as u64 - 1);
    let of_program = (1..=RSEQ_SEARCHED).map(|n| nearest.wrapping_sub(n * RSEQ_LENGTH as u64));
    of_libc.into_iter().chain(of_program).find(|area| is_rseq(*area) == Some(true)).unwrap_or(0)
}

/// Notes everything about the calling thread that its signal frame does not hold.
pub fn save_thread(saved: &mut Saved) {
    saved.fs = thread_pointer();
    saved.gs = arch_prctl_get(ARCH_GET_GS);
    saved.clear_tid = 0;
    let _ = sys::prctl(PR_GET_TID_ADDRESS, (&raw mut saved.clear_tid) as usize, 0, 0, 0);
    saved.rseq = registered_rseq(saved.fs);
    let _ = sys::prctl(libc::PR_GET_NAME, saved.name.as_mut_ptr() as usize, 0, 0, 0);
    saved.timer_slack = sys::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0).unwrap_or(0) as u64;
    saved.policy = Policy::of_thread();
    saved.used[0] = Usage::of(libc::RUSAGE_THREAD);
    saved.death_signal = 0;
    let _ = sys::prctl(libc::PR_GET_PDEATHSIG, (&raw mut saved.death_signal) as usize, 0, 0, 0);
    saved.no_new_privileges = sys::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0).unwrap_or(0) as i32;
    saved.memory_failure = sys::prctl(PR_MCE_KILL_GET, 0, 0, 0, 0).unwrap_or(PR_MCE_KILL_DEFAULT) as i32;
    saved.credentials = Credentials::of_thread();
    saved.rights_are_lost = false;
    // SAFETY: the kernel writes the words and the stack_t that are passed; personality(2) with this value only asks.
    unsafe {
        saved.personality = sys::call(libc::SYS_personality as i32, [ASK, 0, 0, 0, 0, 0]).unwrap_or(0) as u64;
        let _ = sys::call(
            libc::SYS_get_robust_list as i32,
            [0, (&raw mut saved.robust_head) as usize, (&raw mut saved.robust_length) as usize, 0, 0, 0],
        );
        let _ = sys::call(libc::SYS_sigaltstack as i32, [0, saved.altstack.as_mut_ptr() as usize, 0, 0, 0, 0]);
    }
}

/// Parks the calling thread until the release.
extern "C" fn park(slot: &'static Slot, frame: *mut ucontext_t) -> ! {
    // SAFETY: the kernel's frame stays where it is until `leave`.
    let context = unsafe { &mut *frame };
    let pc = context.uc_mcontext.gregs[REG_RIP as usize] as u64;
    if capture::in_vdso(pc) {
        // On another kernel this PC would run on in old code without its data pages.
        slot.set_state(State::Again);
        announce();
        // SAFETY: `frame` is the frame of the signal that this thread is handling.
        unsafe { leave(frame as u64) }
    }
    // SAFETY: the slot is this thread's until it says `Parked`.
    let saved = unsafe { slot.saved() };
    saved.frame = frame as u64;
    save_thread(saved);
    saved.rewind = rewind::call_to_repeat(context, &saved.sample);
    saved.pending.begin();
    let epoch = saved.epoch;
    slot.set_state(State::Parked);
    announce();
    wait_and_leave(slot, epoch)
}

fn announce() {
    PARKED.fetch_add(1, Ordering::AcqRel);
    sys::futex_wake(PARKED.as_ptr());
}

fn wait_and_leave(slot: &'static Slot, epoch: u32) -> ! {
    loop {
        match slot.order() {
            Order::Stay if EPOCH.load(Ordering::Acquire) == epoch => {
                let _ = sys::futex_wait(EPOCH.as_ptr(), epoch, None);
            }
            Order::PutBack => {
                // SAFETY: whoever gives this order leaves the slot alone until it is carried out.
                unsafe { slot.saved() }.pending.put_back();
                slot.give_order(Order::Stay);
            }
            Order::Take => {
                // SAFETY: as above.
                unsafe { slot.saved() }.pending.take();
                slot.give_order(Order::Stay);
            }
            Order::Call => {
                // SAFETY: as above.
                super::call_for(unsafe { slot.saved() }.frame);
                slot.give_order(Order::Stay);
            }
            Order::Stay | Order::Go => break,
        }
    }
    // SAFETY: the release gives the slot back to this thread.
    let (frame, number) = unsafe {
        let saved = slot.saved();
        saved.pending.put_back();
        (saved.frame, saved.rewind)
    };
    // SAFETY: the frame lies on this thread's stack, untouched since the signal.
    rewind::apply(unsafe { &mut *(frame as *mut ucontext_t) }, number);
    slot.set_state(State::Leaving);
    // SAFETY: as above.
    unsafe { leave(frame) }
}

/// What the restarter calls on each task once memory stands: `fn(slot, handoff) -> !`.
///
/// The rules for unwinding say what a debugger cannot guess: the caller's registers are in the signal frame that the
/// thread was stopped with, whose address is on top of the stack. (DW_CFA_def_cfa_expression and DW_CFA_expression:
/// take the word that rsp points at, add the register's place in `ucontext_t`.)
#[unsafe(naked)]
unsafe extern "C" fn enter_task(_slot: u64, _handoff: *const Handoff) -> ! {
    core::arch::naked_asm!(
        ".cfi_startproc",
        ".cfi_signal_frame",
        "mov rsp, [rdi + {stack_top}]",
        "xor ebp, ebp",
        "lock inc dword ptr [rsi + {left}]",
        "push qword ptr [rdi + {frame}]",
        "push qword ptr [rdi + {frame}]",
        ".cfi_escape 0x0f, 0x07, 0x77, 0x00, 0x06, 0x23, 0xa0, 0x01, 0x06", // rsp
        ".cfi_escape 0x10, 0x00, 0x06, 0x77, 0x00, 0x06, 0x23, 0x90, 0x01", // rax
        ".cfi_escape 0x10, 0x01, 0x06, 0x77, 0x00, 0x06, 0x23, 0x88, 0x01", // rdx
        ".cfi_escape 0x10, 0x02, 0x06, 0x77, 0x00, 0x06, 0x23, 0x98, 0x01", // rcx
        ".cfi_escape 0x10, 0x03, 0x06, 0x77, 0x00, 0x06, 0x23, 0x80, 0x01", // rbx
        ".cfi_escape 0x10, 0x04, 0x05, 0x77, 0x00, 0x06, 0x23, 0x70", // rsi
        ".cfi_escape 0x10, 0x05, 0x05, 0x77, 0x00, 0x06, 0x23, 0x68", // rdi
        ".cfi_escape 0x10, 0x06, 0x05, 0x77, 0x00, 0x06, 0x23, 0x78", // rbp
        ".cfi_escape 0x10, 0x08, 0x05, 0x77, 0x00, 0x06, 0x23, 0x28", // r8
        ".cfi_escape 0x10, 0x09, 0x05, 0x77, 0x00, 0x06, 0x23, 0x30", // r9
        ".cfi_escape 0x10, 0x0a, 0x05, 0x77, 0x00, 0x06, 0x23, 0x38", // r10
        ".cfi_escape 0x10, 0x0b, 0x05, 0x77, 0x00, 0x06, 0x23, 0x40", // r11
        ".cfi_escape 0x10, 0x0c, 0x05, 0x77, 0x00, 0x06, 0x23, 0x48", // r12
        ".cfi_escape 0x10, 0x0d, 0x05, 0x77, 0x00, 0x06, 0x23, 0x50", // r13
        ".cfi_escape 0x10, 0x0e, 0x05, 0x77, 0x00, 0x06, 0x23, 0x58", // r14
        ".cfi_escape 0x10, 0x0f, 0x05, 0x77, 0x00, 0x06, 0x23, 0x60", // r15
        ".cfi_escape 0x10, 0x10, 0x06, 0x77, 0x00, 0x06, 0x23, 0xa8, 0x01", // rip
        "call {restored}",
        "ud2",
        ".cfi_endproc",
        stack_top = const STACK_TOP,
        frame = const FRAME,
        left = const std::mem::offset_of!(Handoff, left),
        restored = sym restored,
    )
}

/// Address of the entry point for tasks.
pub fn enter_task_address() -> u64 {
    enter_task as *const () as u64
}

/// A task of a restored process: becomes the thread again that the slot describes.
extern "C" fn restored(slot: &'static Slot) -> ! {
    // SAFETY: nobody else uses the slot: this task is its thread now.
    let saved = unsafe { slot.saved() };
    let former = slot.tid();
    slot.set_tid(sys::tid());
    robust::rewrite(saved.robust_head, former, slot.tid());
    RETURNED.fetch_add(1, Ordering::AcqRel);
    // SAFETY: each call gets the values that the kernel reported for this thread; the memory they name is back.
    unsafe {
        let call = |number: i64, a: [usize; 4]| {
            let _ = sys::call(number as i32, [a[0], a[1], a[2], a[3], 0, 0]);
        };
        set_thread_pointer(saved.fs);
        call(libc::SYS_arch_prctl, [ARCH_SET_GS, saved.gs as usize, 0, 0]);
        call(libc::SYS_set_tid_address, [saved.clear_tid as usize, 0, 0, 0]);
        call(libc::SYS_set_robust_list, [saved.robust_head as usize, saved.robust_length as usize, 0, 0]);
        if saved.rseq != 0 {
            // The fields as glibc leaves them for an unregistered thread: cpu_id_start, cpu_id, rseq_cs.
            let area = saved.rseq as *mut u32;
            area.write_volatile(0);
            area.add(1).write_volatile(u32::MAX);
            area.add(2).cast::<u64>().write_volatile(0);
            call(libc::SYS_rseq, [saved.rseq as usize, RSEQ_LENGTH, 0, RSEQ_SIGNATURE]);
        }
        call(libc::SYS_prctl, [libc::PR_SET_NAME as usize, saved.name.as_ptr() as usize, 0, 0]);
        if saved.timer_slack != 0 {
            call(libc::SYS_prctl, [libc::PR_SET_TIMERSLACK as usize, saved.timer_slack as usize, 0, 0]);
        }
        call(libc::SYS_personality, [saved.personality as usize, 0, 0, 0]);
        call(libc::SYS_prctl, [PR_MCE_KILL as usize, PR_MCE_KILL_SET, saved.memory_failure as usize, 0]);
        // A change of rights makes the kernel forget the signal for the parent's death. The checkpoint thread needs what it
        // has until all is restored.
        if slot.role() == Role::Application {
            saved.rights_are_lost = !saved.credentials.put_back();
        }
        call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, saved.death_signal as usize, 0, 0]);
        if saved.no_new_privileges == 1 {
            call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0]);
        }
        if !saved.policy.is_default() {
            let _ = saved.policy.set_for_thread();
        }
        const ONSTACK: u64 = 1;
        saved.altstack[1] &= !ONSTACK;
        call(libc::SYS_sigaltstack, [saved.altstack.as_ptr() as usize, 0, 0, 0]);
    }
    saved.used[1] = Usage::of(libc::RUSAGE_THREAD);
    if slot.role() == Role::Checkpoint {
        life::restore::resume_checkpoint_thread()
    }
    let mut state = capture::cpu::State([0; capture::cpu::ROOM]);
    capture::cpu::fit(saved.frame, &mut state);
    capture::cpu::prime(saved.frame);
    let epoch = saved.epoch;
    announce();
    wait_and_leave(slot, epoch)
}

/// Waits until so many threads have announced themselves since the counter was reset.
pub fn wait_for_announcements(word: &AtomicU32, seen: u32, limit: u64) {
    let _ = sys::futex_wait(word.as_ptr(), seen, Some(limit));
}
