//! The allocator of in-process code: dlmalloc over raw mmap, never the application's malloc.
//!
//! The checkpoint thread has an arena of its own, which nobody else ever touches: while the application is stopped it does
//! all the work, and waits for nobody. All other threads share some *common* arenas, each behind a lock. A thread may be
//! stopped with such a lock in its hands, be interrupted by a signal whose handler allocates as well, or be taken out by
//! a handler that jumps. So nobody waits long: who finds one locked takes the next, and at last pages of his own.
//!
//! A block remembers in the word before it where it came from. Who frees a block of an arena that is not to be had leaks it;
//! a block of the checkpoint thread's goes into a list that that thread looks at when it next allocates.
//!
//! ```text
//!   common arena:  FREE --lock--> LOCKED --unlock--> FREE
//!                                 LOCKED --waited for too long, or a fork's child--> LEFT: nobody waits for it
//!                                                                                    (its owner's unlock still frees it)
//! ```
//!
//! While an image is written the checkpoint thread can have a third one, the *scratch* ([`with_scratch`]): memory that is
//! in no image, so that what allocates meanwhile (a compressor) changes nothing of what is written.
//!
//! Which arena a caller gets is decided by its stack pointer, not by thread-local storage: the checkpoint thread's stack
//! is known ([`set_checkpoint_stack`]).

use crate::{headroom, sys};
use dlmalloc::Dlmalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Pages straight from the kernel.
struct Pages {
    /// Whether they must be there before they are used. The plan of an image names the pages that have content; those of
    /// the arena that the plan itself is allocated from must not get theirs after it was looked. All of a region are there
    /// from the beginning, but for the first one: many a process, and each fork's child has one of its own, ends before
    /// there is a checkpoint. See [`Arenas::settle`].
    populated: bool,
    /// Start and length of the first region that was to be populated; 0: there is none, or it is.
    unsettled: [AtomicUsize; 2],
}

impl Pages {
    const fn new(populated: bool) -> Self {
        Self { populated, unsettled: [const { AtomicUsize::new(0) }; 2] }
    }
}

// SAFETY: mmap returns fresh, page-aligned memory that nobody else has. Nothing is ever given back: while an image is
// written, memory that was in the plan must stay.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let [first, length] = &self.unsettled;
        let is_first = self.populated && first.load(Ordering::Relaxed) == 0 && length.load(Ordering::Relaxed) == 0;
        let populate = if self.populated && !is_first { libc::MAP_POPULATE } else { 0 };
        match headroom::map(size, populate) {
            Ok(address) => {
                if is_first {
                    first.store(address as usize, Ordering::Relaxed);
                    length.store(size, Ordering::Relaxed);
                }
                (address as *mut u8, size, 0)
            }
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

type Heap = Dlmalloc<Pages>;

const fn heap(populated: bool) -> UnsafeCell<Heap> {
    UnsafeCell::new(Dlmalloc::new_with_allocator(Pages::new(populated)))
}

const FREE: u32 = 0;
const LOCKED: u32 = 1;
/// As [`LOCKED`], by somebody who may never come back.
const LEFT: u32 = 2;

/// A common arena.
struct Arena {
    state: AtomicU32,
    heap: UnsafeCell<Heap>,
}

impl Arena {
    const fn new() -> Self {
        Self { state: AtomicU32::new(FREE), heap: heap(false) }
    }

    /// Works on the heap, if nobody else does.
    fn try_with<R>(&self, f: impl FnOnce(&mut Heap) -> R) -> Option<R> {
        self.state.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: the lock is ours.
        let result = f(unsafe { &mut *self.heap.get() });
        self.state.store(FREE, Ordering::Release);
        Some(result)
    }

    fn is_worth_waiting_for(&self) -> bool {
        self.state.load(Ordering::Relaxed) != LEFT
    }

    fn leave(&self) {
        let _ = self.state.compare_exchange(LOCKED, LEFT, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A block of the checkpoint thread's arena that another thread has freed, as it lies there.
struct Returned {
    next: *mut Returned,
    size: usize,
}

/// How many common arenas there are.
const COMMONS: usize = 4;
/// How often a thread lets others run until it thinks that an arena is left.
const PATIENCE: u32 = 200;

/// The global allocator that `plugin!` installs in each plugin, and the core in itself.
pub struct Arenas {
    common: [Arena; COMMONS],
    checkpoint: UnsafeCell<Heap>,
    /// What others have freed of it.
    returned: AtomicPtr<Returned>,
    /// What blocks of the checkpoint arena are marked with: another value in each fork's child.
    mark: AtomicUsize,
}

// SAFETY: the common heaps are only touched under their locks, the other one by the checkpoint thread alone.
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

/// The mark of blocks of the first common arena; of the others, this and their number in the upper half.
const COMMON: usize = 0x4341_4152;
/// The first mark of blocks of the checkpoint arena; later ones differ in the upper half.
const CHECKPOINT: usize = 0x4341_4b43;
/// One more in the upper half.
const NEXT_MARK: usize = 1 << 32;
const OF_SCRATCH: usize = 0x4341_5343;
/// Of blocks that are pages of their own.
const OF_PAGES: usize = 0x4341_5047;

impl Arenas {
    /// An allocator without memory.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            common: [const { Arena::new() }; COMMONS],
            checkpoint: heap(true),
            returned: AtomicPtr::new(std::ptr::null_mut()),
            mark: AtomicUsize::new(CHECKPOINT),
        }
    }

    /// In a fork's child: whatever another thread was doing to the arenas, nobody is doing it any more.
    ///
    /// The parent's checkpoint thread goes on while a fork copies page after page: the copies of its arena are of different
    /// moments, and tell nothing. So the child's begins anew, and blocks of before are never freed. A common arena that
    /// was locked is left.
    pub fn after_fork(&self) {
        self.mark.fetch_add(NEXT_MARK, Ordering::Relaxed);
        // SAFETY: the child has one thread, this one, and it is not inside the arena.
        unsafe { self.checkpoint.get().write(Dlmalloc::new_with_allocator(Pages::new(true))) };
        self.returned.store(std::ptr::null_mut(), Ordering::Relaxed);
        self.common.iter().for_each(Arena::leave);
    }

    /// Populates what the checkpoint thread's arena has. To be called by that thread, before an image is planned.
    pub fn settle(&self) {
        // SAFETY: nobody but the checkpoint thread touches this heap.
        let [first, length] = unsafe { &(*self.checkpoint.get()).allocator().unsettled };
        let start = first.swap(0, Ordering::Relaxed);
        for page in (start..start + if start == 0 { 0 } else { length.load(Ordering::Relaxed) }).step_by(PAGE) {
            let word = page as *mut u8;
            // SAFETY: the region is mapped and writable, and never given back; the byte stays as it is.
            unsafe { word.write_volatile(word.read_volatile()) };
        }
    }

    /// A block for a thread of the application, and its mark.
    fn common_block(&self, size: usize, prefix: usize) -> (*mut u8, usize) {
        for _ in 0..PATIENCE {
            for (index, arena) in self.common.iter().enumerate() {
                // SAFETY: size and alignment are valid as those of the caller's layout are.
                if let Some(block) = arena.try_with(|heap| unsafe { heap.malloc(size, prefix) }) {
                    return (block, COMMON + index * NEXT_MARK);
                }
            }
            if !self.common.iter().any(Arena::is_worth_waiting_for) {
                break;
            }
            sys::yield_cpu();
        }
        self.common.iter().for_each(Arena::leave);
        let pages = if prefix > PAGE { Err(libc::EINVAL) } else { sys::map_anonymous(size.next_multiple_of(PAGE)) };
        (pages.map_or(std::ptr::null_mut(), |start| start as *mut u8), OF_PAGES)
    }

    /// Frees a block of a common arena; leaks it if that is not to be had.
    fn free_common(&self, arena: &Arena, block: *mut u8, size: usize, prefix: usize) {
        let patience = if on_checkpoint_stack() { 1 } else { PATIENCE };
        for _ in 0..patience {
            // SAFETY: the block came from this heap with this size and alignment.
            let freed = arena.try_with(|heap| unsafe { heap.free(block, size, prefix) });
            if freed.is_some() || !arena.is_worth_waiting_for() {
                return;
            }
            sys::yield_cpu();
        }
        if patience == PATIENCE {
            arena.leave();
        }
    }

    /// A block for the checkpoint thread, which is the caller.
    fn checkpoint_block(&self, size: usize, prefix: usize) -> *mut u8 {
        // SAFETY: nobody but the checkpoint thread touches this heap.
        let heap = unsafe { &mut *self.checkpoint.get() };
        let mut at = if self.returned.load(Ordering::Relaxed).is_null() {
            std::ptr::null_mut()
        } else {
            self.returned.swap(std::ptr::null_mut(), Ordering::Acquire)
        };
        // SAFETY: what is in the list are blocks of this heap, written by `give_back`; nobody else has the list any more.
        unsafe {
            while !at.is_null() {
                let Returned { next, size } = at.read();
                heap.free(at.cast(), size, WORDS);
                at = next;
            }
            heap.malloc(size, prefix)
        }
    }

    /// On another thread: puts a block of the checkpoint thread's into the list of those that it is to free.
    fn give_back(&self, block: *mut u8, size: usize) {
        let entry = block.cast::<Returned>();
        let mut next = self.returned.load(Ordering::Relaxed);
        loop {
            // SAFETY: the block is nobody's but ours, at least two words long, and aligned to 16 bytes.
            unsafe { entry.write(Returned { next, size }) };
            match self.returned.compare_exchange_weak(next, entry, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => next = now,
            }
        }
    }
}

const PAGE: usize = 4096;
/// What blocks are aligned to at least.
const WORDS: usize = size_of::<Returned>();

/// Bytes before a block: room for the arena's mark, keeping the alignment.
fn prefix(layout: Layout) -> usize {
    layout.align().max(WORDS)
}

// SAFETY: blocks come from dlmalloc, or are pages, with the size and alignment asked for, shifted by a prefix that keeps both.
unsafe impl GlobalAlloc for Arenas {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let prefix = prefix(layout);
        let size = layout.size() + prefix;
        let (block, mark) = if let Some(scratch) = scratch() {
            // SAFETY: `with_scratch` has put it there, and only the checkpoint thread, which is the caller, uses it.
            (unsafe { &mut *scratch }.alloc(layout.size(), prefix), OF_SCRATCH)
        } else if on_checkpoint_stack() {
            (self.checkpoint_block(size, prefix), self.mark.load(Ordering::Relaxed))
        } else {
            self.common_block(size, prefix)
        };
        if block.is_null() {
            return block;
        }
        // SAFETY: the block is at least `prefix` long, and `prefix` at least two words, aligned.
        unsafe {
            let user = block.add(prefix);
            user.cast::<usize>().sub(1).write(mark);
            user
        }
    }

    unsafe fn dealloc(&self, user: *mut u8, layout: Layout) {
        let prefix = prefix(layout);
        let size = layout.size() + prefix;
        // SAFETY: `user` came from `alloc`, which put the mark there, behind the block's beginning.
        let (block, mark) = unsafe { (user.sub(prefix), user.cast::<usize>().sub(1).read()) };
        match mark {
            OF_SCRATCH => {
                if let Some(scratch) = scratch() {
                    // SAFETY: as in `alloc`.
                    unsafe { (*scratch).free(block, layout.size(), prefix) };
                }
            }
            // While an image is written, memory that was in the plan must stay.
            OF_PAGES if on_checkpoint_stack() => {}
            OF_PAGES => {
                let _ = sys::unmap(block as u64, size.next_multiple_of(PAGE) as u64);
            }
            _ => match self.common.get(mark >> 32).filter(|_| mark as u32 == COMMON as u32) {
                Some(arena) => self.free_common(arena, block, size, prefix),
                // Else it is one of before a fork.
                None if mark == self.mark.load(Ordering::Relaxed) => match on_checkpoint_stack() {
                    // SAFETY: nobody but the checkpoint thread touches this heap, from which the block came.
                    true => unsafe { (*self.checkpoint.get()).free(block, size, prefix) },
                    false => self.give_back(block, size),
                },
                None => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(user: *mut u8) -> usize {
        // SAFETY: the word before a block is its mark.
        unsafe { user.cast::<usize>().sub(1).read() }
    }

    #[test]
    fn nobody_waits_for_who_never_comes_back() {
        let arenas = Arenas::new();
        let layout = Layout::from_size_align(100, 64).unwrap();
        for index in 0..COMMONS {
            // SAFETY: the layout is not empty, and the blocks are of these arenas.
            unsafe {
                let user = arenas.alloc(layout);
                assert_eq!(mark(user), COMMON + index * NEXT_MARK);
                arenas.dealloc(user, layout);
                let kept = arenas.alloc(layout);
                arenas.common[index].state.store(LOCKED, Ordering::Relaxed);
                // It is leaked.
                arenas.dealloc(kept, layout);
                assert_eq!(arenas.common[index].state.load(Ordering::Relaxed), LEFT);
            }
        }
        // SAFETY: as above.
        unsafe {
            let user = arenas.alloc(layout);
            assert_eq!((mark(user), user as usize % 64), (OF_PAGES, 0));
            user.write_bytes(7, 100);
            arenas.dealloc(user, layout);
            assert!(arenas.alloc(Layout::from_size_align(1, 1 << 20).unwrap()).is_null());
        }
        // Who had it has come back.
        arenas.common[2].state.store(FREE, Ordering::Relaxed);
        // SAFETY: as above.
        assert_eq!(mark(unsafe { arenas.alloc(layout) }), COMMON + 2 * NEXT_MARK);
    }

    #[test]
    fn what_others_free_of_the_checkpoint_thread_comes_back_to_it() {
        let arenas = Arenas::new();
        let first = arenas.checkpoint_block(100, WORDS);
        arenas.give_back(first, 100);
        arenas.give_back(arenas.checkpoint_block(200, WORDS), 200);
        let _ = arenas.checkpoint_block(3000, WORDS);
        assert!(arenas.returned.load(Ordering::Relaxed).is_null());
    }
}
