//! The word in which libc keeps a thread's id. After a restart it holds the virtual one: mutexes compare it with the owners
//! that they have noted.
//!
//! libc tells debuggers where the word is (`_thread_db_pthread_tid`: bits, elements, offset). A libc that does not is
//! searched for it.

use dmtcp_plugin_api::sys;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Offset of the word from the thread pointer; 0: not known yet, [`NOWHERE`]: not to be found.
static OFFSET: AtomicUsize = AtomicUsize::new(0);
/// Bytes of a thread's control block; 0: libc does not tell.
static SIZE: AtomicUsize = AtomicUsize::new(0);
const NOWHERE: usize = usize::MAX;
/// No control block is larger.
const LARGEST: usize = 8192;
/// Where the search ends.
const SEARCHED: usize = 2048;

/// The calling thread's handle, which is its thread pointer.
pub fn own() -> u64 {
    let pointer: u64;
    // SAFETY: the word that the thread pointer points at is the thread pointer itself (x86_64 ABI).
    unsafe { std::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, readonly, preserves_flags)) };
    pointer
}

/// Finds the word while the application still runs.
#[allow(clippy::disallowed_methods, reason = "INIT runs it, or a wrapper before that; later the answer is known")]
pub fn locate() -> usize {
    let known = OFFSET.load(Ordering::Acquire);
    if known != 0 {
        return known;
    }
    // SAFETY: dlsym looks the names up; libc exports arrays of three words and one word under them.
    let (told, size) = unsafe {
        let word = libc::dlsym(libc::RTLD_DEFAULT, c"_thread_db_pthread_tid".as_ptr()).cast::<[u32; 3]>();
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"_thread_db_sizeof_pthread".as_ptr()).cast::<u32>();
        (word.as_ref().map(|w| w[2] as usize), size.as_ref().map_or(0, |s| *s as usize))
    };
    SIZE.store(size.min(LARGEST), Ordering::Release);
    let offset = told.filter(|offset| *offset < LARGEST).or_else(search).unwrap_or(NOWHERE);
    OFFSET.store(offset, Ordering::Release);
    offset
}

/// Where the calling thread's id is in its control block.
fn search() -> Option<usize> {
    let (base, tid) = (own(), sys::tid());
    // SAFETY: libc's control block is larger than what is searched.
    (64..SEARCHED).step_by(4).find(|offset| unsafe { *((base + *offset as u64) as *const i32) } == tid)
}

/// Where the word of a thread is, if it has not ended.
pub fn word_address(thread: u64) -> Option<u64> {
    let offset = locate();
    (offset != NOWHERE && thread != 0).then(|| thread + offset as u64)
}

/// The word of a thread.
///
/// # Safety
/// `thread` must be a handle that libc still accepts.
pub unsafe fn word(thread: u64) -> Option<&'static AtomicI32> {
    // SAFETY: the control block holds the word there; libc and the kernel change it as a whole.
    word_address(thread).map(|address| unsafe { &*(address as *const AtomicI32) })
}

/// Sets the calling thread's word.
pub fn set_own(id: i32) {
    // SAFETY: the calling thread lives.
    if let Some(word) = unsafe { word(own()) } {
        word.store(id, Ordering::Release);
    }
}

/// Room for a copy of a control block, for functions of libc that only read one.
#[repr(C, align(64))]
pub struct Copy([u8; LARGEST]);

impl Copy {
    /// A copy with another id.
    ///
    /// # Safety
    /// As for [`word`].
    pub unsafe fn of(thread: u64, id: i32) -> Option<Self> {
        let (offset, mut size) = (locate(), SIZE.load(Ordering::Acquire));
        let mut copy = Self([0; LARGEST]);
        if size == 0 {
            // The block ends where a thread's stack does, or other memory follows, which nobody looks at in the copy.
            size = sys::copy_from(thread, &mut copy.0).unwrap_or(0);
        } else {
            // SAFETY: the block is `size` bytes long, and there is room for the largest.
            unsafe { std::ptr::copy_nonoverlapping(thread as *const u8, copy.0.as_mut_ptr(), size) };
        }
        if offset == NOWHERE || offset + 4 > size {
            return None;
        }
        copy.0[offset..offset + 4].copy_from_slice(&id.to_ne_bytes());
        Some(copy)
    }

    /// The handle to pass to libc.
    pub fn handle(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_where_libc_says_and_where_the_id_is() {
        // SAFETY: the calling thread lives.
        assert_eq!(unsafe { word(own()) }.unwrap().load(Ordering::Relaxed), sys::tid());
        assert_eq!(search(), Some(locate()));
        // SAFETY: no arguments.
        assert_eq!(own(), unsafe { libc::pthread_self() });
    }
}
