//! Memory that a C plugin keeps out of the image: its `dmtcp_skip_memory_region_ckpting`.
//!
//! ```text
//!   hook thread, after the hooks of PRECHECKPOINT   asks for each private anonymous mapping ([`ask`])
//!   checkpoint thread, when those have ended        puts what was answered into the description ([`describe`])
//! ```
//! The hook may answer for a part of what it is shown, and is asked again for what lies behind. One that never gets past
//! an address would be asked for ever: each question begins behind the last one.

use crate::capture::maps;
use crate::host::description;
use crate::host::late::pass_dlsym;
use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int};
use std::sync::atomic::{AtomicUsize, Ordering};

/// `ProcMapsArea`.
#[repr(C)]
pub struct Area {
    start: u64,
    end: u64,
    size: usize,
    prot: c_int,
    flags: c_int,
    offset: i64,
    name: *const c_char,
}

type Hook = extern "C" fn(*mut Area) -> c_int;

/// Address of the plugin's function, 0: there is none.
static HOOK: AtomicUsize = AtomicUsize::new(0);

/// What the last answers were. Written by the hook thread while the checkpoint thread waits for it, read by that.
struct Answers(UnsafeCell<Vec<(u64, u64)>>);
// SAFETY: see the field; the hand-over is the event's bit in `hooks`.
unsafe impl Sync for Answers {}
static ANSWERS: Answers = Answers(UnsafeCell::new(Vec::new()));

/// Looks whether any library defines the function. While the program starts: later the loader may be in use.
pub fn find_hook() {
    // SAFETY: a null handle asks for the first definition in the order of the libraries.
    let found = unsafe { pass_dlsym(std::ptr::null_mut(), c"dmtcp_skip_memory_region_ckpting".as_ptr()) };
    HOOK.store(found as usize, Ordering::Release);
}

/// Hook thread, all threads of the program stopped: asks the plugin.
pub fn ask() {
    let address = HOOK.load(Ordering::Acquire);
    if address == 0 {
        return;
    }
    // SAFETY: what is exported under this name has this type by the interface.
    let hook: Hook = unsafe { std::mem::transmute(address) };
    // SAFETY: the checkpoint thread waits for this event's end.
    let answers = unsafe { &mut *ANSWERS.0.get() };
    answers.clear();
    for mapping in maps::read().unwrap_or_default() {
        if mapping.shared || mapping.inode != 0 || mapping.name.starts_with(b"[v") {
            continue;
        }
        let name = CString::new(&mapping.name[..]).unwrap_or_default();
        let mut at = mapping.start;
        while at < mapping.end {
            let mut area = Area {
                start: at,
                end: mapping.end,
                size: (mapping.end - at) as usize,
                prot: mapping.prot as c_int,
                flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                offset: mapping.offset as i64,
                name: name.as_ptr(),
            };
            let skip = hook(&raw mut area) != 0;
            let (start, end) = (area.start.max(at), area.end.min(mapping.end));
            if skip && start < end {
                answers.push((start, end));
            }
            if end <= at {
                break;
            }
            at = end;
        }
    }
}

/// Checkpoint thread, when the hook thread has done its part.
pub fn describe() {
    if HOOK.load(Ordering::Acquire) == 0 {
        return;
    }
    // SAFETY: the hook thread has ended this event, or is given up together with the checkpoint.
    let answers = unsafe { &*ANSWERS.0.get() };
    description::with(|d| {
        for (start, end) in answers {
            d.exclude(*start, *end);
        }
    });
}
