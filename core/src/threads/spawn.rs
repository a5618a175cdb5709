//! Threads of ours: real pthreads, made by libc, so that libc's own bookkeeping (setuid, cancellation, dl_iterate_phdr)
//! knows them.
//!
//! What can go wrong: a run time has a pthread_create of its own (ThreadSanitizer, profilers, some allocators). It would
//! count our threads among the program's: ThreadSanitizer ends a fork's child that makes a thread, if the parent had several.

use crate::host::late;
use crate::signal;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// What a thread runs.
pub type Body = extern "C" fn(*mut c_void) -> *mut c_void;

/// Who makes a thread.
pub enum Maker {
    /// libc itself. Nobody else knows of the thread, so it may call nothing that somebody could have put his own in front of.
    Libc,
    /// Whoever the program would ask: the thread may call anything.
    Anybody,
}

type Create = unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, Body, *mut c_void) -> c_int;

unsafe extern "C" {
    fn pthread_attr_init(attributes: *mut libc::pthread_attr_t) -> c_int;
    fn pthread_attr_setstack(attributes: *mut libc::pthread_attr_t, stack: *mut c_void, size: usize) -> c_int;
    fn pthread_attr_setstacksize(attributes: *mut libc::pthread_attr_t, size: usize) -> c_int;
    fn pthread_attr_setdetachstate(attributes: *mut libc::pthread_attr_t, state: c_int) -> c_int;
    fn pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        body: Body,
        argument: *mut c_void,
    ) -> c_int;
}

thread_local! {
    /// Whether the calling thread is making one of ours.
    static SPAWNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is making one of ours: no plugin is to be told.
pub fn is_spawning() -> bool {
    SPAWNING.get()
}

/// libc's pthread_create.
fn of_libc() -> Option<Create> {
    static FOUND: OnceLock<Option<usize>> = OnceLock::new();
    // SAFETY: libc's function of this name has this type.
    FOUND.get_or_init(|| late::of_libc(c"pthread_create")).map(|found| unsafe { std::mem::transmute(found) })
}

/// Starts a detached thread with this signal mask, on a stack of so many bytes: at `stack`, a mapping that stays for ever,
/// or one of libc's if that is 0. The argument of the body is `stack`. The error is an errno.
pub fn spawn(maker: Maker, body: Body, stack: u64, size: usize, mask: u64) -> Result<(), c_int> {
    let create = match maker {
        Maker::Libc => of_libc().unwrap_or(pthread_create as Create),
        Maker::Anybody => pthread_create,
    };
    // The new thread inherits the mask that is set here.
    let before = signal::set_mask(mask);
    // SAFETY: the attributes are initialised before use; the stack is as the caller promises.
    let result = unsafe {
        let mut attributes = std::mem::zeroed();
        let mut thread = 0;
        pthread_attr_init(&raw mut attributes);
        if stack == 0 {
            pthread_attr_setstacksize(&raw mut attributes, size);
        } else {
            pthread_attr_setstack(&raw mut attributes, stack as *mut c_void, size);
        }
        pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        SPAWNING.set(true);
        let result = create(&raw mut thread, &raw const attributes, body, stack as *mut c_void);
        SPAWNING.set(false);
        result
    };
    signal::set_mask(before);
    if result == 0 { Ok(()) } else { Err(result) }
}

unsafe extern "C" fn add_variables(info: *mut libc::dl_phdr_info, _: usize, sum: *mut c_void) -> c_int {
    // SAFETY: libc passes a valid entry, and the sum that `room_for_variables` has.
    unsafe {
        let headers = std::slice::from_raw_parts((*info).dlpi_phdr, usize::from((*info).dlpi_phnum));
        for header in headers.iter().filter(|h| h.p_type == libc::PT_TLS) {
            *sum.cast::<usize>() += (header.p_memsz + header.p_align) as usize;
        }
    }
    0
}

/// Bytes, in whole pages, that the thread-local variables of all libraries that are loaded take of a thread's stack.
#[allow(clippy::disallowed_methods, reason = "only the constructor calls it")]
pub fn room_for_variables() -> usize {
    let mut sum = 0usize;
    // SAFETY: the function takes the sum as a usize.
    unsafe { libc::dl_iterate_phdr(Some(add_variables), (&raw mut sum).cast()) };
    sum.next_multiple_of(4096)
}
