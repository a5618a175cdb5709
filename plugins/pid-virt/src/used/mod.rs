//! Processor time, and what else getrusage(2) counts: goes on behind a restart, where the kernel counts anew.
//!
//! ```text
//!   PRECHECKPOINT   noted: what the process, its threads and its children have used in all their lives
//!   RESTART         base = what was noted - what the kernel says now
//!   afterwards      wrappers add the base to what the kernel says; the next checkpoint notes the sum
//! ```
//! | module | owns |
//! |---|---|
//! | [`rounds`] | the hooks, and the section of the image |
//! | [`executed`] | the base of a process outlives its program |
//! | [`kin`] | children that were restarted, too |
//! | [`wrappers`] | getrusage(2), times(2), clock(3) |
//!
//! Clocks of processor time are read by the wrappers of [`crate::clocks`], which ask for the [`offset`] of one.
//!
//! A base belongs to one process and one thread, and says to which: a fork's child, and whoever shares this memory, has
//! none, and before the first restart nobody has. All values are atomic words, so they can be read in signal handlers.
//!
//! What can go wrong: whoever asks for the clock of another process, or reads /proc, gets what the kernel says.

pub mod executed;
pub mod kin;
pub mod rounds;
pub mod wrappers;

use crate::state;
use dmtcp_plugin_api::usage::{Usage, VALUES};
use dmtcp_plugin_api::{proc_files, sys};
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, Ordering};

/// The real id of the process that has a base; 0: nobody has.
static OWNER: AtomicI32 = AtomicI32::new(0);
static PROCESS: Amounts = Amounts::new();
static CHILDREN: Amounts = Amounts::new();
/// The threads that have a base; never freed: a thread that reads it may be stopped for as long as it lives.
static THREADS: AtomicPtr<Threads> = AtomicPtr::new(std::ptr::null_mut());
/// Clock ticks that are to be added to those that times(2) counts since some point in the past.
static ELAPSED: AtomicI64 = AtomicI64::new(0);

/// Nanoseconds of a clock tick.
const TICK: u64 = 10_000_000;
/// In the number of a clock: what is counted, whether for a thread, and where the id begins.
const KIND: i32 = 3;
const SCHEDULED: i32 = 2;
const OF_THREAD: i32 = 4;
const ID_BITS: i32 = 3;

/// A [`Usage`] that can be read at any time.
struct Amounts([AtomicI64; VALUES]);

impl Amounts {
    const fn new() -> Self {
        Self([const { AtomicI64::new(0) }; VALUES])
    }

    fn load(&self) -> Usage {
        Usage::from_values(std::array::from_fn(|index| self.0[index].load(Ordering::Acquire)))
    }

    fn add(&self, more: &Usage) {
        let memory = self.0.len() - 1;
        for (index, (word, value)) in self.0.iter().zip(more.values()).enumerate() {
            if index == memory {
                word.fetch_max(value, Ordering::AcqRel);
            } else {
                word.fetch_add(value, Ordering::AcqRel);
            }
        }
    }

    fn store(&self, new: &Usage) {
        for (word, value) in self.0.iter().zip(new.values()) {
            word.store(value, Ordering::Release);
        }
    }
}

/// Bases of threads, by their real ids in ascending order, and the time of the restart, in clock ticks since the machine
/// began: who began later only has the id of one that has ended.
struct Threads {
    bases: Vec<(i32, Usage)>,
    since: u64,
}

impl Threads {
    fn of(&self, tid: i32) -> Option<&(i32, Usage)> {
        let index = self.bases.binary_search_by_key(&tid, |(id, _)| *id).ok()?;
        let stat = proc_files::read_file(&proc_files::task_path(tid, "stat")).ok()?;
        self.bases.get(index).filter(|_| state::start(&stat).is_some_and(|start| start <= self.since))
    }
}

fn threads() -> Option<&'static Threads> {
    // SAFETY: it is never freed.
    unsafe { THREADS.load(Ordering::Acquire).as_ref() }
}

/// Whether the calling process has a base.
#[inline(always)]
fn is_owner() -> bool {
    let owner = OWNER.load(Ordering::Acquire);
    owner != 0 && owner == sys::pid()
}

thread_local! {
    /// The address of the calling thread's entry among [`THREADS`], or that of the list and 1: it has none there.
    static FOUND: Cell<usize> = const { Cell::new(0) };
}

/// The base of the calling thread.
fn own_thread() -> Option<Usage> {
    let threads = threads()?;
    let nobody = std::ptr::from_ref(threads) as usize | 1;
    let found = FOUND.get();
    if found == nobody {
        return None;
    }
    let tid = sys::tid();
    let entry = match threads.bases.iter().as_slice().as_ptr_range() {
        // SAFETY: an address in this list is one that was put there below, of an entry.
        range if range.contains(&(found as *const _)) => Some(unsafe { &*(found as *const (i32, Usage)) }),
        _ => {
            let entry = threads.of(tid);
            FOUND.set(entry.map_or(nobody, |entry| std::ptr::from_ref(entry) as usize));
            entry
        }
    };
    // A thread that the program has made itself may share the variable with the one that made it.
    entry.filter(|(id, _)| *id == tid).map(|(_, base)| *base)
}

/// The base of a thread of the process, by its real id.
fn thread(tid: i32) -> Option<Usage> {
    threads()?.of(tid).map(|(_, base)| *base)
}

/// What is to be added to what getrusage(2) says of `who`; `None`: nothing.
pub fn base(who: i32) -> Option<Usage> {
    if !is_owner() {
        return None;
    }
    match who {
        libc::RUSAGE_SELF => Some(PROCESS.load()),
        libc::RUSAGE_CHILDREN => {
            kin::count_the_gone();
            Some(CHILDREN.load())
        }
        libc::RUSAGE_THREAD => own_thread(),
        _ => None,
    }
}

/// What is to be added to a clock of processor time, by its real number, in nanoseconds.
pub fn offset(clock: i32) -> i64 {
    if !is_owner() { 0 } else { base_of_clock(clock).unwrap_or(0) }
}

fn base_of_clock(clock: i32) -> Option<i64> {
    let id = !(clock >> ID_BITS);
    let base = match clock {
        libc::CLOCK_PROCESS_CPUTIME_ID => PROCESS.load(),
        libc::CLOCK_THREAD_CPUTIME_ID => own_thread()?,
        0.. => return None,
        // libc makes no clocks of other kinds.
        _ if clock & KIND != SCHEDULED => return None,
        _ if clock & OF_THREAD != 0 && (id == 0 || id == sys::tid()) => own_thread()?,
        _ if clock & OF_THREAD != 0 => thread(id)?,
        _ if id == 0 || id == sys::pid() => PROCESS.load(),
        _ => return None,
    };
    Some(base.clock)
}
