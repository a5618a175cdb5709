//! The original's C interface: the functions that programs and C plugins call by name, exported by libdmtcp.so.
//!
//! | module | owns |
//! |---|---|
//! | [`application`] | a checkpoint that the program itself asks for; how things stand |
//! | [`hold`] | sections of the program that no checkpoint cuts |
//! | [`news`] | what the checkpoint thread lets the other threads know |
//! | [`plugins`] | C plugins: registration, events in their order |
//! | [`names`] | what processes tell each other: values and barriers |
//! | [`hooks`] | the thread that hooks of C plugins run on |
//! | [`regions`] | memory that a C plugin keeps out of the image |
//! | [`locks`] | whether hooks can use libc while the program is stopped |
//! | [`mutex`] | locks for plugins |
//! | [`files`] | names of directories, images and the program |
//! | [`identity`] | ids of process, computation, coordinator |
//! | [`settings`] | what the launch decided; the environment of the restart; what is ours among descriptors and pids |
//! | [`symbols`] | the search for the next definition of a function |
//!
//! `include/dmtcp.h` declares all of it; a function without a counterpart there, or the other way round, is an error that
//! a test finds. Every function may be called by any thread of the program at any time, so none of them holds a lock that
//! a stopped thread could keep, and none leaves a descriptor in the program's table where a checkpoint could find it.

pub mod application;
pub mod files;
pub mod hold;
pub mod hooks;
mod identity;
mod locks;
mod mutex;
pub mod names;
pub mod news;
pub mod plugins;
mod regions;
mod settings;
mod symbols;

/// No computation here, or nobody answers.
const NOT_PRESENT: i32 = 3;
/// The answer is there.
const PRESENT: i32 = 4;

/// A text of the caller's; `None` for a null pointer.
fn text<'a>(pointer: *const std::ffi::c_char) -> Option<&'a [u8]> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the interface demands a zero-terminated text that lives over the call.
    Some(unsafe { std::ffi::CStr::from_ptr(pointer) }.to_bytes())
}
