//! What the run times of sanitizers want to know.
//!
//! AddressSanitizer as a library ends the program if another library comes before it, which we always do. It asks the
//! first definition of a function for options that hold unless `ASAN_OPTIONS` says otherwise: the program's own definition
//! if it has one, else this one. Run times of other sanitizers do not look.

use std::ffi::{CStr, c_char};

const OPTIONS: &CStr = c"verify_asan_link_order=0";

/// Options of AddressSanitizer. It calls this before any constructor has run.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const c_char {
    OPTIONS.as_ptr()
}
