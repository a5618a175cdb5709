//! Protection keys (pkeys(7)): which the process has allocated, which memory has which.
//!
//! What a thread may do with a key is in a register of its own, part of the state in its frame, and comes back with that.
//! The kernel does not list the keys that are allocated: each is tried on a page of ours before the mappings are read.
//! After a restart all are allocated from the lowest on, and given back but for those that the process had.
//!
//! Memory that can only be executed has a key that the kernel allocates when it is asked for, and tells nobody. It would
//! take one that the process had, so dmtcp_restart leaves such memory readable, and it is asked for here, last.

use super::maps::Mapping;
use crate::log;
use dmtcp_plugin_api::core::Level;
use dmtcp_plugin_api::sys;
use std::arch::x86_64::{__cpuid, __cpuid_count};

/// How many there are; key 0 is everybody's.
const KEYS: usize = 16;
const EXECUTE_ONLY: u32 = libc::PROT_EXEC as u32;
const PAGE: u64 = 4096;

/// A mapping with a key.
struct Keyed {
    start: u64,
    end: u64,
    prot: u32,
    key: u32,
}

/// The keys of the process.
pub struct Keys {
    allocated: u16,
    memory: Vec<Keyed>,
}

/// Whether the processor has keys and the kernel uses them.
fn are_there() -> bool {
    const STRUCTURED: u32 = 7;
    const OSPKE: u32 = 1 << 4;
    __cpuid(0).eax >= STRUCTURED && __cpuid_count(STRUCTURED, 0).ecx & OSPKE != 0
}

fn set_key(start: u64, end: u64, prot: u32, key: u32) -> Result<(), i32> {
    let args = [start as usize, (end - start) as usize, prot as usize, key as usize, 0, 0];
    // SAFETY: the callers pass a page of ours, or memory that had this protection when the process was saved.
    unsafe { sys::call(libc::SYS_pkey_mprotect as i32, args) }.map(drop)
}

impl Keys {
    /// None.
    pub const fn none() -> Self {
        Self { allocated: 0, memory: Vec::new() }
    }

    /// Looks which are allocated, with a page that is readable and writable; and lets the calling thread use all, which
    /// writes the memory behind them into the image.
    pub fn look(&mut self, page: u64) {
        self.allocated = 0;
        if page == 0 || !are_there() {
            return;
        }
        // SAFETY: the kernel has turned keys on, so the instruction is there; rights of this thread are all that it sets.
        unsafe {
            std::arch::asm!(".byte 0x0f, 0x01, 0xef", in("eax") 0, in("ecx") 0, in("edx") 0, options(nomem, nostack)); // wrpkru
        }
        const READ_WRITE: u32 = (libc::PROT_READ | libc::PROT_WRITE) as u32;
        let known = |key: &usize| set_key(page, page + PAGE, READ_WRITE, *key as u32).is_ok();
        self.allocated = (1..KEYS).filter(known).fold(0, |all, key| all | 1 << key);
        let _ = set_key(page, page + PAGE, READ_WRITE, 0);
    }

    /// Notes the memory that has keys. The value is whether the process uses any.
    pub fn note(&mut self, mappings: &[Mapping]) -> bool {
        let keyed = mappings.iter().filter(|mapping| mapping.key != 0);
        let note = |m: &Mapping| Keyed { start: m.start, end: m.end, prot: m.prot, key: m.key };
        self.memory.clear();
        self.memory.extend(keyed.map(note));
        self.allocated != 0
    }

    /// Gives the process its keys again, and memory its own.
    pub fn put_back(&self) {
        let mut got = 0u16;
        while self.allocated & !got != 0 {
            // SAFETY: no memory is passed.
            match unsafe { sys::call(libc::SYS_pkey_alloc as i32, [0; 6]) } {
                Ok(key) if key < KEYS => got |= 1 << key,
                _ => break,
            }
        }
        for key in (1..KEYS).filter(|key| got & !self.allocated & 1 << key != 0) {
            // SAFETY: it was allocated just now, and no memory has it.
            let _ = unsafe { sys::call(libc::SYS_pkey_free as i32, [key, 0, 0, 0, 0, 0]) };
        }
        for Keyed { start, end, prot, key } in &self.memory {
            let done = match *prot {
                EXECUTE_ONLY => sys::protect(*start, end - start, *prot as i32),
                prot => set_key(*start, *end, prot, *key),
            };
            if let Err(error) = done {
                let text = format!(
                    "memory at {start:#x}: no protection key {key} here, every thread may use it: error {error}"
                );
                log::line(Level::Warning, "core", &text);
            }
        }
    }
}
