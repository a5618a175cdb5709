//! A plugin in Rust that keeps memory out of images: what the program has declared as scratch memory comes back as zeros.
//! `c/scratch.c` is the same in C.

use dmtcp_plugin_api::{hook, plugin};
use std::sync::atomic::{AtomicU64, Ordering};

static START: AtomicU64 = AtomicU64::new(0);
static LENGTH: AtomicU64 = AtomicU64::new(0);

plugin! {
    name: "scratch",
    priority: 0,
    requires: [],
    wrappers: [],
    init: |_| true,
}

/// Called by the program, which declares it as a weak symbol.
#[unsafe(no_mangle)]
pub extern "C" fn scratch_memory(address: u64, size: u64) {
    START.store(address, Ordering::Release);
    LENGTH.store(size, Ordering::Release);
}

hook!(PreCheckpoint, |core| core.exclude(START.load(Ordering::Acquire), LENGTH.load(Ordering::Acquire)));
