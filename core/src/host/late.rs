//! Wrapped functions of libraries that come late, or that only those see who loaded them.
//!
//! RTLD_NEXT knows the libraries that the program was linked with. A library that came by dlopen(RTLD_LOCAL) is not among
//! them (python's sqlite3, mpi4py): its functions are looked for when they are first called, or asked for by dlsym.
//!
//! ```text
//!   wrapper --next--> thunk N --first call--> search the loaded libraries --> the function; cells get its address
//!   dlsym(handle, name) = the function that a chain ends in --> the chain's stub
//! ```
//! What can go wrong: the library is unloaded and its functions' addresses stay in our cells. So it is pinned: a library
//! with a function that was found this way stays loaded. Of two libraries that both define the function, the first one
//! that was found is called.

use crate::config;
use dmtcp_plugin_api::abi::Wrapper;
use dmtcp_plugin_api::sys;
use std::cmp::Ordering as Order;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many symbols may have no definition when the program starts. The number is in the assembly below, too.
const THUNKS: usize = 512;
const THUNK_BYTES: usize = 16;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlclose(handle: *mut c_void) -> c_int;
    fn dlvsym(handle: *mut c_void, symbol: *const c_char, version: *const c_char) -> *mut c_void;
    fn dl_iterate_phdr(
        callback: extern "C" fn(*const libc::dl_phdr_info, usize, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
}
const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

/// The wrappers of one symbol.
pub struct Chain {
    /// The one that calls the function itself.
    pub last: &'static Wrapper,
    /// All of them, those that are switched off too.
    pub wrappers: Vec<&'static Wrapper>,
    /// The function; 0: no library that has it was loaded yet.
    pub real: AtomicUsize,
    /// Whether anything is wrapped, or everything switched off.
    pub active: bool,
}

impl Chain {
    fn symbol(&self) -> &'static CStr {
        // SAFETY: names in descriptors are zero-terminated statics.
        unsafe { CStr::from_ptr(self.last.symbol) }
    }

    /// Puts the function into all cells that hold its stand-in.
    fn settle(&self, stand_in: usize, found: usize) {
        self.real.store(found, Ordering::Release);
        for wrapper in &self.wrappers {
            for cell in [wrapper.next, wrapper.slot] {
                // One that holds something else is not concerned.
                let _ = cell.compare_exchange(stand_in, found, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}

/// By symbol, ascending.
static CHAINS: OnceLock<Vec<Chain>> = OnceLock::new();

/// Makes the chains known; once.
pub fn set_chains(chains: Vec<Chain>) {
    // There is one caller, which runs once.
    let _ = CHAINS.set(chains);
}

/// What stands in for the function of chain number `index` until it is found; `None`: there are no more.
pub fn stand_in(index: usize) -> Option<usize> {
    (index < THUNKS).then(|| thunks as *const () as usize + index * THUNK_BYTES)
}

/// One entry of 16 bytes for each chain: its number in r11, to [`find_and_jump`].
#[unsafe(naked)]
unsafe extern "C" fn thunks() {
    core::arch::naked_asm!(
        ".balign 16",
        ".set dmtcp_late_index, 0",
        ".rept 512",
        ".balign 16",
        "mov r11d, dmtcp_late_index",
        "jmp {common}",
        ".set dmtcp_late_index, dmtcp_late_index + 1",
        ".endr",
        common = sym find_and_jump,
    )
}

#[unsafe(naked)]
unsafe extern "C" fn find_and_jump() {
    dmtcp_plugin_api::private::resolve_and_jump!(find)
}

/// The function of chain number `index`.
extern "C" fn find(index: usize) -> usize {
    let Some(chain) = CHAINS.get().and_then(|chains| chains.get(index)) else { nobody("a wrapped function") };
    let known = chain.real.load(Ordering::Acquire);
    if known != 0 {
        return known;
    }
    match search(chain.symbol(), chain.last.version) {
        Some(found) => {
            chain.settle(stand_in(index).unwrap_or(0), found);
            found
        }
        None => nobody(&chain.symbol().to_string_lossy()),
    }
}

/// A call has nowhere to go; without us the loader would end the program.
#[allow(clippy::disallowed_methods, reason = "the process ends here, with a core dump that shows who has called")]
fn nobody(symbol: &str) -> ! {
    let text = format!("dmtcp: {symbol} is called, and no loaded library defines it\n");
    let _ = sys::write(2, text.as_bytes());
    // SAFETY: ends the process; there is no function to go on with.
    unsafe { libc::abort() }
}

extern "C" fn collect(info: *const libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: libc passes a valid entry with a zero-terminated name; `data` is the list that `search` passed.
    unsafe {
        if !(*info).dlpi_name.is_null() {
            (*data.cast::<Vec<CString>>()).push(CStr::from_ptr((*info).dlpi_name).to_owned());
        }
    }
    0
}

/// A definition in any loaded library that is none of ours.
fn search(symbol: &CStr, version: *const c_char) -> Option<usize> {
    let mut names: Vec<CString> = Vec::new();
    // SAFETY: the callback gets the list, which outlives the call. Libraries are opened only afterwards: the loader's locks
    // are taken in another order there.
    unsafe { dl_iterate_phdr(collect, (&raw mut names).cast()) };
    names.iter().filter(|name| !name.is_empty()).find_map(|name| {
        // SAFETY: RTLD_NOLOAD only looks for what is loaded; the reference is given back.
        unsafe {
            let handle = dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if handle.is_null() {
                return None;
            }
            let found = match version.is_null() {
                true => pass_dlsym(handle, symbol.as_ptr()),
                false => dlvsym(handle, symbol.as_ptr(), version),
            } as usize;
            let good = found != 0 && pin(found);
            dlclose(handle);
            good.then_some(found)
        }
    })
}

/// libc's own function, whoever has put one of the same name in front of it.
pub fn of_libc(symbol: &CStr) -> Option<usize> {
    // Before glibc 2.34 threads are a library of their own.
    [c"libc.so.6", c"libpthread.so.0"].iter().find_map(|name| {
        // SAFETY: RTLD_NOLOAD only looks for what is loaded; the reference is given back, and libc stays loaded.
        unsafe {
            let handle = dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if handle.is_null() {
                return None;
            }
            let found = pass_dlsym(handle, symbol.as_ptr()) as usize;
            dlclose(handle);
            (found != 0).then_some(found)
        }
    })
}

/// Sees to it that the library that holds an address stays; false: it is one of ours.
#[allow(clippy::disallowed_methods, reason = "only calls of the program's get here, on threads that run")]
fn pin(address: usize) -> bool {
    // SAFETY: dladdr takes any address; the entry that it fills is valid when it says so, its name zero-terminated.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let mut own: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address as *const c_void, &raw mut info) == 0
            || libc::dladdr(pin as *const c_void, &raw mut own) == 0
            || info.dli_fbase == own.dli_fbase
        {
            return false;
        }
        let name = super::text(info.dli_fname);
        if config::config().is_some_and(|c| c.plugins.iter().any(|plugin| plugin == name)) {
            return false;
        }
        // The program itself has no name to open it by, and stays anyway.
        dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
    }
    true
}

static REAL_DLSYM: AtomicUsize = AtomicUsize::new(0);

/// libc's dlsym. Not by dlsym, which is ours here: it has had this version since ever.
extern "C" fn find_dlsym() -> usize {
    // SAFETY: the names are zero-terminated constants. The result is kept, not tail-called: RTLD_NEXT counts from here.
    let found = unsafe { dlvsym(RTLD_NEXT, c"dlsym".as_ptr(), c"GLIBC_2.2.5".as_ptr()) } as usize;
    if found == 0 {
        nobody("dlsym");
    }
    REAL_DLSYM.store(found, Ordering::Release);
    found
}

/// dlsym(3) of libc as if the caller had called it, whose place counts for RTLD_NEXT.
///
/// # Safety
/// As dlsym(3).
#[unsafe(naked)]
pub unsafe extern "C" fn pass_dlsym(_handle: *mut c_void, _symbol: *const c_char) -> *mut c_void {
    core::arch::naked_asm!(
        "mov rax, [rip + {real}]",
        "test rax, rax",
        "jz 2f",
        "jmp rax",
        "2:",
        "push rdi",
        "push rsi",
        "sub rsp, 8",
        "call {find}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "jmp rax",
        real = sym REAL_DLSYM,
        find = sym find_dlsym,
    )
}

/// dlsym(3) for the program: a wrapped function of a certain library is its wrapper. RTLD_DEFAULT and RTLD_NEXT pass.
///
/// # Safety
/// As dlsym(3).
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlsym(_handle: *mut c_void, _symbol: *const c_char) -> *mut c_void {
    core::arch::naked_asm!(
        "lea rax, [rdi + 1]",
        "cmp rax, 1",
        "ja {of_library}",
        "jmp {pass}",
        of_library = sym of_library,
        pass = sym pass_dlsym,
    )
}

extern "C" fn of_library(handle: *mut c_void, symbol: *const c_char) -> *mut c_void {
    // SAFETY: the arguments are the program's, for dlsym.
    let found = unsafe { pass_dlsym(handle, symbol) };
    if found.is_null() {
        return found;
    }
    // SAFETY: dlsym has taken the name.
    let symbol = unsafe { CStr::from_ptr(symbol) };
    let chains = CHAINS.get().map_or(&[][..], |chains| chains);
    let Ok(index) = chains.binary_search_by(|chain| order(chain.symbol(), symbol)) else { return found };
    let chain = &chains[index];
    let real = chain.real.load(Ordering::Acquire);
    let is_late = real == 0 && chain.last.version.is_null();
    if !chain.active || !(real == found as usize || (is_late && pin(found as usize))) {
        return found;
    }
    if is_late {
        chain.settle(stand_in(index).unwrap_or(0), found as usize);
    }
    chain.last.stub.cast_mut()
}

fn order(a: &CStr, b: &CStr) -> Order {
    a.to_bytes().cmp(b.to_bytes())
}
