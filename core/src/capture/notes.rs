//! The notes that make an image a core file for gdb and its like: registers from the signal frames, so that the user never
//! sees our handler.

use super::cpu;
use super::maps::Mapping;
use crate::threads::slot::Slot;
use dmtcp_plugin_api::proc_files;
use libc::*;

const CORE: &[u8] = b"CORE\0";
const LINUX: &[u8] = b"LINUX\0";
const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4c45;
const NT_X86_XSTATE: u32 = 0x202;
const PAGE: u64 = dmtcp_image::PAGE;

/// A note: owner, type, bytes.
pub type Note = (&'static [u8], u32, Vec<u8>);

/// `struct elf_prstatus` of x86_64: 336 bytes; the pid at 32, `user_regs_struct` at 112.
fn prstatus(slot: &Slot) -> Vec<u8> {
    // SAFETY: the thread is parked.
    let saved = unsafe { slot.saved() };
    // SAFETY: its frame stays where it is until the release.
    let context = unsafe { &*(saved.frame as *const ucontext_t) };
    let g = |index: i32| context.uc_mcontext.gregs[index as usize] as u64;
    let selectors = g(REG_CSGSFS);
    let selector = |shift: u32| selectors >> shift & 0xffff;
    let registers = [
        g(REG_R15),
        g(REG_R14),
        g(REG_R13),
        g(REG_R12),
        g(REG_RBP),
        g(REG_RBX),
        g(REG_R11),
        g(REG_R10),
        g(REG_R9),
        g(REG_R8),
        g(REG_RAX),
        g(REG_RCX),
        g(REG_RDX),
        g(REG_RSI),
        g(REG_RDI),
        u64::MAX,
        g(REG_RIP),
        selector(0),
        g(REG_EFL),
        g(REG_RSP),
        selector(48),
        saved.fs,
        saved.gs,
        0,
        0,
        selector(32),
        selector(16),
    ];
    let mut out = vec![0u8; 336];
    out[32..36].copy_from_slice(&slot.known().to_le_bytes());
    for (i, register) in registers.into_iter().enumerate() {
        out[112 + i * 8..120 + i * 8].copy_from_slice(&register.to_le_bytes());
    }
    out[328] = 1;
    out
}

/// Adds the registers of all threads; gives the size of the largest CPU state, and the components in use in any.
pub fn threads(parked: &[&'static Slot], out: &mut Vec<Note>) -> (u64, u64) {
    let (mut largest, mut in_use) = (0, 0);
    for slot in parked {
        out.push((CORE, NT_PRSTATUS, prstatus(slot)));
        // SAFETY: the thread is parked.
        let state = cpu::state_of(unsafe { slot.saved() }.frame);
        let (size, components) = cpu::shape(state);
        largest = largest.max(u64::from(size));
        if size < 512 {
            continue;
        }
        // SAFETY: the frame's CPU state is `size` bytes long.
        let bytes = unsafe { std::slice::from_raw_parts(state, size as usize) };
        out.push((CORE, NT_FPREGSET, bytes[..512].to_vec()));
        in_use |= cpu::in_use(bytes);
        if size > 512 {
            // Debuggers want the component mask where the frame keeps the kernel's software bytes.
            let mut xstate = bytes.to_vec();
            xstate[464..512].fill(0);
            xstate[464..472].copy_from_slice(&components.to_le_bytes());
            out.push((LINUX, NT_X86_XSTATE, xstate));
        }
    }
    (largest, in_use)
}

/// Adds what debuggers want of the process as a whole.
pub fn process(mappings: &[Mapping], parked: &[&'static Slot], out: &mut Vec<Note>) {
    // struct elf_prpsinfo: 136 bytes; pid at 24, fname[16] at 40, psargs[80] at 56.
    let mut info = vec![0u8; 136];
    info[1] = b'R';
    info[24..28].copy_from_slice(&crate::threads::known_process().to_le_bytes());
    if let Some(first) = parked.first() {
        // SAFETY: the thread is parked.
        info[40..56].copy_from_slice(&unsafe { first.saved() }.name);
    }
    let arguments = proc_files::read_file("/proc/thread-self/../../cmdline").unwrap_or_default();
    for (into, byte) in info[56..135].iter_mut().zip(&arguments) {
        *into = if *byte == 0 { b' ' } else { *byte };
    }
    out.push((CORE, NT_PRPSINFO, info));
    if let Ok(auxv) = proc_files::read_file("/proc/thread-self/../../auxv") {
        out.push((CORE, NT_AUXV, auxv));
    }
    let files: Vec<&Mapping> = mappings.iter().filter(|m| m.inode != 0 && m.name.first() == Some(&b'/')).collect();
    let mut note = Vec::new();
    note.extend_from_slice(&(files.len() as u64).to_le_bytes());
    note.extend_from_slice(&PAGE.to_le_bytes());
    for file in &files {
        for word in [file.start, file.end, file.offset / PAGE] {
            note.extend_from_slice(&word.to_le_bytes());
        }
    }
    for file in &files {
        note.extend_from_slice(&file.name);
        note.push(0);
    }
    out.push((CORE, NT_FILE, note));
}
