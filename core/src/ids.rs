//! Ids as the application knows them. Whoever translates says so by the service `ids`; without it they are the kernel's.
//!
//! The core itself works with real ids: it signals, traces and looks into /proc. What it writes into images and tells the
//! coordinator about the process are virtual ones.

use crate::host::services;
use dmtcp_plugin_api::ids::{SERVICE, Translator};

fn translator() -> Option<&'static Translator> {
    // SAFETY: the service of this name is documented to be a `Translator`, and services are statics.
    unsafe { services::find(SERVICE.as_ptr()).cast::<Translator>().as_ref() }
}

/// The id that the application has for a real one; 0: none.
pub fn to_virtual(real: i32) -> i32 {
    translator().map_or(real, |t| (t.to_virtual)(real))
}

/// The real id that an id of the application is now; 0: nobody's.
pub fn to_real(id: i32) -> i32 {
    translator().map_or(id, |t| (t.to_real)(id))
}

/// Whether a thread waits again by itself when its wait for a child, by an id of before the restart, fails.
pub fn waits_again(thread: i32, child: i32) -> bool {
    const APPENDED: usize = std::mem::offset_of!(Translator, waits_again) + size_of::<usize>();
    translator().filter(|t| t.size >= APPENDED).is_some_and(|t| (t.waits_again)(thread, child) != 0)
}

/// The application's function that a plugin's handler stands in for; of any other handler, itself.
pub fn handler_behind(number: i32, handler: u64) -> u64 {
    const APPENDED: usize = std::mem::offset_of!(Translator, handler_behind) + size_of::<usize>();
    translator().filter(|t| t.size >= APPENDED).map_or(handler, |t| (t.handler_behind)(number, handler))
}
