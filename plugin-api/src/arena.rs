//! The allocator of in-process code: dlmalloc over raw mmap, never the application's malloc.
//!
//! There are two arenas, each behind its own spin lock: one for the checkpoint thread, one for everybody else. While the
//! application is stopped a thread of it may hold the common arena's lock for ever; the checkpoint thread, which then
//! does all the work, never waits for it. A block remembers its arena in the word before it, so that either side can
//! free what the other allocated; if the common lock is not to be had while stopped, the block is leaked.
//!
//! While an image is written the checkpoint thread can have a third one, the *scratch* ([`with_scratch`]): memory that is
//! in no image, so that what allocates meanwhile (a compressor) changes nothing of what is written.
//!
//! Which arena a caller gets is decided by its stack pointer, not by thread-local storage: the checkpoint thread's stack
//! is known ([`set_checkpoint_stack`]).

use crate::sys;
use dlmalloc::Dlmalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Pages straight from the kernel.
struct Pages {
    /// Whether they are all there from the beginning. The plan of an image names the pages that have content; those of the
    /// arena that the plan itself is allocated from must not get theirs after it was looked.
    populated: bool,
}

// SAFETY: mmap returns fresh, page-aligned memory that nobody else has. Nothing is ever given back: while an image is
// written, memory that was in the plan must stay.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let populate = if self.populated { libc::MAP_POPULATE } else { 0 };
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | populate);
        match sys::map(0, size, prot, flags, -1, 0) {
            Ok(address) => (address as *mut u8, size, 0),
            Err(_) => (std::ptr::null_mut(), 0, 0),
        }
    }
    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        std::ptr::null_mut()
    }
    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }
    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }
    fn can_release_part(&self, _: u32) -> bool {
        false
    }
    fn allocates_zeros(&self) -> bool {
        true
    }
    fn page_size(&self) -> usize {
        4096
    }
}

struct Arena {
    locked: AtomicBool,
    populated: bool,
    heap: UnsafeCell<Dlmalloc<Pages>>,
}

impl Arena {
    const fn new(populated: bool) -> Self {
        let heap = UnsafeCell::new(Dlmalloc::new_with_allocator(Pages { populated }));
        Self { locked: AtomicBool::new(false), populated, heap }
    }

    fn try_lock(&self) -> bool {
        !self.locked.swap(true, Ordering::Acquire)
    }

    fn with<R>(&self, f: impl FnOnce(&mut Dlmalloc<Pages>) -> R) -> R {
        while !self.try_lock() {
            std::hint::spin_loop();
            sys::yield_cpu();
        }
        // SAFETY: the lock is ours.
        let result = f(unsafe { &mut *self.heap.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

/// The global allocator that `plugin!` installs in each plugin, and the core in itself.
pub struct Arenas {
    common: Arena,
    checkpoint: Arena,
    /// What blocks of the checkpoint arena are marked with: another value in each fork's child.
    mark: AtomicUsize,
}

// SAFETY: the heaps are only touched under their locks.
unsafe impl Sync for Arenas {}

static STACK_LOW: AtomicUsize = AtomicUsize::new(0);
static STACK_HIGH: AtomicUsize = AtomicUsize::new(0);

/// Tells where the checkpoint thread's stack is. The core calls this in its own copy and, through the INIT event's
/// payload, in each plugin's.
pub fn set_checkpoint_stack(low: usize, high: usize) {
    STACK_LOW.store(low, Ordering::Relaxed);
    STACK_HIGH.store(high, Ordering::Relaxed);
}

/// The allocator of the plugin that this copy of the crate belongs to.
static REGISTERED: AtomicPtr<Arenas> = AtomicPtr::new(std::ptr::null_mut());

/// Makes a plugin's allocator known to [`after_fork`].
pub fn register(arenas: &'static Arenas) {
    REGISTERED.store(std::ptr::from_ref(arenas).cast_mut(), Ordering::Release);
}

/// Brings the registered allocator in order in a fork's child.
pub fn after_fork() {
    // SAFETY: only statics are registered.
    if let Some(arenas) = unsafe { REGISTERED.load(Ordering::Acquire).as_ref() } {
        arenas.after_fork();
    }
}

/// Where the checkpoint thread's stack is.
pub fn checkpoint_stack() -> (usize, usize) {
    (STACK_LOW.load(Ordering::Relaxed), STACK_HIGH.load(Ordering::Relaxed))
}

/// Whether the caller runs on the checkpoint thread's stack, which means: with its descriptor table.
pub fn on_checkpoint_stack() -> bool {
    let here = 0u8;
    let address = std::ptr::from_ref(&here) as usize;
    address >= STACK_LOW.load(Ordering::Relaxed) && address < STACK_HIGH.load(Ordering::Relaxed)
}

/// Address of the [`Scratch`] in use, 0: none.
static SCRATCH: AtomicUsize = AtomicUsize::new(0);

/// At the start of the scratch memory; blocks follow. What was allocated last can be freed, all else is forgotten at the
/// end.
struct Scratch {
    next: usize,
    end: usize,
}

impl Scratch {
    fn alloc(&mut self, size: usize, prefix: usize) -> *mut u8 {
        let start = self.next.next_multiple_of(prefix);
        match start.checked_add(prefix + size) {
            Some(next) if next <= self.end => {
                self.next = next;
                start as *mut u8
            }
            _ => std::ptr::null_mut(),
        }
    }

    fn free(&mut self, block: *mut u8, size: usize, prefix: usize) {
        if block as usize + prefix + size == self.next {
            self.next = block as usize;
        }
    }
}

/// Runs `f` with the calling thread, which must be the checkpoint thread, allocating from this memory only.
///
/// `f` may not come back where it was captured in an image: then [`forget_scratch`] ends the scratch.
///
/// # Safety
/// The memory must be mapped, writable, page aligned and of nobody else; nothing that `f` allocates may be used or freed
/// after it.
pub unsafe fn with_scratch<R>(start: u64, end: u64, f: impl FnOnce() -> R) -> R {
    let scratch = start as *mut Scratch;
    // SAFETY: the caller gives the memory, page aligned, and at least a page of it.
    unsafe { scratch.write(Scratch { next: start as usize + size_of::<Scratch>(), end: end as usize }) };
    SCRATCH.store(start as usize, Ordering::Relaxed);
    let result = f();
    SCRATCH.store(0, Ordering::Relaxed);
    result
}

/// In memory that came from an image, or in a process that does not go on: there is no scratch.
pub fn forget_scratch() {
    SCRATCH.store(0, Ordering::Relaxed);
}

/// The scratch of the calling thread.
fn scratch() -> Option<*mut Scratch> {
    let address = SCRATCH.load(Ordering::Relaxed);
    (address != 0 && on_checkpoint_stack()).then_some(address as *mut Scratch)
}

const COMMON: usize = 0x4341_4152;
/// The first mark of blocks of the checkpoint arena; later ones differ in the upper half.
const CHECKPOINT: usize = 0x4341_4b43;
const NEXT_MARK: usize = 1 << 32;
const OF_SCRATCH: usize = 0x4341_5343;

impl Arenas {
    /// An allocator without memory.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self { common: Arena::new(false), checkpoint: Arena::new(true), mark: AtomicUsize::new(CHECKPOINT) }
    }

    /// In a fork's child: whatever another thread was doing to the arenas, nobody is doing it any more.
    ///
    /// The parent's checkpoint thread goes on while a fork copies page after page: the copies of its arena and of its lock
    /// are of different moments, and tell nothing. So the child's begins anew, and blocks of before are never freed. The
    /// common arena is abandoned if it was locked.
    pub fn after_fork(&self) {
        self.mark.fetch_add(NEXT_MARK, Ordering::Relaxed);
        let locked = !self.common.try_lock();
        for arena in [Some(&self.checkpoint), locked.then_some(&self.common)].into_iter().flatten() {
            // SAFETY: the child has one thread, this one, and it is not inside the arena.
            unsafe { arena.heap.get().write(Dlmalloc::new_with_allocator(Pages { populated: arena.populated })) };
        }
        self.checkpoint.locked.store(false, Ordering::Release);
        self.common.locked.store(false, Ordering::Release);
    }
}

/// Bytes before a block: room for the arena's mark, keeping the alignment.
fn prefix(layout: Layout) -> usize {
    layout.align().max(16)
}

// SAFETY: blocks come from dlmalloc with the size and alignment asked for, shifted by a prefix that keeps both.
unsafe impl GlobalAlloc for Arenas {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let prefix = prefix(layout);
        let (block, mark) = if let Some(scratch) = scratch() {
            // SAFETY: `with_scratch` has put it there, and only the checkpoint thread, which is the caller, uses it.
            (unsafe { &mut *scratch }.alloc(layout.size(), prefix), OF_SCRATCH)
        } else {
            let (arena, mark) = match on_checkpoint_stack() {
                true => (&self.checkpoint, self.mark.load(Ordering::Relaxed)),
                false => (&self.common, COMMON),
            };
            // SAFETY: size and alignment are valid as those of `layout` are.
            (arena.with(|heap| unsafe { heap.malloc(layout.size() + prefix, prefix) }), mark)
        };
        if block.is_null() {
            return block;
        }
        // SAFETY: the block is at least `prefix` long, and `prefix` at least a word, aligned.
        unsafe {
            let user = block.add(prefix);
            user.cast::<usize>().sub(1).write(mark);
            user
        }
    }

    unsafe fn dealloc(&self, user: *mut u8, layout: Layout) {
        let prefix = prefix(layout);
        // SAFETY: `user` came from `alloc`, which put the mark there.
        let mark = unsafe { user.cast::<usize>().sub(1).read() };
        let free = |heap: &mut Dlmalloc<Pages>| {
            // SAFETY: the block came from this heap with this size and alignment.
            unsafe { heap.free(user.sub(prefix), layout.size() + prefix, prefix) }
        };
        if mark == OF_SCRATCH {
            if let Some(scratch) = scratch() {
                // SAFETY: as in `alloc`; the block starts `prefix` before what the user has.
                unsafe { (*scratch).free(user.sub(prefix), layout.size(), prefix) };
            }
        } else if mark != COMMON {
            // Else it is one of before a fork.
            if mark == self.mark.load(Ordering::Relaxed) {
                self.checkpoint.with(free);
            }
        } else if !on_checkpoint_stack() {
            self.common.with(free);
        } else if self.common.try_lock() {
            // SAFETY: the lock is ours.
            free(unsafe { &mut *self.common.heap.get() });
            self.common.locked.store(false, Ordering::Release);
        }
    }
}
