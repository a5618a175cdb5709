//! Whether libc can be used while all threads of the program are stopped: the locks that hooks of C plugins need.
//!
//! A stopped thread may hold any lock, and hooks in C use libc as they please. So the stop is tried on the hook thread:
//! it takes each lock once and gives it back. If that does not come to its end, some stopped thread holds one; all threads
//! go on, and the stop is repeated until it has caught nobody inside. Wrapping those functions instead, with signals
//! blocked around each call, would cost every `malloc` of the program two system calls.
//!
//! Tried are the allocator, the environment, the dynamic loader, and the streams stdout and stderr. The locks of streams
//! are not waited for: a thread may hold one for as long as its terminal is full.
//!
//! This is libc called on purpose: the thread is an ordinary one, and what it gets is what the hooks will get.

use std::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    static stdout: *mut libc::FILE;
    static stderr: *mut libc::FILE;
    fn ftrylockfile(stream: *mut libc::FILE) -> c_int;
    fn funlockfile(stream: *mut libc::FILE);
    fn malloc(size: usize) -> *mut c_void;
    fn free(block: *mut c_void);
    fn unsetenv(name: *const c_char) -> c_int;
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlclose(handle: *mut c_void) -> c_int;
}

/// Sizes that allocators keep in different places: per thread, per arena.
const SIZES: [usize; 3] = [24, 3_000, 60_000];

/// Takes each lock once. False: a stream is locked. Does not come back while a thread holds one of the others.
pub fn try_all() -> bool {
    // SAFETY: blocks are freed once; the name is no variable's; the streams are libc's own and unlocked if they were
    // locked; RTLD_NOLOAD of the program itself loads nothing.
    unsafe {
        for size in SIZES {
            free(std::hint::black_box(malloc(size)));
        }
        unsetenv(c"DMTCP_NO_SUCH_VARIABLE".as_ptr());
        let program = dlopen(std::ptr::null(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if !program.is_null() {
            dlclose(program);
        }
        [stdout, stderr].into_iter().all(|stream| {
            let free = ftrylockfile(stream) == 0;
            if free {
                funlockfile(stream);
            }
            free
        })
    }
}
