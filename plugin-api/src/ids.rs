//! Translated ids: the table that all processes of a restarted computation on a host share, and the service `ids`.
//!
//! ```text
//!   Header | real[virtual]: one word for each virtual id | virtual[real]: one word for each real id
//! ```
//! The table is a sparse file in memory: pages of ids that nobody has are never touched. It is made by a restart that
//! cannot have the old ids, mapped by every process that it brings back, inherited over fork, and found again after an exec
//! by its name. Words are atomic and each is true by itself; an id is looked up with one load.
//!
//! `real[v]` is 0 if nobody is known as `v`, so an id that is remembered from before, and names nobody, is told from a
//! stranger's. `virtual[r]` is believed only if `real` leads back to `r`: what ended without anybody noticing leaves its
//! word there until somebody else gets the number.

use crate::core::Core;
use std::ffi::CStr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Ids are below this: the largest pid_max of a 64-bit kernel.
pub const ROOM: usize = 1 << 22;
/// Bytes of a table.
pub const LENGTH: usize = size_of::<Header>() + 2 * ROOM * size_of::<AtomicI32>();
/// Where the files are, by a prefix of their names; the rest is what [`Table::name`] gives.
pub const PREFIX: &str = "/dev/shm/dmtcp-ids.";
/// Digits of a table's name.
pub const NAME_LENGTH: usize = 16;
const MAGIC: u64 = u64::from_le_bytes(*b"DMTCPIDS");
/// Virtual ids for those whose real one is taken are looked for from the top of the ids down to here.
const LOWEST_SPARE: u32 = 300;

/// The first page.
#[repr(C, align(4096))]
struct Header {
    /// 0 until the table is in use; then a value that says so.
    magic: AtomicU64,
    name: AtomicU64,
    /// The kernel's pid_max.
    limit: AtomicU32,
    /// Counts tries for spare ids.
    spares: AtomicU32,
}

/// A mapped table.
#[derive(Clone, Copy, Debug)]
pub struct Table(*const Header);

// SAFETY: all words are atomic.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// The table at an address; `None` if what is there is not in use.
    ///
    /// # Safety
    /// A table's file must be mapped there, readable and writable, [`LENGTH`] bytes long, for as long as the value is used.
    pub unsafe fn at(address: u64) -> Option<Self> {
        let table = Self(address as *const Header);
        (table.header().magic.load(Ordering::Acquire) == MAGIC).then_some(table)
    }

    /// The table at an address where one is known to be in use.
    ///
    /// # Safety
    /// As for [`Table::at`].
    pub unsafe fn mapped(address: u64) -> Self {
        Self(address as *const Header)
    }

    /// Takes a new table, all zeros, into use.
    ///
    /// # Safety
    /// As for [`Table::at`].
    pub unsafe fn begin(address: u64, name: u64, limit: u32) -> Self {
        let table = Self(address as *const Header);
        table.header().name.store(name, Ordering::Relaxed);
        table.header().limit.store(limit.clamp(LOWEST_SPARE + 1, ROOM as u32), Ordering::Relaxed);
        table.header().magic.store(MAGIC, Ordering::Release);
        table
    }

    fn header(&self) -> &'static Header {
        // SAFETY: the promise of `at` and `begin`.
        unsafe { &*self.0 }
    }

    fn word(&self, half: usize, id: i32) -> Option<&'static AtomicI32> {
        let index = usize::try_from(id).ok().filter(|id| (1..ROOM).contains(id))?;
        // SAFETY: the words follow the header, `ROOM` for each half, and the index is below that.
        Some(unsafe { &*self.0.add(1).cast::<AtomicI32>().add(half * ROOM + index) })
    }

    /// Its name: what follows [`PREFIX`].
    pub fn name(&self) -> String {
        name(self.header().name.load(Ordering::Relaxed))
    }

    /// Where it is mapped.
    pub fn address(&self) -> u64 {
        self.0 as u64
    }

    /// The real id behind a virtual one; `None` if nobody is known by it.
    pub fn real(&self, id: i32) -> Option<i32> {
        Some(self.word(0, id)?.load(Ordering::Acquire)).filter(|real| *real > 0)
    }

    /// The virtual id of whoever has this real one; `None` if the table does not know him.
    pub fn known(&self, real: i32) -> Option<i32> {
        let id = self.word(1, real)?.load(Ordering::Acquire);
        (self.real(id) == Some(real)).then_some(id)
    }

    /// What the application is told of this real id: of a stranger the id itself, unless somebody else is known by that.
    pub fn shown(&self, real: i32) -> Option<i32> {
        self.known(real).or_else(|| self.real(real).is_none().then_some(real))
    }

    /// Notes that a real id is known by a virtual one.
    pub fn set(&self, id: i32, real: i32) {
        let (Some(forth), Some(back)) = (self.word(0, id), self.word(1, real)) else { return };
        back.store(id, Ordering::Release);
        forth.store(real, Ordering::Release);
    }

    /// The id that the task with this real one is known by. One that is not known yet is noted, by its real id if that is
    /// free; the task itself and its parent may both do so at the same time. Whoever has the number of a task that ended
    /// without anybody noticing takes over what that was known by, as after any reuse of a pid.
    pub fn ensure(&self, real: i32) -> i32 {
        let Some(back) = self.word(1, real) else { return real };
        loop {
            let before = back.load(Ordering::Acquire);
            if self.real(before) == Some(real) {
                return before;
            }
            let Some(id) = self.take(real) else { return real };
            if back.compare_exchange(before, id, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return id;
            }
            // Somebody else was faster, and may have taken another one.
            if id != real {
                self.forget(id);
            }
        }
    }

    /// Takes an id for a real one: the same, or else a spare one.
    fn take(&self, real: i32) -> Option<i32> {
        let take = |id| {
            let word = self.word(0, id);
            word.is_some_and(|word| word.compare_exchange(0, real, Ordering::AcqRel, Ordering::Acquire).is_ok())
        };
        if take(real) || self.real(real) == Some(real) {
            return Some(real);
        }
        let limit = self.header().limit.load(Ordering::Relaxed);
        (0..limit).find_map(|_| {
            let count = self.header().spares.fetch_add(1, Ordering::Relaxed) % (limit - LOWEST_SPARE);
            let id = (limit - 1 - count) as i32;
            // Not one that a task of ours has: it may become known by that.
            (self.known(id).is_none() && take(id)).then_some(id)
        })
    }

    /// Notes that who was known by this id is gone.
    pub fn forget(&self, id: i32) {
        if let Some(word) = self.word(0, id) {
            word.store(0, Ordering::Release);
        }
    }
}

/// A table's name as text.
pub fn name(number: u64) -> String {
    format!("{number:0width$x}", width = NAME_LENGTH)
}

/// Name of the service of plugin `pid-virt`; its table is a [`Translator`].
pub const SERVICE: &CStr = c"ids";

/// Translates for the core and for other plugins. Where nothing is translated, ids are what they are.
#[repr(C)]
#[derive(Debug)]
pub struct Translator {
    /// `size_of::<Translator>()` of the plugin; fields are only appended.
    pub size: usize,
    /// What the application is told of a real id; a stranger whose id is somebody else's is 0.
    pub to_virtual: extern "C" fn(i32) -> i32,
    /// The real id behind a virtual one; 0: nobody is known by it.
    pub to_real: extern "C" fn(i32) -> i32,
    /// After a restart: whether a thread that waits for a child with a real id of before, both by their virtual ids, finds
    /// out by itself that its call has failed, and then waits again. 0: its call must get the id of now.
    pub waits_again: extern "C" fn(i32, i32) -> i32,
    /// The program's function that a signal's handler at this address passes on to, with the sender's virtual id; of any
    /// other handler, its own address.
    pub handler_behind: extern "C" fn(i32, u64) -> u64,
}

fn translator(core: Core) -> Option<&'static Translator> {
    // SAFETY: the service of this name is documented to be a `Translator`.
    unsafe { core.find_service::<Translator>(SERVICE) }
}

/// The id that an image has for a real id.
pub fn to_virtual(core: Core, real: i32) -> i32 {
    translator(core).map_or(real, |t| (t.to_virtual)(real))
}

/// The real id that an image's id is now; 0: nobody's.
pub fn to_real(core: Core, id: i32) -> i32 {
    translator(core).map_or(id, |t| (t.to_real)(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    fn table() -> Table {
        let address = sys::map_anonymous(LENGTH).unwrap();
        // SAFETY: fresh memory of the right length, never unmapped; no table is in use there yet.
        unsafe {
            assert!(Table::at(address).is_none());
            Table::begin(address, 0xabc, 32768);
            Table::at(address).unwrap()
        }
    }

    #[test]
    fn an_id_names_whoever_is_known_by_it_and_no_stranger() {
        let table = table();
        table.set(100, 5000);
        assert_eq!((table.real(100), table.known(5000), table.shown(5000)), (Some(5000), Some(100), Some(100)));
        assert_eq!((table.real(5000), table.shown(77), table.shown(100)), (None, Some(77), None));
        table.forget(100);
        assert_eq!((table.real(100), table.known(5000), table.shown(5000)), (None, None, Some(5000)));
        assert_eq!((table.real(0), table.real(-1), table.real(i32::MAX)), (None, None, None));
        assert_eq!(table.name(), "0000000000000abc");
    }

    #[test]
    fn a_new_task_whose_id_is_taken_gets_another_one() {
        let table = table();
        table.set(100, 5000);
        assert_eq!(table.ensure(200), 200);
        let other = table.ensure(100);
        assert!(other != 100 && other > 300);
        assert_eq!((table.real(other), table.known(100), table.real(100)), (Some(100), Some(other), Some(5000)));
        assert_eq!(table.ensure(100), other);
        // An id that a task of ours really has is not given to another one.
        table.set(400, 32766);
        for _ in 0..40_000 {
            table.forget(table.ensure(100));
            assert!(table.known(32766) == Some(400));
        }
    }

    #[test]
    fn a_child_and_its_parent_note_one_id_at_the_same_time() {
        let table = table();
        table.set(100, 5000);
        for real in [100, 200] {
            for _ in 0..2000 {
                let start = std::sync::Barrier::new(2);
                let note = || {
                    start.wait();
                    let id = table.ensure(real);
                    assert_eq!(table.real(id), Some(real));
                    id
                };
                let [parents, childs] = std::thread::scope(|scope| {
                    [scope.spawn(note), scope.spawn(note)].map(|thread| thread.join().unwrap())
                });
                assert_eq!(parents, childs);
                table.forget(parents);
            }
        }
    }
}
