//! Whether the limits that the application has set itself leave a checkpoint the memory that it needs.
//!
//! In-process code ends with the process when it gets no memory. So where there is a limit, what a checkpoint may need is
//! mapped once and given back before anything else is done: if that does not succeed, there is no checkpoint, and the
//! application does not notice. What the arenas have got for an earlier one they still have.

use dmtcp_plugin_api::{headroom, sys};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What every checkpoint may need.
const ALWAYS: usize = 1 << 20;
/// And for each mapping: its text in smaps, several times, and its entries in the lists that are made from that.
const PER_MAPPING: usize = 4 << 10;

/// Mappings are counted by so many: one more or less makes no difference.
const STEP: usize = 128;

/// The largest room that was there.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// Looks. The error is a sentence.
pub fn look() -> Result<(), String> {
    let limited = |resource| sys::limit(resource, None).is_ok_and(|limit| limit[0] != u64::MAX);
    if !limited(libc::RLIMIT_AS) && !limited(libc::RLIMIT_DATA) {
        return Ok(());
    }
    let needed = ALWAYS + PER_MAPPING * mappings().unwrap_or(0).next_multiple_of(STEP);
    if needed <= LARGEST.load(Ordering::Relaxed) {
        return Ok(());
    }
    let start = headroom::map(needed, 0).map_err(|e| {
        format!("a checkpoint needs up to {} KiB of memory, and the process may have no more (errno {e}): raise its limit of address space or data (ulimit -v, -d)", needed >> 10)
    })?;
    let _ = sys::unmap(start, needed as u64);
    LARGEST.store(needed, Ordering::Relaxed);
    Ok(())
}

/// How many mappings there are: lines, counted without allocating.
fn mappings() -> Result<usize, i32> {
    let file = sys::open(b"/proc/thread-self/maps", libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    let mut buffer = [0; 4096];
    let mut lines = 0;
    loop {
        match sys::read(file.number(), &mut buffer)? {
            0 => return Ok(lines),
            filled => lines += buffer[..filled].iter().filter(|b| **b == b'\n').count(),
        }
    }
}
