//! The end of the heap after a restart that could not tell the kernel where it was (no PR_SET_MM_MAP, no privilege).
//!
//! The kernel then has another one, and libc's sbrk(3) and allocator would go wrong with either:
//! * One above: what brk(2) is asked for lies below all that it may change, so it does nothing and answers with its own end.
//!   libc takes that for success, and its allocator for memory that nobody has mapped. So libc is told of the kernel's: the
//!   allocator goes on there, as it does when somebody else has moved the end.
//! * One below: the heap is in the way when it is to grow, and brk(2) says so. But the allocator that gives back what is at
//!   the end of the heap believes that all memory down to the kernel's end is gone. So libc is told of an end that is not that
//!   of the allocator's memory: it does not give back what it does not take for its own.
//!
//! What can go wrong: a thread that was stopped inside of libc's brk or sbrk goes by the old one still.

use dmtcp_image::PAGE;
use dmtcp_plugin_api::sys;
use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

unsafe extern "C" {
    /// What libc takes for the end of the heap; null until somebody has asked for memory there.
    #[link_name = "__curbrk"]
    static LIBCS: AtomicPtr<c_void>;
}

/// The kernel's when the image was taken.
static SAVED: AtomicU64 = AtomicU64::new(0);

/// The kernel's.
fn end() -> u64 {
    // SAFETY: brk(0) only asks.
    unsafe { sys::call(libc::SYS_brk as i32, [0; 6]) }.unwrap_or(0) as u64
}

/// Notes it for the image.
pub fn note_end() -> u64 {
    let end = end();
    SAVED.store(end, Ordering::Relaxed);
    end
}

/// After a restart, while all threads are stopped.
pub fn follow_the_kernel() {
    let now = end();
    // SAFETY: a word of libc's data, which only its brk and sbrk use.
    let libcs = unsafe { &LIBCS };
    // Not the one that was saved: a restart before this one may have changed it, or the program, past libc.
    let known = libcs.load(Ordering::Relaxed) as u64;
    if now != SAVED.load(Ordering::Relaxed) && known != 0 && known != now {
        libcs.store(now.max(known + PAGE) as *mut c_void, Ordering::Relaxed);
    }
}
