//! Locks whose words hold the id of their owner for the kernel: robust ones, which it marks when the owner dies.
//!
//! A thread keeps a list of those that it holds, and registers the list's head. A restart that gives the thread another id
//! has to write that into the words, else the kernel takes them for somebody else's, and those who wait wait for ever.
//!
//! ```text
//!   head -> entry -> entry -> head        word = entry + offset: owner's id, two flags
//! ```
//! Runs in restored memory before the thread has its thread pointer. The list is the program's: it is walked only as far as
//! the kernel would.

use dmtcp_plugin_api::sys;
use std::sync::atomic::{AtomicU32, Ordering};

/// FUTEX_TID_MASK.
const OWNER: u32 = 0x3fff_ffff;
/// ROBUST_LIST_LIMIT.
const LONGEST: usize = 2048;
/// From a lock's word to where glibc notes the owner once more.
const NOTE: u64 = 8;

fn word(address: u64) -> Option<&'static AtomicU32> {
    // SAFETY: the word can be read, and belongs to a lock of the program, which uses it atomically.
    (address.is_multiple_of(4) && sys::can_read(address)).then(|| unsafe { &*(address as *const AtomicU32) })
}

fn pointer(address: u64) -> Option<u64> {
    // SAFETY: it can be read; the threads that could change it are not running yet.
    (address.is_multiple_of(8) && sys::can_read(address)).then(|| unsafe { *(address as *const u64) })
}

fn replace(address: u64, former: u32, now: u32) {
    if let Some(word) = word(address) {
        let ours = |value: u32| (value & OWNER == former).then_some(value & !OWNER | now);
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, ours);
    }
}

/// Writes a thread's new id into the locks that it holds.
pub fn rewrite(head: u64, former: i32, now: i32) {
    /// The lowest bit of a pointer says that the lock inherits priorities.
    const FLAG: u64 = 1;
    if former == now || head == 0 {
        return;
    }
    let (Some(mut entry), Some(offset), Some(pending)) = (pointer(head), pointer(head + 8), pointer(head + 16)) else {
        return;
    };
    let change = |entry: u64| {
        let word = entry.wrapping_add(offset);
        replace(word, former as u32, now as u32);
        replace(word + NOTE, former as u32, now as u32);
    };
    for _ in 0..LONGEST {
        if entry & !FLAG == head || entry == 0 {
            break;
        }
        change(entry & !FLAG);
        let Some(next) = pointer(entry & !FLAG) else { break };
        entry = next;
    }
    if pending != 0 {
        change(pending & !FLAG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_locks_of_the_list_change_their_owner() {
        const WAITERS: u32 = 0x8000_0000;
        #[repr(C)]
        struct Lock {
            word: u32,
            count: u32,
            owner: u32,
            rest: [u32; 5],
            next: u64,
        }
        let lock = |word, owner| Lock { word, count: 1, owner, rest: [0; 5], next: 0 };
        let mut locks = [lock(77 | WAITERS, 77), lock(77, 77), lock(5, 5), lock(77, 77)];
        let entry = |lock: &Lock| (&raw const lock.next) as u64;
        let mut head = [0u64, (-32i64) as u64, entry(&locks[3])];
        let at = head.as_ptr() as u64;
        head[0] = entry(&locks[0]) | 1;
        locks[0].next = entry(&locks[1]);
        locks[1].next = entry(&locks[2]);
        locks[2].next = at;
        rewrite(at, 77, 1234);
        let words = locks.each_ref().map(|lock| (lock.word, lock.owner));
        assert_eq!(words, [(1234 | WAITERS, 1234), (1234, 1234), (5, 5), (1234, 1234)]);
        assert_eq!(head[0] & !1, entry(&locks[0]), "the list is as it was");
        rewrite(0, 1, 2);
        rewrite(8, 1, 2);
    }
}
