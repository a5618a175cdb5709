//! What a stub does before the core has wired it: constructors of the application's libraries run before ours.

use crate::abi::Wrapper;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn dlvsym(handle: *mut c_void, symbol: *const c_char, version: *const c_char) -> *mut c_void;
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
}

const RTLD_DEFAULT: *mut c_void = std::ptr::null_mut();
const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

/// Finds where the call goes. Wires everything if the core is there; else (inside dmtcp_restart, or a call so early that
/// the core cannot work yet) gives the function that would have been called without us.
extern "C" fn resolve(wrapper: &'static Wrapper) -> usize {
    // SAFETY: a constant, zero-terminated name; the core exports it with this type or not at all.
    unsafe {
        let wire = dlsym(RTLD_DEFAULT, c"dmtcp_core_wire".as_ptr());
        if !wire.is_null() {
            let wire: extern "C" fn() = std::mem::transmute(wire);
            wire();
        }
    }
    let slot = wrapper.slot.load(Ordering::Acquire);
    if slot != 0 {
        return slot;
    }
    next_symbol(wrapper.symbol, wrapper.version) as usize
}

/// The definition of a symbol that comes after the object that holds this code, which is the plugin.
#[allow(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "only the core calls it, through the plugin's table, with static texts"
)]
pub extern "C" fn next_symbol(symbol: *const c_char, version: *const c_char) -> *const c_void {
    // SAFETY: names in descriptors are zero-terminated. RTLD_NEXT counts from the object of the return address: the
    // result is used, not tail-called, so that this stays the plugin.
    let found =
        unsafe { if version.is_null() { dlsym(RTLD_NEXT, symbol) } else { dlvsym(RTLD_NEXT, symbol, version) } };
    match version.is_null() && !found.is_null() && next_is_oldest() {
        true => default_version(found, symbol),
        false => std::hint::black_box(found),
    }
}

/// Whether RTLD_NEXT gives the oldest version of a symbol instead of the default one, as up to glibc 2.35: a
/// pthread_cond_wait that knows another pthread_cond_t.
fn next_is_oldest() -> bool {
    // SAFETY: libc's own text, zero-terminated.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    let minor = version.to_str().ok().and_then(|text| text.strip_prefix("2.")?.split('.').next()?.parse().ok());
    minor.is_some_and(|minor: u32| minor < 36)
}

/// A loaded library, and its handle.
struct Library {
    start: usize,
    end: usize,
    handle: *mut c_void,
    next: *const Library,
}

/// The libraries that have been asked.
static FIRST: AtomicPtr<Library> = AtomicPtr::new(std::ptr::null_mut());

/// The default version of a symbol of which some version is at `found`: a search that begins at a certain library finds it.
fn default_version(found: *mut c_void, symbol: *const c_char) -> *const c_void {
    let address = found as usize;
    let mut at: *const Library = FIRST.load(Ordering::Acquire);
    // SAFETY: the list holds libraries that are never freed.
    let listed = std::iter::from_fn(|| unsafe { at.as_ref() }.inspect(|library| at = library.next));
    let holds = |library: &&Library| (library.start..library.end).contains(&address);
    let Some(library) = listed.into_iter().find(holds).or_else(|| library_of(address)) else { return found };
    // SAFETY: the handle is never closed; the name is zero-terminated.
    let newest = unsafe { dlsym(library.handle, symbol) };
    // Where that library only passes another's definition on, the one that was found first stays.
    match (library.start..library.end).contains(&(newest as usize)) {
        true => newest,
        false => found,
    }
}

/// The library that an address is in, if it can be opened.
#[allow(clippy::disallowed_methods, reason = "the constructor runs it, or the first call through a stub")]
fn library_of(address: usize) -> Option<&'static Library> {
    let mut found = Library { start: address, end: 0, handle: std::ptr::null_mut(), next: std::ptr::null() };
    // SAFETY: the callback gets `found`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(note_library), (&raw mut found).cast()) };
    let name = found.handle.cast::<c_char>();
    if name.is_null() {
        return None;
    }
    // SAFETY: the name is the loader's, of a library that stays: it was found in the order of libraries that are searched.
    found.handle = unsafe { dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if found.handle.is_null() {
        return None;
    }
    let library = Box::leak(Box::new(found));
    let mut next = FIRST.load(Ordering::Acquire);
    loop {
        library.next = next;
        match FIRST.compare_exchange_weak(next, library, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(library),
            Err(other) => next = other,
        }
    }
}

/// Looks whether the address, which `start` holds, is in this library: then `handle` is its name, and it ends the search.
unsafe extern "C" fn note_library(info: *mut libc::dl_phdr_info, _: usize, library: *mut c_void) -> c_int {
    // SAFETY: libc passes a valid entry with its headers; `library` is what `library_of` passed.
    let (info, library) = unsafe { (&*info, &mut *library.cast::<Library>()) };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: as above.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let (mut start, mut end) = (usize::MAX, 0);
    for header in loaded {
        let at = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        (start, end) = (start.min(at), end.max(at.wrapping_add(header.p_memsz as usize)));
    }
    if !(start..end).contains(&library.start) {
        return 0;
    }
    (library.start, library.end, library.handle) = (start, end, info.dlpi_name.cast_mut().cast());
    1
}

/// Assembly: calls a function with r11 and the address of the six saved integer arguments, last one first; keeps all argument
/// registers (vectors: 128 bits), then jumps to its result.
#[doc(hidden)]
#[macro_export]
macro_rules! resolve_and_jump {
    ($resolve:path) => {
        ::core::arch::naked_asm!(
            "push rbp",
            "mov rbp, rsp",
            "push rdi",
            "push rsi",
            "push rdx",
            "push rcx",
            "push r8",
            "push r9",
            "push rax",
            "push r10",
            "sub rsp, 128",
            "and rsp, -16",
            "movups [rsp], xmm0",
            "movups [rsp+16], xmm1",
            "movups [rsp+32], xmm2",
            "movups [rsp+48], xmm3",
            "movups [rsp+64], xmm4",
            "movups [rsp+80], xmm5",
            "movups [rsp+96], xmm6",
            "movups [rsp+112], xmm7",
            "mov rdi, r11",
            "lea rsi, [rbp-48]",
            "call {resolve}",
            "mov r11, rax",
            "movups xmm0, [rsp]",
            "movups xmm1, [rsp+16]",
            "movups xmm2, [rsp+32]",
            "movups xmm3, [rsp+48]",
            "movups xmm4, [rsp+64]",
            "movups xmm5, [rsp+80]",
            "movups xmm6, [rsp+96]",
            "movups xmm7, [rsp+112]",
            "lea rsp, [rbp-64]",
            "pop r10",
            "pop rax",
            "pop r9",
            "pop r8",
            "pop rcx",
            "pop rdx",
            "pop rsi",
            "pop rdi",
            "pop rbp",
            "jmp r11",
            resolve = sym $resolve,
        )
    };
}

/// Entered by a jump from a stub with the address of its [`Wrapper`] in r11: resolves, then jumps on with all argument
/// registers as they were.
///
/// # Safety
/// Not a function to call.
#[unsafe(naked)]
pub unsafe extern "C" fn lazy_stub() {
    crate::resolve_and_jump!(resolve)
}
