//! Births by which a child goes on in its parent's memory, or on a stack of its own: vfork, threads. Neither could return
//! through the handler. So the handler returns, to the gate, with all registers as the program has set them, but the stack
//! pointer: that points to a [`Record`], by which both sides find back to where the program made its call.
//!
//! ```text
//!   handler: record; frame = {RIP: gate, RSP: record}
//!   gate:    syscall; ret --> born: the child has its calls trapped, and goes on behind the program's instruction
//!                             the parent makes a call that no kernel knows, with the record as its argument
//!   handler: ids, frame = {RIP: behind the program's instruction, RSP: the program's}; the record is freed
//! ```
//! [`detour`] makes other calls in this way that cannot be made inside of the handler.
//!
//! The parent's record is on top of a mapping of its own, with room for signals that come meanwhile; a child of vfork shares
//! it. A child with a stack of its own has a copy on top of that.

use super::{LENGTH, START};
use crate::call::Places;
use crate::children::shown_child;
use crate::table;
use dmtcp_plugin_api::sys::{self, gate};
use libc::{REG_RAX, REG_RCX, REG_RDI, REG_RIP, REG_RSI, REG_RSP, c_long, ucontext_t};
use std::mem::offset_of;
use std::sync::atomic::{AtomicI32, Ordering};

/// The number of the call by which a parent says that it has been told its child's id.
pub const TOLD: c_long = 0x7fff_0001;
/// Bytes of a parent's mapping.
const AREA: usize = 128 << 10;
/// The largest `struct clone_args` that is copied.
const CLONE_ARGS: usize = 128;
/// Where `struct clone_args` has the stack and its size.
const STACK: usize = 5;

/// What stands where the stack pointer is when the call is made.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Record {
    /// Where the gate returns to: [`born`] or [`returned`].
    after: u64,
    /// The program's stack pointer, of this side.
    sp: u64,
    /// Behind the program's instruction.
    site: u64,
    /// The program's first two arguments.
    first: u64,
    second: u64,
    /// The kernel's answer.
    result: u64,
    /// The child's registers while it has its calls trapped, and room for a return address.
    kept: [u64; 3],
    room: [u64; 3],
    number: u64,
    restarts: u64,
    places: [usize; 4],
    /// Whether the program is told a virtual id.
    translates: u64,
    clone_args: [u64; CLONE_ARGS / 8],
}

/// Whether a call is such a birth.
pub fn shares_stack_or_memory(number: c_long, [a, b, ..]: [usize; 6]) -> bool {
    match number {
        libc::SYS_vfork => true,
        libc::SYS_clone => a & libc::CLONE_VM as usize != 0 || b != 0,
        libc::SYS_clone3 => {
            clone_args(a, b).is_some_and(|args| args[0] & libc::CLONE_VM as u64 != 0 || args[STACK] != 0)
        }
        _ => false,
    }
}

fn clone_args(address: usize, length: usize) -> Option<[u64; CLONE_ARGS / 8]> {
    let mut args = [[0u8; 8]; CLONE_ARGS / 8];
    let bytes = args.as_flattened_mut().get_mut(..length)?;
    (sys::copy_from(address as u64, bytes) == Ok(length)).then(|| args.map(u64::from_ne_bytes))
}

/// Where the gate returns to, in parent and child; `after` has just been popped.
#[unsafe(naked)]
unsafe extern "C" fn born() {
    core::arch::naked_asm!(
        "mov rdi, [rsp + {first} - 8]",
        "mov rsi, [rsp + {second} - 8]",
        "test rax, rax",
        "jnz {returned}",
        "mov [rsp + {kept} - 8], rdx",
        "mov [rsp + {kept}], r10",
        "mov [rsp + {kept} + 8], r8",
        "mov edi, {option}",
        "mov esi, 1",
        "mov rdx, [rip + {start}]",
        "mov r10, [rip + {length}]",
        "xor r8d, r8d",
        "mov eax, {prctl}",
        "mov r11, [rip + {gate}]",
        "lea rsp, [rsp + {room} + 16]",
        "call r11",
        "lea rsp, [rsp - {room} - 16]",
        "mov rdi, [rsp + {first} - 8]",
        "mov rsi, [rsp + {second} - 8]",
        "mov rdx, [rsp + {kept} - 8]",
        "mov r10, [rsp + {kept}]",
        "mov r8, [rsp + {kept} + 8]",
        "mov rcx, [rsp + {site} - 8]",
        "mov rsp, [rsp + {sp} - 8]",
        "xor eax, eax",
        "jmp rcx",
        first = const offset_of!(Record, first),
        second = const offset_of!(Record, second),
        returned = sym returned,
        sp = const offset_of!(Record, sp),
        site = const offset_of!(Record, site),
        kept = const offset_of!(Record, kept),
        room = const offset_of!(Record, room),
        option = const super::PR_SET_SYSCALL_USER_DISPATCH,
        prctl = const libc::SYS_prctl,
        start = sym START,
        length = sym LENGTH,
        gate = sym gate::GATE,
    )
}

/// Where the gate returns to behind calls that have one side only, and in a parent.
#[unsafe(naked)]
unsafe extern "C" fn returned() {
    core::arch::naked_asm!(
        "mov [rsp + {result} - 8], rax",
        "mov rdi, rsp",
        "mov rsp, [rdi + {sp} - 8]",
        "mov eax, {told}",
        "syscall",
        // Only where calls are not trapped any more: an id is what it is.
        "mov rax, [rdi + {result} - 8]",
        "mov rcx, [rdi + {site} - 8]",
        "mov rsi, [rdi + {second} - 8]",
        "mov rdi, [rdi + {first} - 8]",
        "jmp rcx",
        first = const offset_of!(Record, first),
        second = const offset_of!(Record, second),
        result = const offset_of!(Record, result),
        sp = const offset_of!(Record, sp),
        site = const offset_of!(Record, site),
        told = const TOLD,
    )
}

/// Has the call in the frame made behind the handler, which may be on the stack that it is about.
pub fn detour(frame: &mut ucontext_t, number: c_long, args: [usize; 6]) {
    prepare(frame, number, args, false, returned as *const () as u64);
}

/// Makes the handler return into the birth that its frame asks for.
pub fn begin(frame: &mut ucontext_t, number: c_long, args: [usize; 6], translates: bool) {
    prepare(frame, number, args, translates, born as *const () as u64);
}

fn prepare(frame: &mut ucontext_t, number: c_long, args: [usize; 6], translates: bool, after: u64) {
    let registers = &mut frame.uc_mcontext.gregs;
    let Ok(area) = sys::map_anonymous(AREA) else {
        registers[REG_RAX as usize] = -i64::from(libc::EAGAIN);
        return;
    };
    let place = area + (AREA - size_of::<Record>()) as u64;
    let mut record = Record {
        after,
        sp: registers[REG_RSP as usize] as u64,
        site: registers[REG_RIP as usize] as u64,
        first: args[0] as u64,
        second: args[1] as u64,
        result: 0,
        kept: [0; 3],
        room: [0; 3],
        number: number as u64,
        restarts: table::restarts().into(),
        places: [args[0], args[1], args[2], args[3]],
        translates: translates.into(),
        clone_args: [0; CLONE_ARGS / 8],
    };
    match number {
        libc::SYS_clone if args[1] != 0 => {
            registers[REG_RSI as usize] = copy_to(args[1] as u64, &record) as i64;
        }
        libc::SYS_clone3 => {
            record.clone_args = clone_args(args[0], args[1]).unwrap_or_default();
            let [low, size] = [record.clone_args[STACK], record.clone_args[STACK + 1]];
            if low != 0 {
                record.clone_args[STACK + 1] = copy_to(low + size, &record) - low;
            }
            registers[REG_RDI as usize] = place as i64 + offset_of!(Record, clone_args) as i64;
        }
        _ => {}
    }
    // SAFETY: fresh memory with room for it.
    unsafe { (place as *mut Record).write(record) };
    registers[REG_RSP as usize] = place as i64;
    registers[REG_RIP as usize] = gate::get() as i64;
}

/// Puts the child's record on top of its stack; where.
fn copy_to(top: u64, record: &Record) -> u64 {
    let place = (top - size_of::<Record>() as u64) & !15;
    // SAFETY: the program gives this stack away to a child that has not begun; what is below its top is free.
    unsafe { (place as *mut Record).write(Record { sp: top, ..*record }) };
    place
}

/// The kernel has answered the parent, or whoever made the call; the program is told what it is to know.
pub fn tell(frame: &mut ucontext_t) {
    let registers = &mut frame.uc_mcontext.gregs;
    let place = registers[REG_RDI as usize] as u64 - 8;
    // SAFETY: `returned` passes what follows the first word of the record that `begin` has made.
    let record = unsafe { (place as *const Record).read() };
    let mut result = record.result as i64;
    if result > 0 && record.translates != 0 {
        let id = shown_child(result as i32, record.restarts as u32);
        note(&record, result as i32, id);
        result = id.into();
    }
    registers[REG_RAX as usize] = result;
    registers[REG_RCX as usize] = record.site as i64;
    registers[REG_RDI as usize] = record.first as i64;
    registers[REG_RSI as usize] = record.second as i64;
    registers[REG_RSP as usize] = record.sp as i64;
    registers[REG_RIP as usize] = record.site as i64;
    let _ = sys::unmap(place + size_of::<Record>() as u64 - AREA as u64, AREA as u64);
}

/// Replaces the real id where the kernel has written it, in memory that parent and child share. A thread that has ended may
/// have had the word cleared already.
fn note(record: &Record, real: i32, id: i32) {
    let places = Places::of(record.number as c_long, record.places);
    for (wanted, place) in [(libc::CLONE_PARENT_SETTID, places.parents), (libc::CLONE_CHILD_SETTID, places.childs)] {
        if places.flags & wanted as u64 != 0 && place != 0 && place.is_multiple_of(4) {
            // SAFETY: the kernel has written an id there, and whoever shares the memory may.
            let word = unsafe { &*(place as *const AtomicI32) };
            let _ = word.compare_exchange(real, id, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}
