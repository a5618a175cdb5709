//! The number of the system call that a thread is in, when nobody has looked: from its code, its registers and its stack.
//!
//! The kernel puts the result where the number was, in RAX. How the number had come there stands in the few instructions
//! before `syscall`, and its source is still there if none of them, and no system call, writes to it:
//! * an operand: `mov $7,%eax`;
//! * another register: `mov %r8d,%eax`;
//! * the stack: `mov 0x10(%rsp),%rax`, or by `%rbp`.
//!
//! Some functions make any call, and have written an argument over their own argument that is the number: syscall(3), and
//! from glibc 2.41 on `__syscall_cancel_arch`, in which all cancellable calls share one instruction. Both are known byte by
//! byte, since they are assembly. Of them the same question is asked of the caller, about the register that it has passed
//! the number in.
//!
//! Calls of our own that go through a gate (`sys::gate`) have it on the stack.
//!
//! What can go wrong: a wrong answer makes the thread call something else. So every instruction between must be one that is
//! known here, down to its last byte; anything else, and the answer is that nobody knows.

use dmtcp_plugin_api::sys::{self, gate};
use libc::{REG_R8, REG_RAX, REG_RBP, REG_RBX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP, ucontext_t};

const SYSCALL: &[u8] = &[0x0f, 0x05];
/// The ends of functions that make any call, and the register that the number came in. They push nothing, and write to no
/// register that a caller expects to be kept.
const ANY_CALL: [(&[u8], u8); 2] = [
    // __syscall_cancel_arch, from the last use of %rdi on
    (
        &[
            0x49, 0x89, 0xfb, 0x48, 0x89, 0xf0, 0x48, 0x89, 0xd7, 0x48, 0x89, 0xce, 0x4c, 0x89, 0xc2, 0x4d, 0x89, 0xca,
            0x4c, 0x8b, 0x44, 0x24, 0x08, 0x4c, 0x8b, 0x4c, 0x24, 0x10, 0x4c, 0x89, 0x5c, 0x24, 0x08, 0x0f, 0x05,
        ],
        RSI,
    ),
    // syscall(3)
    (
        &[
            0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6, 0x48, 0x89, 0xca, 0x4d, 0x89, 0xc2, 0x4d, 0x89, 0xc8,
            0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05,
        ],
        RDI,
    ),
];
/// What a call pushes.
const WORD: u64 = 8;
const PAGE: u64 = 4096;
/// How much code is looked at.
const LENGTH: usize = 48;
/// No call has a higher number.
const HIGHEST: u64 = 1023;

const RAX: u8 = 0;
const RCX: u8 = 1;
const RBX: u8 = 3;
const RSP: u8 = 4;
const RBP: u8 = 5;
const RSI: u8 = 6;
const RDI: u8 = 7;
const R11: u8 = 11;
const R12: u8 = 12;

/// Where a register's value comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Number(u32),
    Register(u8),
    /// At this distance from RSP or RBP, as they are at the end of the code.
    Stack(u8, i64),
}

/// An instruction that is known here.
struct Instruction {
    length: usize,
    /// The register that it writes.
    writes: Option<u8>,
    /// What it writes there, if that can be found again.
    source: Option<Source>,
    /// What it does to memory.
    memory: Memory,
}

/// What an instruction does to memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Memory {
    Nothing,
    Pushes,
    /// Writes there, or nobody knows where.
    Writes(Option<Source>),
}

/// The bytes of a ModRM operand, and the register or place on the stack that it is.
fn operand(code: &[u8], extension: u8) -> Option<(usize, Option<Source>)> {
    let modrm = *code.first()?;
    let (kind, low) = (modrm >> 6, modrm & 7);
    if kind == 3 {
        return Some((1, Some(Source::Register(low | extension << 3))));
    }
    let indexed = usize::from(low == 4);
    let wide = match kind {
        0 if low == 5 => 4,
        0 if indexed == 1 && code.get(1)? & 7 == 5 => 4,
        0 => 0,
        1 => 1,
        _ => 4,
    };
    let at = 1 + indexed;
    let displacement = code.get(at..at + wide)?;
    let offset = match displacement {
        [] => 0,
        [byte] => i64::from(*byte as i8),
        bytes => i64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
    };
    // A base of RSP always has an index byte, which says: no index. RBP needs a displacement.
    let on_stack = match low {
        4 if extension == 0 && code.get(1) == Some(&0x24) => Some(Source::Stack(RSP, offset)),
        5 if extension == 0 && kind != 0 => Some(Source::Stack(RBP, offset)),
        _ => None,
    };
    Some((at + wide, on_stack))
}

/// The instruction that this code begins with; `None`: not one of those that hand arguments over.
fn instruction(code: &[u8]) -> Option<Instruction> {
    let prefix = code.first().copied().filter(|byte| matches!(byte, 0x40..=0x4f));
    let start = usize::from(prefix.is_some());
    let code = code.get(start..)?;
    let bits = prefix.unwrap_or(0);
    let (wide, register_bit, base_bit) = (bits & 8 != 0, bits >> 2 & 1, bits & 1);
    let number = |at: usize| Some(u32::from_le_bytes(code.get(at..at + 4)?.try_into().ok()?));
    let named = || code.get(1).map(|modrm| modrm >> 3 & 7 | register_bit << 3);
    let place = || operand(code.get(1..)?, base_bit);
    let opcode = *code.first()?;
    // What writes to the operand that may be memory.
    let to_place = |place: (usize, Option<Source>), more: usize, source| {
        let length = start + 1 + place.0 + more;
        match place.1 {
            Some(Source::Register(to)) => Instruction { length, writes: Some(to), source, memory: Memory::Nothing },
            other => Instruction { length, writes: None, source: None, memory: Memory::Writes(other) },
        }
    };
    Some(match opcode {
        // push
        0x50..=0x57 => Instruction { length: start + 1, writes: None, source: None, memory: Memory::Pushes },
        // mov of a number to a 32-bit register
        0xb8..=0xbf if !wide => Instruction {
            length: start + 5,
            writes: Some(opcode & 7 | base_bit << 3),
            source: Some(Source::Number(number(1)?)),
            memory: Memory::Nothing,
        },
        // mov of a number to a 64-bit register, or to memory
        0xc7 => to_place(place()?, 4, number(2).map(Source::Number)),
        // add, and, xor ... of a number
        0x81 => to_place(place()?, 4, None),
        0x83 => to_place(place()?, 1, None),
        0x31 => {
            let (place, by) = (place()?, Source::Register(named()?));
            to_place(place, 0, (place.1 == Some(by)).then_some(Source::Number(0)))
        }
        0x89 => to_place(place()?, 0, named().map(Source::Register)),
        // mov and lea to a register
        0x8b | 0x8d => {
            let (length, from) = place()?;
            let source = from.filter(|_| opcode == 0x8b);
            Instruction { length: start + 1 + length, writes: Some(named()?), source, memory: Memory::Nothing }
        }
        _ => return None,
    })
}

/// Where the value comes from that a register has after this code, if the last instructions of it are known.
fn source(code: &[u8], register: u8) -> Option<Source> {
    // From the end: what stands further ahead counts only if nothing behind it writes the register.
    (1..code.len()).rev().find_map(|at| source_at(code, at, register))
}

/// The same if the instruction at `at` is what writes the register.
fn source_at(code: &[u8], at: usize, register: u8) -> Option<Source> {
    let first = instruction(&code[at..])?;
    // A prefix that names other registers may stand before. Then it is found as the next one.
    let hidden = matches!(code[at - 1], 0x40..=0x4f) && code[at - 1] & 7 != 0;
    if first.writes != Some(register) || hidden {
        return None;
    }
    let mut found = first.source?;
    if let Source::Register(from @ (RCX | R11)) = found {
        // The system call writes to it.
        found = source(&code[..at], from)?;
    }
    let mut rest = code.get(at + first.length..)?;
    while !rest.is_empty() {
        let next = instruction(rest)?;
        let lost = match found {
            Source::Number(_) => false,
            Source::Register(from) => next.writes == Some(from),
            Source::Stack(base, _) => {
                next.writes == Some(base)
                    || matches!(next.memory, Memory::Writes(to) if to.is_none_or(|to| to == found))
            }
        };
        if lost || next.writes == Some(register) {
            return None;
        }
        if let (Source::Stack(RSP, offset), Memory::Pushes) = (&mut found, next.memory) {
            *offset += WORD as i64;
        }
        rest = rest.get(next.length..)?;
    }
    Some(found)
}

/// Where the value comes from that a register has at the call which this code ends with. What the function called may have
/// written to since is no answer.
fn source_at_caller(code: &[u8], register: u8) -> Option<Source> {
    let kept = |register: u8| matches!(register, RBX | RBP | R12..);
    // A call is 5, 6, 3 or 2 bytes long; one that is not there has nothing known before it.
    let before = [
        matches!(code, [.., 0xe8, _, _, _, _]).then_some(5),
        matches!(code, [.., 0xff, 0x15, _, _, _, _]).then_some(6),
        matches!(code, [.., 0x41, 0xff, 0xd0..=0xd7]).then_some(3),
        matches!(code, [.., 0xff, 0xd0..=0xd7]).then_some(2),
    ];
    let mut found = before.into_iter().flatten().filter_map(|length| source(&code[..code.len() - length], register));
    found.next().filter(|found| !matches!(found, Source::Register(other) if !kept(*other)))
}

/// The code before an address. The page of the last byte is there, since it has just been executed; the one before may not be.
fn code_before(end: u64) -> [u8; LENGTH] {
    let mut code = [0; LENGTH];
    let start = end - LENGTH as u64;
    let page = (end - 1) & !(PAGE - 1);
    let before = page.saturating_sub(start) as usize;
    if before > 0 {
        // What cannot be read stays zeros, which are no instruction that is known.
        let _ = sys::copy_from(start, &mut code[..before]);
    }
    for (at, byte) in code.iter_mut().enumerate().skip(before) {
        // SAFETY: on the page of an instruction that the calling thread has executed; byte by byte, for nothing is aligned.
        *byte = unsafe { ((start + at as u64) as *const u8).read_volatile() };
    }
    code
}

/// The value of a register in a signal frame.
fn value(frame: &ucontext_t, register: u8) -> Option<u64> {
    let index = match register {
        RCX | R11 => return None,
        RAX => REG_RAX,
        2 => REG_RDX,
        RBX => REG_RBX,
        RSP => REG_RSP,
        RBP => REG_RBP,
        RSI => REG_RSI,
        RDI => REG_RDI,
        other => REG_R8 + i32::from(other) - 8,
    };
    Some(frame.uc_mcontext.gregs[index as usize] as u64)
}

fn word(address: u64) -> u64 {
    // SAFETY: callers pass a place on the calling thread's stack that the code before its PC has read.
    unsafe { (address as *const u64).read_unaligned() }
}

/// Whether the thread has just come back from a system call.
pub fn is_behind_a_call(frame: &ucontext_t) -> bool {
    code_before(frame.uc_mcontext.gregs[REG_RIP as usize] as u64).ends_with(SYSCALL)
}

/// The number of the call that the calling thread was in when it was interrupted, with this signal frame.
pub fn of(frame: &ucontext_t) -> Option<i64> {
    let pc = frame.uc_mcontext.gregs[REG_RIP as usize] as u64;
    if gate::get() != 0 && pc == (gate::get() + gate::INSTRUCTION) as u64 {
        // Above what the call has pushed.
        let number = word(value(frame, RSP)? + WORD);
        return (number <= HIGHEST).then_some(number as i64);
    }
    let code = code_before(pc);
    let before = code.strip_suffix(SYSCALL)?;
    let (found, moved) = match ANY_CALL.iter().find(|function| code.ends_with(function.0)) {
        Some((_, passed_in)) => (source_at_caller(&code_before(word(value(frame, RSP)?)), *passed_in)?, WORD),
        None => (source(before, RAX)?, 0),
    };
    let number = match found {
        Source::Number(number) => u64::from(number),
        Source::Register(register) => value(frame, register)? & u64::from(u32::MAX),
        Source::Stack(RSP, offset) => word((value(frame, RSP)? + moved).wrapping_add_signed(offset)),
        Source::Stack(base, offset) => word(value(frame, base)?.wrapping_add_signed(offset)),
    };
    (number <= HIGHEST).then_some(number as i64)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test is a program of its own")]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        let mut code = vec![0x90; 8];
        code.extend(text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")));
        code
    }

    fn number_before(text: &str) -> Option<Source> {
        source(&bytes(text), RAX)
    }

    #[test]
    fn the_number_is_an_operand() {
        // select, pselect and recvfrom of glibc 2.31; epoll_pwait of many.
        assert_eq!(number_before("b8 17 00 00 00"), Some(Source::Number(0x17)));
        assert_eq!(number_before("b8 17 00 00 00 8b 7c 24 0c"), Some(Source::Number(0x17)));
        assert_eq!(number_before("b8 0e 01 00 00 48 8b 74 24 18 8b 7c 24 14"), Some(Source::Number(0x10e)));
        assert_eq!(number_before("b8 2d 00 00 00 48 8b 54 24 10 48 8b 74 24 08"), Some(Source::Number(0x2d)));
        assert_eq!(number_before("41 b9 08 00 00 00 b8 19 01 00 00"), Some(Source::Number(0x119)));
        assert_eq!(number_before("48 c7 c0 07 00 00 00"), Some(Source::Number(7)));
        assert_eq!(number_before("31 c0"), Some(Source::Number(0)));
    }

    #[test]
    fn the_number_is_in_a_register() {
        // The futex waits of glibc 2.36 and 2.31; the last one keeps it where the system call writes to.
        assert_eq!(number_before("31 d2 44 89 c0"), Some(Source::Register(8)));
        assert_eq!(number_before("4c 89 ef 89 d8"), Some(Source::Register(3)));
        let lost = "b9 ca 00 00 00 41 b9 ff ff ff ff 45 31 c0 81 e6 00 01 00 00 49 89 da 31 d2 48 89 ef 81 c6 89 00 00 00 \
                    89 c8 44 31 f6";
        assert_eq!(number_before(lost), Some(Source::Number(0xca)));
    }

    #[test]
    fn the_number_is_on_the_stack() {
        // __internal_syscall_cancel while cancellation is off: glibc 2.41 of Debian, and of Ubuntu with frame pointers.
        assert_eq!(number_before("48 8b 44 24 10"), Some(Source::Stack(RSP, 0x10)));
        assert_eq!(number_before("48 8b 45 10"), Some(Source::Stack(RBP, 0x10)));
    }

    #[test]
    fn the_number_is_an_argument_of_the_caller() {
        let argument = |text: &str| source(&bytes(text), RSI);
        let trixie = "41 51 4c 8d 9b 08 03 00 00 49 89 c9 48 89 f1 41 50 48 8b 74 24 20 49 89 d0 48 89 fa 4c 89 df";
        assert_eq!(argument(trixie), Some(Source::Stack(RSP, 0x20)));
        let sid = "41 51 48 89 f1 48 89 fa 4d 89 d9 41 50 48 8b 74 24 30 49 89 c0 4c 89 d7";
        assert_eq!(argument(sid), Some(Source::Stack(RSP, 0x30)));
        let ubuntu = "48 89 f1 48 8b 75 10 41 50 4d 89 d1 4c 89 5d f8 49 89 d3 48 89 fa 48 89 c7 4d 89 d8";
        assert_eq!(argument(ubuntu), Some(Source::Stack(RBP, 0x10)));
        // What is pushed in between moves the place.
        assert_eq!(argument("48 8b 74 24 20 41 50 41 51"), Some(Source::Stack(RSP, 0x30)));
    }

    #[test]
    fn the_number_is_in_a_register_of_the_caller() {
        let argument = |text: &str| source_at_caller(&bytes(text), RDI);
        assert_eq!(argument("48 89 14 24 4c 89 ef 48 89 de 4c 89 e2 4c 89 d1 ff d0"), Some(Source::Register(13)));
        assert_eq!(argument("bf ca 00 00 00 e8 00 00 00 00"), Some(Source::Number(0xca)));
        assert_eq!(argument("48 89 cf ff d0"), None, "the function has written to %rcx");
        assert_eq!(argument("4c 89 ef c3"), None, "no call");
    }

    #[test]
    fn nobody_knows() {
        // syscall(3) itself; a load of %r8, which without its prefix is one of %eax; a jump; the source is written over.
        assert_eq!(number_before("48 89 f8 48 89 f7 48 89 d6 48 89 ca 4d 89 c2 4d 89 c8 4c 8b 4c 24 08"), None);
        assert_eq!(number_before("4c 8b 44 24 08"), None);
        assert_eq!(number_before("b8 07 00 00 00 75 11"), None);
        assert_eq!(number_before("41 b8 07 00 00 00"), None);
        assert_eq!(number_before("89 d8 bb 07 00 00 00"), None);
        assert_eq!(number_before("48 8b 44 24 10 48 89 7c 24 10"), None);
        assert_eq!(number_before("48 8b 44 24 10 48 89 3e"), None);
    }

    /// Code at the start of a page of its own, behind one that nobody may read.
    fn behind_a_guard(code: &[u8]) -> u64 {
        let pages = 2 * PAGE as usize;
        // SAFETY: fresh memory, of which the first page is taken away again; the bytes fit into the second.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(std::ptr::null_mut(), pages, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(at, PAGE as usize, libc::PROT_NONE), 0);
            let start = at.cast::<u8>().add(PAGE as usize);
            start.copy_from_nonoverlapping(code.as_ptr(), code.len());
            start as u64
        }
    }

    #[test]
    fn code_that_cannot_be_read_is_nothing_known() {
        let code = bytes("b8 07 00 00 00 0f 05");
        let start = behind_a_guard(&code);
        let seen = code_before(start + code.len() as u64);
        assert!(seen.ends_with(&code) && seen.starts_with(&[0; 16]), "{seen:x?}");
        assert_eq!(source(seen.strip_suffix(SYSCALL).expect("a call"), RAX), Some(Source::Number(7)));
    }

    /// As a thread that was interrupted in poll by way of `__syscall_cancel_arch` would leave it.
    #[test]
    fn the_call_is_found_from_a_signal_frame() {
        let caller = bytes("48 8b 74 24 20 49 89 d0 48 89 fa 4c 89 df e8 00 00 00 00");
        let stack = [caller.as_ptr() as u64 + caller.len() as u64, 0, 0, 0, 0, 7u64];
        let arch = [&[0x90; 32], ANY_CALL[0].0].concat();
        // SAFETY: a ucontext_t of zeros is valid.
        let mut frame: ucontext_t = unsafe { std::mem::zeroed() };
        frame.uc_mcontext.gregs[REG_RIP as usize] = arch.as_ptr() as i64 + arch.len() as i64;
        frame.uc_mcontext.gregs[REG_RSP as usize] = stack.as_ptr() as i64;
        assert!(is_behind_a_call(&frame));
        assert_eq!(of(&frame), Some(libc::SYS_poll));
    }
}
