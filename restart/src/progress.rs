//! How much memory has been brought back, counted by all processes of the restart, shown by the one that waits for them.
//!
//! The count is in memory that forked processes share. It is a restarter's mapping like any other: the stub removes it.

use crate::report;
use dmtcp_launcher::progress::{self, CLEAR};
use nix::poll::PollTimeout;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The count.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Shared by all processes; none if nothing is to be shown.
    done: Option<&'static AtomicU64>,
    total: u64,
}

impl Progress {
    /// Counts up to this many bytes; shown only if that is wanted.
    pub fn new(total: u64, shown: bool) -> Self {
        Self { done: shown.then(shared).flatten(), total }
    }

    /// So many bytes more are in their place.
    pub fn add(&self, bytes: u64) {
        if let Some(done) = self.done {
            done.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// How long whoever shows it may wait for something else.
    pub fn pause(&self) -> PollTimeout {
        match self.done {
            Some(_) => PollTimeout::try_from(progress::PAUSE).unwrap_or(PollTimeout::NONE),
            None => PollTimeout::NONE,
        }
    }

    /// Shows how far it is, once there is something to show.
    pub fn show(&self, descriptor: RawFd) {
        let Some(done) = self.done.map(|done| done.load(Ordering::Relaxed)).filter(|done| *done > 0) else { return };
        report::write(descriptor, &progress::line("restoring memory", done, self.total));
    }

    /// For whoever brings memory back, and shows itself how far it is.
    pub fn shown_on(&self, descriptor: RawFd) -> Shown {
        Shown { progress: *self, descriptor, last: Cell::new(None) }
    }

    /// Removes what was shown.
    pub fn clear(&self, descriptor: RawFd) {
        if self.done.is_some() {
            report::write(descriptor, CLEAR);
        }
    }
}

/// Counts and shows at the same time.
#[derive(Debug)]
pub struct Shown {
    progress: Progress,
    descriptor: RawFd,
    last: Cell<Option<Instant>>,
}

impl Shown {
    /// So many bytes more are in their place.
    pub fn add(&self, bytes: usize) {
        self.progress.add(bytes as u64);
        if self.last.get().is_none_or(|last| last.elapsed() >= progress::PAUSE) {
            self.progress.show(self.descriptor);
            self.last.set(Some(Instant::now()));
        }
    }
}

/// A number that forked processes share; none if there is no memory for it.
fn shared() -> Option<&'static AtomicU64> {
    let length = NonZeroUsize::new(size_of::<AtomicU64>())?;
    // SAFETY: new memory, wherever the kernel likes.
    let at =
        unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) };
    // SAFETY: the mapping is zero, aligned to a page, and stays until the process gives up all its memory.
    at.ok().map(|at| unsafe { &*at.as_ptr().cast::<AtomicU64>() })
}
