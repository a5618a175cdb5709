//! What plugins say about the generation under way: sections, blobs, claimed mappings, unsupported resources.
//!
//! There are two. The checkpoint thread's is of the generation under way, and nobody else gets at it. The other one is for
//! hooks that threads of the application run (INIT, EXIT, births): such a thread may be stopped inside of one, and must not keep
//! the checkpoint thread from noting what plugins say.

use dmtcp_image::PAGE;
use dmtcp_plugin_api::{arena, sys};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

/// A claim on a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Where the mapping starts.
    pub start: u64,
    /// Object that it maps.
    pub object: u64,
    /// Offset in the object.
    pub offset: u64,
}

/// Everything said so far.
#[derive(Default, Debug)]
pub struct Description {
    /// Plugin, name, bytes.
    pub sections: Vec<(String, String, Vec<u8>)>,
    /// Plugin, name, address, length.
    pub blobs: Vec<(String, String, u64, u64)>,
    /// Claimed mappings.
    pub claims: Vec<Claim>,
    /// Memory that is not to be in the image: whole pages.
    pub excluded: Vec<(u64, u64)>,
    /// One sentence each.
    pub unsupported: Vec<String>,
    /// Why what is under way cannot be, if a plugin said so.
    pub failure: Option<String>,
}

impl Description {
    /// Keeps the whole pages of a range out of the image.
    pub fn exclude(&mut self, start: u64, end: u64) {
        let (start, end) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        if start < end {
            self.excluded.push((start, end));
        }
    }
}

/// A description, and who has it open.
struct Place {
    /// The thread; 0: nobody.
    owner: AtomicI32,
    current: UnsafeCell<Description>,
}

// SAFETY: only the thread noted in `owner` gets at the description.
unsafe impl Sync for Place {}

impl Place {
    const fn new() -> Self {
        let current = Description {
            sections: Vec::new(),
            blobs: Vec::new(),
            claims: Vec::new(),
            excluded: Vec::new(),
            unsupported: Vec::new(),
            failure: None,
        };
        Self { owner: AtomicI32::new(0), current: UnsafeCell::new(current) }
    }
}

static CHECKPOINT: Place = Place::new();
static APPLICATION: Place = Place::new();
static OBJECTS: AtomicU64 = AtomicU64::new(1);

/// That of the calling thread.
fn place() -> &'static Place {
    if arena::on_checkpoint_stack() { &CHECKPOINT } else { &APPLICATION }
}

/// Opens a description; the calling thread becomes its owner. False: another thread of the application has one open.
pub fn begin() -> bool {
    let me = sys::tid();
    let owner = place().owner.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire);
    let is_owner = owner.is_ok() || owner == Err(me);
    with(|d| *d = Description::default());
    is_owner
}

/// In a fork's child: owners may be threads of the parent's.
pub fn after_fork() {
    for place in [&CHECKPOINT, &APPLICATION] {
        // SAFETY: the calling thread is the only one. What the old value held is lost: it may have been half written.
        unsafe { place.current.get().write(Description::default()) };
        place.owner.store(0, Ordering::Release);
    }
}

/// Closes it and hands it over.
pub fn finish() -> Description {
    let out = with(std::mem::take).unwrap_or_default();
    place().owner.store(0, Ordering::Release);
    out
}

/// Why what is under way cannot be, if a plugin said so.
pub fn take_failure() -> Option<String> {
    with(|d| d.failure.take()).flatten()
}

/// Works on the description; `None` for a thread that has none open.
pub fn with<R>(f: impl FnOnce(&mut Description) -> R) -> Option<R> {
    let place = place();
    if place.owner.load(Ordering::Acquire) != sys::tid() {
        return None;
    }
    // SAFETY: this thread is the owner, and `f` cannot reach here again through safe code of this module's users: none of
    // them calls back while it holds the reference.
    Some(f(unsafe { &mut *place.current.get() }))
}

/// A fresh object number: unique in the computation, since no two of its processes have one pid.
pub fn new_object() -> u64 {
    (sys::pid() as u64) << 32 | OBJECTS.fetch_add(1, Ordering::Relaxed)
}

static NEIGHBOURS: AtomicPtr<Vec<i32>> = AtomicPtr::new(std::ptr::null_mut());

/// Notes who takes part in the generation on this host.
pub fn set_neighbours(pids: Vec<i32>) {
    let old = NEIGHBOURS.swap(Box::into_raw(Box::new(pids)), Ordering::AcqRel);
    if !old.is_null() {
        // SAFETY: came from `Box::into_raw`; only the checkpoint thread, the caller, reads the list.
        drop(unsafe { Box::from_raw(old) });
    }
}

/// Real pids of the processes on this host that take part, ascending; this one's among them.
pub fn neighbours() -> &'static [i32] {
    // SAFETY: stays until the next generation sets another list.
    unsafe { NEIGHBOURS.load(Ordering::Acquire).as_ref() }.map_or(&[], |n| &n[..])
}
