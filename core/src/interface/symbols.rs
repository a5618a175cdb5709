//! The search for the next definition of a function, for wrappers of C plugins (NEXT_FNC and its kin).
//!
//! RTLD_NEXT counts from the object that the call's return address is in, so these are jumps, not calls: libc sees the
//! plugin. Plugins with the C interface come after all plugins of stubs in the search order, so what libc finds behind
//! them is the next C plugin's wrapper or the real function, never a stub that would start the chain again. Without a
//! version libc gives the default one.

use crate::host::late::pass_dlsym;
use std::ffi::{CStr, CString, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlvsym(handle: *mut c_void, symbol: *const c_char, version: *const c_char) -> *mut c_void;
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dl_iterate_phdr(
        callback: extern "C" fn(*const libc::dl_phdr_info, usize, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
}

/// dlsym(3) as if the caller had called it.
///
/// # Safety
/// As dlsym(3).
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dmtcp_dlsym(_handle: *mut c_void, _symbol: *const c_char) -> *mut c_void {
    core::arch::naked_asm!("jmp {function}", function = sym pass_dlsym)
}

/// dlvsym(3) as if the caller had called it.
///
/// # Safety
/// As dlvsym(3).
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dmtcp_dlvsym(
    _handle: *mut c_void,
    _symbol: *const c_char,
    _version: *const c_char,
) -> *mut c_void {
    core::arch::naked_asm!("jmp qword ptr [rip + {function}@GOTPCREL]", function = sym dlvsym)
}

/// The first loaded library whose path contains a text.
struct Search<'a> {
    part: &'a [u8],
    found: Option<CString>,
    /// What its addresses are relative to.
    base: u64,
}

extern "C" fn look(info: *const libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: libc passes a valid entry, and `data` is the search that `search` passed.
    let (name, base, search) = unsafe { ((*info).dlpi_name, (*info).dlpi_addr, &mut *data.cast::<Search<'_>>()) };
    if name.is_null() {
        return 0;
    }
    // SAFETY: names of libraries are zero-terminated.
    let name = unsafe { CStr::from_ptr(name) };
    let hit = name.to_bytes().windows(search.part.len()).any(|window| window == search.part);
    if hit {
        search.found = Some(name.to_owned());
        search.base = base;
    }
    c_int::from(hit)
}

/// The address of a symbol in the library whose path contains a text, and what the library's addresses are relative to.
fn search(library: *const c_char, symbol: *const c_char) -> Option<(*mut c_void, u64)> {
    let part = super::text(library).filter(|part| !part.is_empty())?;
    super::hold::hold();
    let mut search = Search { part, found: None, base: 0 };
    // SAFETY: the callback gets the search, which outlives the call. RTLD_NOLOAD only looks for what is loaded.
    let found = unsafe {
        dl_iterate_phdr(look, (&raw mut search).cast());
        let null = std::ptr::null_mut();
        let handle = search.found.as_ref().map_or(null, |n| dlopen(n.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD));
        if handle.is_null() { null } else { pass_dlsym(handle, symbol) }
    };
    let base = search.base;
    drop(search);
    super::hold::release();
    (!found.is_null()).then_some((found, base))
}

/// A symbol of the first loaded library whose path contains a text; null: there is none.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_dlsym_lib(library: *const c_char, symbol: *const c_char) -> *mut c_void {
    search(library, symbol).map_or(std::ptr::null_mut(), |(found, _)| found)
}

/// The same as a distance from where the library is loaded; 0: there is none.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_dlsym_lib_fnc_offset(library: *const c_char, symbol: *const c_char) -> u64 {
    search(library, symbol).map_or(0, |(found, base)| (found as u64).wrapping_sub(base))
}
