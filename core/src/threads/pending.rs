//! Signals that are pending while threads are parked: taken out, kept in its slot, queued again when it goes on.
//!
//! The kernel shows the contents of its queues to nobody but a tracer, so they are taken by rt_sigtimedwait(2) and put back
//! by rt_tgsigqueueinfo(2) (the thread's own) and rt_sigqueueinfo(2) (the process's), siginfo unchanged. Codes that only the
//! kernel may forge are accepted for oneself alone: each thread puts back its own, the first thread the process's, before
//! any other goes on. Order between different numbers need not be kept, the kernel always takes the lowest; within a
//! number it is: what has come while the thread was parked is taken out too and queued behind.
//!
//! Runs inside the handler of the checkpoint signal, with all signals blocked, when all threads of all processes have
//! stopped: before that, one that still runs could look for what another has taken, or signal one that has stopped.

use super::status;
use crate::ids;
use dmtcp_plugin_api::{proc_files, sys};

/// A `siginfo_t`, as 16 words.
pub type Info = [u64; 16];

/// How many are kept in the slot; more than that go into mappings that are made for them.
const ROOM: usize = 8;
/// How many a mapping holds.
const MORE: usize = 511;
const KERNEL_SET: usize = 8;

/// The bit of the first number of which several signals are queued.
const FIRST_REAL_TIME: u64 = 1 << 31;

/// The word of a kept `siginfo_t` that says whose it was: the kernel uses none of its kind.
const OWNER: usize = 15;
/// In [`OWNER`]: the process's.
const PROCESS: u64 = 1;
/// In [`OWNER`], from this bit on: what the application calls the sender; 0: nobody that it could know.
const SENDER: u32 = 32;

/// Signals taken out of the kernel's queues, in order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    infos: [Info; ROOM],
    count: u32,
    /// How many of them were the process's.
    shared: u32,
    /// The first of the further mappings, 0: none.
    more: u64,
}

/// A mapping for signals that the slot has no room for.
#[repr(C)]
struct More {
    next: u64,
    unused: [u64; 15],
    infos: [Info; MORE],
}

const _: () = assert!(size_of::<More>() == 64 << 10);

/// Takes a signal away that is pending for the process, if there is one, for nobody. The calling thread blocks it.
pub fn forget(signal: i32) {
    let set = 1u64 << (signal - 1);
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: set and time are valid; no siginfo is asked for.
    let _ = unsafe {
        let arguments = [(&raw const set) as usize, 0, (&raw const now) as usize, KERNEL_SET, 0, 0];
        sys::call(libc::SYS_rt_sigtimedwait as i32, arguments)
    };
}

/// What is pending for the process.
pub fn of_process() -> u64 {
    status::own_sets().map_or(0, |(_, shared)| shared)
}

/// The bit of a signal's number.
pub fn bit_of(info: &Info) -> u64 {
    1 << ((info[0] as u32 & 0x7f).max(1) - 1)
}

/// Queues a signal for the process. The kernel's own codes are accepted from its first thread alone.
pub fn queue_for_process(info: &Info) {
    let arguments = [sys::pid() as usize, (info[0] & 0x7f) as usize, info.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the siginfo came from the kernel.
    let _ = unsafe { sys::call(libc::SYS_rt_sigqueueinfo as i32, arguments) };
}

/// Whether a thread would take anything now. For the checkpoint thread.
pub fn has_news(tid: i32) -> bool {
    let text = proc_files::read_file(&proc_files::task_path(tid, "status")).unwrap_or_default();
    let (own, shared) = status::sets_in(&text).unwrap_or_default();
    let shared = if tid == sys::pid() { shared } else { 0 };
    own | shared != 0
}

/// The signal's number and the timer that it tells of, if it does.
fn timer_of(info: &Info) -> Option<(u64, u32)> {
    (info[1] as i32 == libc::SI_TIMER).then_some((bit_of(info), info[2] as u32))
}

/// The process that a signal came from, if it says so: sent by kill(2) and its like, or the end of a child.
pub fn sender_of(info: &Info) -> Option<i32> {
    let (number, code) = (info[0] as i32, info[1] as i32);
    let sent = matches!(code, libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE | libc::SI_MESGQ);
    (sent || number == libc::SIGCHLD && code > 0).then_some(info[2] as i32).filter(|sender| *sender > 0)
}

/// Puts another one there.
pub fn set_sender(info: &mut Info, sender: i32) {
    info[2] = info[2] & !u64::from(u32::MAX) | u64::from(sender.unsigned_abs());
}

fn pending_set() -> u64 {
    let mut set = 0u64;
    // SAFETY: the kernel writes 8 bytes.
    let _ = unsafe { sys::call(libc::SYS_rt_sigpending as i32, [(&raw mut set) as usize, KERNEL_SET, 0, 0, 0, 0]) };
    set
}

impl Pending {
    /// Where the signal with this number in the order is kept; the mapping for it is made if need be.
    fn place(&mut self, index: usize) -> Option<&mut Info> {
        let Some(mut beyond) = index.checked_sub(ROOM) else { return self.infos.get_mut(index) };
        let mut link = &raw mut self.more;
        loop {
            // SAFETY: `link` is in this value, or in a mapping that only this thread knows of.
            let more = unsafe {
                if *link == 0 {
                    *link = sys::map_anonymous(size_of::<More>()).ok()?;
                }
                &mut *(*link as *mut More)
            };
            if beyond < MORE {
                return more.infos.get_mut(beyond);
            }
            beyond -= MORE;
            link = &raw mut more.next;
        }
    }

    fn push(&mut self, set: u64, owner: u64) -> bool {
        let Some(info) = self.place(self.count as usize) else { return false };
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: set, siginfo and time are valid.
        let taken = unsafe {
            sys::call(
                libc::SYS_rt_sigtimedwait as i32,
                [(&raw const set) as usize, info.as_mut_ptr() as usize, (&raw const now) as usize, KERNEL_SET, 0, 0],
            )
        };
        if taken.is_err() {
            return false;
        }
        // One of ours that comes too late is nobody's any more.
        if super::carried_slot(info.as_ptr().cast()).is_none() {
            info[OWNER] = owner;
            self.count += 1;
            self.shared += u32::from(owner == PROCESS);
        }
        true
    }

    /// Begins with nothing.
    pub fn begin(&mut self) {
        self.count = 0;
        self.shared = 0;
        self.more = 0;
    }

    /// Takes what is pending for the calling thread, and if it is the first one, for the process: the application's signals
    /// of our number, too. It goes behind what was taken before.
    ///
    /// A timer goes on when its signal is taken, and one with a short interval has expired again at the next look. So a
    /// number is done with once it can only be such a signal that is pending.
    pub fn take(&mut self) {
        let first = sys::tid() == sys::pid();
        let start = self.count;
        let (mut own_left, mut shared_left) = (u64::MAX, if first { u64::MAX } else { 0 });
        // Nothing at all, most of the time: one system call.
        while pending_set() & (own_left | shared_left) != 0 {
            let Some((own, shared)) = status::own_sets() else { return };
            // The thread's own queue is taken from first, by the kernel too.
            let (set, owner, left) = match own & own_left {
                0 => (shared & shared_left & !own, PROCESS, &mut shared_left),
                set => (set, 0, &mut own_left),
            };
            if set == 0 || !self.push(set, owner) {
                return;
            }
            *left &= !self.numbers_done(start);
        }
    }

    /// The number of the signal that was taken last, if all that was pending of it has been taken since `start`: of numbers
    /// below the real-time ones no queue has more than one, and of each timer neither.
    fn numbers_done(&mut self, start: u32) -> u64 {
        let Some(last) = self.count.checked_sub(1).filter(|last| *last >= start) else { return 0 };
        let Some(info) = self.place(last as usize).copied() else { return 0 };
        let mut has_come_before = || {
            let timer = timer_of(&info);
            timer.is_some() && (start..last).any(|i| self.place(i as usize).map(|x| timer_of(x)) == Some(timer))
        };
        if bit_of(&info) < FIRST_REAL_TIME || has_come_before() { bit_of(&info) } else { 0 }
    }

    /// Notes what the application calls the senders.
    pub fn note_senders(&mut self) {
        for index in 0..self.count {
            let Some(info) = self.place(index as usize) else { break };
            let sender = sender_of(info).map_or(0, ids::to_virtual);
            info[OWNER] = info[OWNER] & PROCESS | u64::from(sender.unsigned_abs()) << SENDER;
        }
    }

    /// After a restart: the senders have other ids.
    pub fn renew_senders(&mut self) {
        for index in 0..self.count {
            let Some(info) = self.place(index as usize) else { break };
            if sender_of(info).is_some() {
                set_sender(info, ids::to_real((info[OWNER] >> SENDER) as i32));
            }
        }
    }

    /// Whether there is anything.
    pub fn is_there(&self) -> bool {
        self.count > 0
    }

    /// Queues all of it again, and what has come meanwhile behind it.
    pub fn put_back(&mut self) {
        if self.count == 0 {
            return;
        }
        self.take();
        let (pid, tid) = (sys::pid() as usize, sys::tid() as usize);
        for index in 0..self.count {
            let Some(info) = self.place(index as usize) else { break };
            let shared = std::mem::take(&mut info[OWNER]) & PROCESS != 0;
            if shared {
                queue_for_process(info);
                continue;
            }
            let arguments = [pid, tid, (info[0] & 0x7f) as usize, info.as_ptr() as usize, 0, 0];
            // SAFETY: the siginfo came from the kernel.
            let _ = unsafe { sys::call(libc::SYS_rt_tgsigqueueinfo as i32, arguments) };
        }
        self.count = 0;
        self.shared = 0;
        while self.more != 0 {
            let mapping = std::mem::take(&mut self.more);
            // SAFETY: the mapping was made by `place`, and is unmapped after its last use.
            self.more = unsafe { (*(mapping as *const More)).next };
            let _ = sys::unmap(mapping, size_of::<More>() as u64);
        }
    }
}
