//! A plugin in Rust that gives files of the program another place: /shown/... is $TRANSLATED/..., both ways.
//! `c/path_translator.c` is the same in C.
//!
//! ```text
//!   cargo build --release
//!   TRANSLATED=/srv/data dmtcp_launch --pathvirt --with-plugin target/release/libexample_path_translator.so PROGRAM
//! ```
//! Hooks of these events run on the thread of the program that uses the path. They come only with --pathvirt.

use dmtcp_plugin_api::{hook, plugin, proc_files};
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

plugin! {
    name: "path-translator",
    priority: 0,
    requires: [],
    wrappers: [],
    init: |_| {
        // The environment that the program was started with: libc's `getenv` is not for plugins.
        let environment = proc_files::read_file("/proc/thread-self/environ").unwrap_or_default();
        let variable = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"TRANSLATED="));
        // INIT runs once.
        let _ = REAL.set(variable.unwrap_or(SHOWN).to_vec());
        true
    },
}

const SHOWN: &[u8] = b"/shown";
static REAL: OnceLock<Vec<u8>> = OnceLock::new();

hook!(VirtualToRealPath, |_, named| replace(named.path, SHOWN, REAL.get().map_or(SHOWN, Vec::as_slice)));
hook!(RealToVirtualPath, |_, named| replace(named.path, REAL.get().map_or(SHOWN, Vec::as_slice), SHOWN));

/// Another beginning for a path that has the first one, if it fits.
fn replace(path: *mut c_char, from: &[u8], to: &[u8]) {
    // SAFETY: these events come with a zero-terminated path.
    let old = unsafe { CStr::from_ptr(path) }.to_bytes();
    let Some(rest) = old.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with(b"/")) else { return };
    let new = [to, rest, b"\0"].concat();
    if new.len() <= libc::PATH_MAX as usize {
        // SAFETY: there is room for PATH_MAX bytes, and `new` is a copy.
        unsafe { std::ptr::copy_nonoverlapping(new.as_ptr().cast(), path, new.len()) };
    }
}
