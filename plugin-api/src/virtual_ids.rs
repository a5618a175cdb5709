//! Virtual ids: numbers that the program keeps, although what they stand for gets another number at a restart. For handles
//! that a server, a driver or a library gives out; process ids have a table of their own ([`crate::ids`]).
//!
//! ```text
//!   program --virtual id--> wrapper --[`VirtualIds::real`]--> next function      restart: [`VirtualIds::renew`]
//! ```
//! The table is memory of the process: it comes back with it, and a fork's child has a copy. All of it is atomic words, so
//! it may be used by any thread at any time, also inside a signal's handler.
//!
//! What can go wrong: more ids than there is room for; [`VirtualIds::add`] says so.

use std::sync::atomic::{AtomicU64, Ordering};

/// A word of an id that nobody has.
const NOBODY: u64 = u64::MAX;

/// A table with room for so many ids at a time.
#[derive(Debug)]
pub struct VirtualIds<const ROOM: usize> {
    real: [AtomicU64; ROOM],
}

impl<const ROOM: usize> VirtualIds<ROOM> {
    /// A table without ids.
    #[allow(clippy::new_without_default, reason = "it belongs into a static")]
    pub const fn new() -> Self {
        Self { real: [const { AtomicU64::new(NOBODY) }; ROOM] }
    }

    fn word(&self, id: u64) -> Option<&AtomicU64> {
        self.real.get(usize::try_from(id.checked_sub(1)?).ok()?)
    }

    /// A virtual id for a real one, from 1 on; `None`: there are too many, or the real one is the largest number there is,
    /// which no id can be.
    pub fn add(&self, real: u64) -> Option<u64> {
        if real == NOBODY {
            return None;
        }
        let take = |word: &AtomicU64| word.compare_exchange(NOBODY, real, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        self.real.iter().position(take).map(|index| index as u64 + 1)
    }

    /// The real id; `None`: the program has made the number up, or given it back.
    pub fn real(&self, id: u64) -> Option<u64> {
        Some(self.word(id)?.load(Ordering::Acquire)).filter(|real| *real != NOBODY)
    }

    /// The virtual id of a real one.
    pub fn known(&self, real: u64) -> Option<u64> {
        self.all().find(|(_, other)| *other == real).map(|(id, _)| id)
    }

    /// Gives an id another real one, unless it has been removed meanwhile, or renewed by somebody else: says whether.
    pub fn renew(&self, id: u64, before: u64, real: u64) -> bool {
        let valid = before != NOBODY && real != NOBODY;
        valid
            && self
                .word(id)
                .is_some_and(|word| word.compare_exchange(before, real, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// Nobody has this id any more; the real one.
    pub fn remove(&self, id: u64) -> Option<u64> {
        Some(self.word(id)?.swap(NOBODY, Ordering::AcqRel)).filter(|real| *real != NOBODY)
    }

    /// All ids with their real ones.
    pub fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        let reals = self.real.iter().map(|word| word.load(Ordering::Acquire));
        (1..).zip(reals).filter(|(_, real)| *real != NOBODY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_while_real_ones_change() {
        let table = VirtualIds::<3>::new();
        let ids: Vec<u64> = [70, 0, 70].into_iter().filter_map(|real| table.add(real)).collect();
        assert_eq!((&ids[..], table.add(9), table.known(70), table.known(5)), (&[1, 2, 3][..], None, Some(1), None));
        assert_eq!((table.real(2), table.real(0), table.real(4), table.real(u64::MAX)), (Some(0), None, None, None));
        assert!(table.renew(2, 0, 81) && !table.renew(2, 0, 82) && !table.renew(9, 0, 1));
        assert_eq!(table.all().collect::<Vec<_>>(), [(1, 70), (2, 81), (3, 70)]);
        assert_eq!((table.remove(1), table.remove(1), table.real(1)), (Some(70), None, None));
        assert!(!table.renew(1, u64::MAX, 5));
        assert_eq!((table.add(u64::MAX), table.add(4)), (None, Some(1)));
    }
}
