//! Code of the process: libc's, in which calls are not trapped, ours, and the program's, which is searched for calls with ids.
//!
//! Libraries are listed by the dynamic loader's own list, without its functions: they take a lock, and threads are stopped. A
//! thread that is just loading a library may have half an entry in it, which the list does not show yet. What the search can
//! miss: a call whose number does not stand right before it. `DMTCP_INLINE_IDS=always` does without a search.

use crate::call::{Shape, shape};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::sys::{self, gate};
use libc::{c_char, c_int, c_void};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// An entry of the loader's list.
#[repr(C)]
struct LinkMap {
    address: u64,
    name: *const c_char,
    dynamic: *const c_void,
    next: *const LinkMap,
}

/// What the loader tells debuggers.
#[repr(C)]
struct Debug {
    version: c_int,
    first: *const LinkMap,
}

unsafe extern "C" {
    static _r_debug: Debug;
}

/// Whose code it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// libc's, and that of its threads and timers where they are libraries of their own.
    Libc,
    /// The loader's, the kernel's.
    System,
    /// That of our libraries.
    Ours,
    /// Anybody else's.
    Program,
}

/// Code of a library: where it begins and ends.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    owner: Owner,
    start: u64,
    end: u64,
}

fn owner(path: &[u8]) -> Owner {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()));
    if is(&["libc.so.", "libc-2.", "libpthread.so.", "libpthread-2.", "librt.so.", "librt-2."]) {
        Owner::Libc
    } else if is(&["ld-linux", "ld-2.", "linux-vdso"]) {
        Owner::System
    } else if is(&["libdmtcp"]) {
        Owner::Ours
    } else {
        Owner::Program
    }
}

const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;

/// The executable segments of an ELF object that begins at an address.
///
/// # Safety
/// An ELF header of 64 bits must be mapped there, with its program headers.
unsafe fn segments(base: u64) -> Vec<[u64; 2]> {
    // SAFETY: the caller's promise; the fields are those of `Elf64_Ehdr` and `Elf64_Phdr`.
    unsafe {
        let at = base as *const u8;
        let (offset, count) = (at.add(32).cast::<u64>().read(), at.add(56).cast::<u16>().read());
        let headers = (0..usize::from(count)).map(|index| at.add(offset as usize + index * 56));
        let executable =
            headers.filter(|h| h.cast::<u32>().read() == PT_LOAD && h.add(4).cast::<u32>().read() & PF_X != 0);
        let range = |h: *const u8| {
            let start = base + h.add(16).cast::<u64>().read();
            [start, start + h.add(40).cast::<u64>().read()]
        };
        executable.map(range).collect()
    }
}

/// The code of all loaded libraries that have a name, and notes which is ours.
pub fn libraries() -> Vec<Code> {
    let mut out = Vec::new();
    // SAFETY: the loader keeps the list; entries stay while they are in it.
    unsafe {
        let mut at = _r_debug.first;
        while let Some(map) = at.as_ref() {
            at = map.next;
            let name = if map.name.is_null() { c"" } else { CStr::from_ptr(map.name) };
            let mut magic = [0; 4];
            let is_elf = sys::copy_from(map.address, &mut magic) == Ok(4) && magic == *b"\x7fELF";
            if is_elf && !name.is_empty() {
                let owner = owner(name.to_bytes());
                out.extend(segments(map.address).into_iter().map(|[start, end]| Code { owner, start, end }));
            }
        }
    }
    let ours = out.iter().filter(|code| code.owner == Owner::Ours);
    for (place, code) in OURS.iter().zip(ours) {
        place[0].store(code.start, Ordering::Release);
        place[1].store(code.end, Ordering::Release);
    }
    out
}

/// Code of our libraries.
static OURS: [[AtomicU64; 2]; 32] = [const { [const { AtomicU64::new(0) }; 2] }; 32];

/// Whether an address is in code of ours.
pub fn is_ours(address: u64) -> bool {
    let holds = |place: &[AtomicU64; 2]| {
        (place[0].load(Ordering::Acquire)..place[1].load(Ordering::Acquire)).contains(&address)
    };
    OURS.iter().any(holds)
}

/// libc's code and what is of use in it.
#[derive(Clone, Copy, Debug)]
pub struct Libc {
    /// Where it begins.
    pub start: u64,
    /// Where it ends. Where it consists of several libraries, what lies between them is taken for libc's.
    pub end: u64,
    /// [`gate::CODE`].
    pub gate: usize,
    /// By which handlers return.
    pub restorer: usize,
}

/// The beginning of the function by which handlers return: `mov $15,%rax; syscall`.
const RESTORER: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

impl Libc {
    /// Finds all of it.
    pub fn find(libraries: &[Code]) -> Option<Self> {
        let all: Vec<&Code> = libraries.iter().filter(|code| code.owner == Owner::Libc).collect();
        let look = |pattern: &[u8]| {
            all.iter().find_map(|code| {
                // SAFETY: a segment of a library that is loaded.
                let bytes =
                    unsafe { std::slice::from_raw_parts(code.start as *const u8, (code.end - code.start) as usize) };
                bytes.windows(pattern.len()).position(|bytes| bytes == pattern).map(|at| code.start as usize + at)
            })
        };
        Some(Self {
            start: all.iter().map(|code| code.start).min()?,
            end: all.iter().map(|code| code.end).max()?,
            gate: look(&gate::CODE)?,
            restorer: look(&RESTORER)?,
        })
    }
}

/// How far before a call its number may stand.
const BEFORE: usize = 24;
const PIECE: usize = 256 << 10;

/// Whether a call has to do with ids.
fn carries_ids(number: u32) -> bool {
    let number = i64::from(number);
    let births = [libc::SYS_fork, libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3];
    let waits = [libc::SYS_wait4, libc::SYS_waitid];
    births.contains(&number) || waits.contains(&number) || !matches!(shape(number), Shape::None)
}

/// Whether there is a call with ids in this code: its number, as an operand of a `mov` to eax, shortly before `syscall`.
fn has_call_with_ids(code: &[u8]) -> bool {
    let calls = (0..code.len().saturating_sub(1)).filter(|at| code[*at] == 0x0f && code[*at + 1] == 0x05);
    calls.into_iter().any(|at| {
        let before = &code[at.saturating_sub(BEFORE)..at];
        before
            .windows(5)
            .any(|bytes| bytes[0] == 0xb8 && carries_ids(u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]])))
    })
}

/// Whether the program makes calls with ids past libc, as far as its code tells.
pub fn makes_calls_with_ids(core: Core, libraries: &[Code]) -> bool {
    let spared = |start: u64| {
        libraries.iter().any(|code| code.owner != Owner::Program && (code.start & !0xfff..code.end).contains(&start))
    };
    let wanted = libc::PROT_READ | libc::PROT_EXEC;
    let mut piece = vec![0; PIECE];
    core.mappings().iter().any(|mapping| {
        let view = &mapping.view;
        if view.prot as i32 & wanted != wanted || mapping.name.starts_with(b"[v") || spared(view.start) {
            return false;
        }
        let starts = (view.start..view.end).step_by(PIECE - BEFORE);
        starts.into_iter().any(|start| {
            let length = PIECE.min((view.end - start) as usize);
            let read = sys::copy_from(start, &mut piece[..length]).unwrap_or(0);
            has_call_with_ids(&piece[..read])
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_with_ids_are_told_from_others() {
        // gettid of Go's run time; getpid with an argument in between; futex of OpenMP's; a mov of something else.
        assert!(has_call_with_ids(&[0x90, 0xb8, 0xba, 0, 0, 0, 0x0f, 0x05, 0xc3]));
        assert!(has_call_with_ids(&[0xb8, 0x27, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]));
        assert!(!has_call_with_ids(&[0xb8, 0xca, 0, 0, 0, 0x0f, 0x05]));
        assert!(!has_call_with_ids(&[0xb8, 0x27, 0, 0, 1, 0x0f, 0x05]));
        assert!(!has_call_with_ids(&[0xb8, 0x27, 0, 0, 0]));
    }

    #[test]
    fn what_is_needed_of_libc_is_found() {
        let libraries = libraries();
        let libc = Libc::find(&libraries).unwrap();
        assert!((libc.start..libc.end).contains(&(libc.gate as u64)));
        // SAFETY: found there just now.
        assert_eq!(unsafe { *(libc.gate as *const [u8; 3]) }, gate::CODE);
        assert!((libc.start..libc.end).contains(&(libc::getpid as *const () as u64)));
    }

    #[test]
    fn libraries_are_known_by_their_names() {
        let of = |path: &str| owner(path.as_bytes());
        assert_eq!([of("/lib/libc.so.6"), of("/lib/libc-2.31.so"), of("/lib/libpthread-2.31.so")], [Owner::Libc; 3]);
        assert_eq!([of("/lib64/ld-linux-x86-64.so.2"), of("linux-vdso.so.1")], [Owner::System; 2]);
        assert_eq!([of("/a/libdmtcp.so"), of("/a/libdmtcp_file.so")], [Owner::Ours; 2]);
        assert_eq!([of("/lib/libcurl.so.4"), of("")], [Owner::Program; 2]);
    }
}
