//! Mutexes in which the kernel has a say: robust ones, and those that inherit or protect a priority.
//!
//! The word of a robust or an inheriting mutex is its holder's id. The kernel compares it with real ids, when a holder ends
//! and when somebody waits or lets go; libc writes and compares the id in the holder's control block, which is the virtual
//! one. And a protecting mutex changes its holder's priority by that id. So the word of such a mutex always holds a real id,
//! and libc's functions see a control block with the real id while they work on one:
//!
//! ```text
//!   wrapper: control block = real id -> libc: word = real id -> wrapper: control block = virtual id
//!   restart: words of all mutexes that were ever locked: real id of before -> real id of now
//! ```
//! All other mutexes only remember the holder's id to compare it: the virtual one, which stays. Which kind a mutex is stands
//! in itself, and is the first thing that the wrappers look at: what is asked of the others costs one comparison.
//!
//! What can go wrong: a thread that is stopped inside libc's function has the id of before in a register. So after a call
//! that a restart fell into, the mutex is looked at again. A mutex that went without `pthread_mutex_destroy` leaves its
//! address behind; memory that looks like a mutex which one of our threads holds is taken for one.

use crate::table::{self, Moved};
use crate::tcb;
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::sys;
use libc::{c_int, c_void, clockid_t, timespec};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// The beginning of `pthread_mutex_t`, the same in all of libc's versions for x86_64.
#[repr(C)]
pub struct Mutex {
    word: AtomicU32,
    count: u32,
    owner: AtomicI32,
    users: u32,
    kind: AtomicI32,
}

/// Bits of the kind.
const ROBUST: i32 = 16;
const INHERIT: i32 = 32;
const PROTECT: i32 = 64;
const SHARED: i32 = 128;
/// Whether the processor's transactions may take part, and may not.
const ELISION: i32 = 0x300;
const KINDS: i32 = 3;
/// The holder's id in the word; the other bits say that somebody waits, and that the holder has ended.
const HOLDER: u32 = 0x3fff_ffff;
/// What stands for the owner of a robust mutex whose holder has ended.
const INCONSISTENT: i32 = i32::MAX;

/// Whether the kernel has a say.
#[inline(always)]
fn concerns_kernel(mutex: *mut Mutex) -> bool {
    // SAFETY: the program passes a mutex, as the wrapped functions demand.
    let kind = unsafe { (*mutex).kind.load(Ordering::Relaxed) };
    kind & (ROBUST | INHERIT | PROTECT) != 0
}

/// An address in a list of those with the same hash; 0: it can be taken.
struct Place {
    address: AtomicUsize,
    next: *mut Place,
}

const LISTS: usize = 1024;
/// The mutexes that were ever locked and not destroyed. Places are never freed: whoever walks a list may be stopped there.
static SEEN: [AtomicPtr<Place>; LISTS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; LISTS];

fn list_of(address: usize) -> &'static AtomicPtr<Place> {
    &SEEN[(address >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54]
}

fn places(list: &AtomicPtr<Place>) -> impl Iterator<Item = &'static Place> {
    // SAFETY: places are never freed, and a list only grows at its head.
    std::iter::successors(unsafe { list.load(Ordering::Acquire).as_ref() }, |place| unsafe { place.next.as_ref() })
}

fn remember(mutex: *mut Mutex) {
    let (address, list) = (mutex as usize, list_of(mutex as usize));
    let mut free = None;
    for place in places(list) {
        match place.address.load(Ordering::Acquire) {
            0 => free = Some(place),
            known if known == address => return,
            _ => {}
        }
    }
    let take = |place: &Place| place.address.compare_exchange(0, address, Ordering::AcqRel, Ordering::Acquire).is_ok();
    if free.is_some_and(take) {
        return;
    }
    let place = Box::leak(Box::new(Place { address: AtomicUsize::new(address), next: std::ptr::null_mut() }));
    let pointer = std::ptr::from_mut(place);
    let mut head = list.load(Ordering::Acquire);
    loop {
        // SAFETY: nobody else knows the place yet.
        unsafe { (*pointer).next = head };
        match list.compare_exchange(head, pointer, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// A thread that is inside one of libc's functions with its real id in its control block. 0: nobody.
struct Inside {
    word: AtomicUsize,
    id: AtomicI32,
}

const PLACES: usize = 128;
/// Those that the restart must look after; more at a time than there is room for go without.
static INSIDE: [Inside; PLACES] = [const { Inside { word: AtomicUsize::new(0), id: AtomicI32::new(0) } }; PLACES];

/// The calling thread with its real id in its control block.
struct Swapped {
    word: &'static AtomicI32,
    id: i32,
    inside: Option<&'static Inside>,
}

impl Swapped {
    /// Puts the real id there; `None`: it is there anyway, and no restart will change that (`lasting`: may take long).
    fn begin(lasting: bool) -> Option<Self> {
        let table = table::current();
        if table.is_none() && !lasting {
            return None;
        }
        // SAFETY: the calling thread lives.
        let word = unsafe { tcb::word(tcb::own()) }?;
        let address = std::ptr::from_ref(word) as usize;
        // A thread that was cancelled inside, or jumped out, has never put its id back.
        let left = INSIDE.iter().find(|inside| inside.word.load(Ordering::Acquire) == address);
        let id = left.map_or_else(|| word.load(Ordering::Acquire), |inside| inside.id.load(Ordering::Acquire));
        let real = table.and_then(|table| table.real(id)).unwrap_or(id);
        if real == id && !lasting {
            return None;
        }
        let inside = left.or_else(|| take_place(address, id));
        word.store(real, Ordering::Release);
        Some(Self { word, id, inside })
    }

    fn end(self) {
        self.word.store(self.id, Ordering::Release);
        if let Some(inside) = self.inside {
            inside.id.store(0, Ordering::Release);
            inside.word.store(0, Ordering::Release);
        }
    }
}

fn take_place(address: usize, id: i32) -> Option<&'static Inside> {
    let take = |inside: &&Inside| inside.word.compare_exchange(0, address, Ordering::AcqRel, Ordering::Acquire).is_ok();
    let inside = INSIDE.iter().find(take)?;
    inside.id.store(id, Ordering::Release);
    Some(inside)
}

/// What a call leaves behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// The mutex locked, if it succeeds.
    Locked,
    /// The mutex as it was, locked; the call may wait for long.
    StillLocked,
    /// Neither.
    Other,
}

/// Calls a function of libc that works on a mutex in which the kernel has a say.
#[inline(never)]
fn exactly(mutex: *mut Mutex, leaves: Leaves, call: impl Fn() -> c_int) -> c_int {
    remember(mutex);
    let restarts = table::restarts();
    let swapped = Swapped::begin(leaves == Leaves::StillLocked);
    let mut result = call();
    if table::restarts() != restarts {
        result = again(mutex, leaves, result, &call);
    }
    if let Some(swapped) = swapped {
        swapped.end();
    }
    result
}

/// After a call that a restart fell into.
#[cold]
fn again(mutex: *mut Mutex, leaves: Leaves, result: c_int, call: &dyn Fn() -> c_int) -> c_int {
    let done = match leaves {
        Leaves::Other => result != libc::EPERM,
        Leaves::Locked => matches!(result, 0 | libc::EOWNERDEAD),
        Leaves::StillLocked => matches!(result, 0 | libc::EOWNERDEAD | libc::ETIMEDOUT),
    };
    match leaves {
        // The holder was compared with an id of before: now it has another one in all places.
        Leaves::Other if !done => {
            let swapped = Swapped::begin(false);
            let result = call();
            if let Some(swapped) = swapped {
                swapped.end();
            }
            result
        }
        Leaves::Locked | Leaves::StillLocked if done => {
            // SAFETY: as in `concerns_kernel`.
            settle(unsafe { &*mutex }, |_| Some(sys::tid()));
            result
        }
        _ => result,
    }
}

/// Puts other ids into a mutex: the one that `now` gives for the one that stands there.
fn settle(mutex: &Mutex, now: impl Fn(i32) -> Option<i32>) {
    let kind = mutex.kind.load(Ordering::Relaxed);
    if kind & (ROBUST | INHERIT) != 0 {
        let change = |word: u32| {
            let holder = (word & HOLDER) as i32;
            let real = now(holder).filter(|_| holder != 0)?;
            Some(word & !HOLDER | real as u32)
        };
        let _ = mutex.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }
    let owner = mutex.owner.load(Ordering::Acquire);
    if owner != 0
        && owner != INCONSISTENT
        && let Some(real) = now(owner)
    {
        mutex.owner.store(real, Ordering::Release);
    }
}

/// Whether what is at an address looks like a mutex in which the kernel has a say.
fn looks_like_one(address: usize) -> bool {
    let mut bytes = [0u8; size_of::<Mutex>()];
    let readable = sys::copy_from(address as u64, &mut bytes) == Ok(bytes.len());
    let kind = i32::from_ne_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
    let known = KINDS | ROBUST | INHERIT | PROTECT | SHARED | ELISION;
    readable && kind & !known == 0 && kind & (ROBUST | INHERIT | PROTECT) != 0
}

/// The hook for RESTART: puts the real ids of now where those of before are.
pub fn move_ids(core: Core) {
    let moved = Moved::of(core);
    for Inside { word, id } in &INSIDE {
        let (address, id) = (word.load(Ordering::Acquire), id.load(Ordering::Acquire));
        let Some([former, real]) = moved.task(id).filter(|_| address != 0) else { continue };
        let mut bytes = [0; 4];
        // One that was left behind by a thread which has ended is no control block any more.
        if sys::copy_from(address as u64, &mut bytes) == Ok(4) && i32::from_ne_bytes(bytes) == former {
            // SAFETY: that thread's control block is there; its word is changed as a whole.
            unsafe { &*(address as *const AtomicI32) }.store(real, Ordering::Release);
        }
    }
    if moved.is_nobody() {
        return;
    }
    for place in SEEN.iter().flat_map(places) {
        let address = place.address.load(Ordering::Acquire);
        if address != 0 && looks_like_one(address) {
            // SAFETY: it is readable memory, and what `settle` writes only replaces the id of a holder.
            settle(unsafe { &*(address as *const Mutex) }, |id| moved.real(id));
        }
    }
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The kernel sees the real id.
    fn pthread_mutex_lock(mutex: *mut Mutex) -> c_int {
        if !concerns_kernel(mutex) { return next(mutex); }
        exactly(mutex, Leaves::Locked, || next(mutex))
    }
    /// As pthread_mutex_lock.
    fn pthread_mutex_trylock(mutex: *mut Mutex) -> c_int {
        if !concerns_kernel(mutex) { return next(mutex); }
        exactly(mutex, Leaves::Locked, || next(mutex))
    }
    /// As pthread_mutex_lock.
    fn pthread_mutex_timedlock(mutex: *mut Mutex, limit: *const timespec) -> c_int {
        if !concerns_kernel(mutex) { return next(mutex, limit); }
        exactly(mutex, Leaves::Locked, || next(mutex, limit))
    }
    /// As pthread_mutex_lock.
    fn pthread_mutex_clocklock(mutex: *mut Mutex, clock: clockid_t, limit: *const timespec) -> c_int {
        if !concerns_kernel(mutex) { return next(mutex, clock, limit); }
        exactly(mutex, Leaves::Locked, || next(mutex, clock, limit))
    }
    /// The kernel and libc see the holder.
    fn pthread_mutex_unlock(mutex: *mut Mutex) -> c_int {
        if !concerns_kernel(mutex) { return next(mutex); }
        exactly(mutex, Leaves::Other, || next(mutex))
    }
    /// libc notes the holder.
    fn pthread_mutex_consistent(mutex: *mut Mutex) -> c_int {
        if !concerns_kernel(mutex) { return next(mutex); }
        exactly(mutex, Leaves::Other, || next(mutex))
    }
    /// It locks the mutex, which changes the caller's priority.
    fn pthread_mutex_setprioceiling(mutex: *mut Mutex, ceiling: c_int, old: *mut c_int) -> c_int {
        if !concerns_kernel(mutex) { return next(mutex, ceiling, old); }
        exactly(mutex, Leaves::Other, || next(mutex, ceiling, old))
    }
    /// There is nothing to look after any more.
    fn pthread_mutex_destroy(mutex: *mut Mutex) -> c_int {
        if concerns_kernel(mutex) {
            let address = mutex as usize;
            for place in places(list_of(address)) {
                let _ = place.address.compare_exchange(address, 0, Ordering::AcqRel, Ordering::Acquire);
            }
        }
        next(mutex)
    }
    /// The kernel sees the real id when the mutex is let go, and when it is locked again.
    fn pthread_cond_wait(condition: *mut c_void, mutex: *mut Mutex) -> c_int {
        if !concerns_kernel(mutex) { return next(condition, mutex); }
        exactly(mutex, Leaves::StillLocked, || next(condition, mutex))
    }
    /// As pthread_cond_wait.
    fn pthread_cond_timedwait(condition: *mut c_void, mutex: *mut Mutex, limit: *const timespec) -> c_int {
        if !concerns_kernel(mutex) { return next(condition, mutex, limit); }
        exactly(mutex, Leaves::StillLocked, || next(condition, mutex, limit))
    }
    /// As pthread_cond_wait.
    fn pthread_cond_clockwait(
        condition: *mut c_void, mutex: *mut Mutex, clock: clockid_t, limit: *const timespec,
    ) -> c_int {
        if !concerns_kernel(mutex) { return next(condition, mutex, clock, limit); }
        exactly(mutex, Leaves::StillLocked, || next(condition, mutex, clock, limit))
    }
}
