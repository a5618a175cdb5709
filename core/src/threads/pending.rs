//! Signals that are pending when a thread parks: taken out, kept in its slot, queued again when it goes on.
//!
//! The kernel shows the contents of its queues to nobody but a tracer, so they are taken by rt_sigtimedwait(2) and put back
//! by rt_tgsigqueueinfo(2) (the thread's own) and rt_sigqueueinfo(2) (the process's), siginfo unchanged. Codes that only the
//! kernel may forge are accepted for oneself alone: each thread puts back its own, the first thread the process's. Order
//! between different numbers need not be kept, the kernel always takes the lowest; within a number it is.
//!
//! Runs inside the handler of the checkpoint signal, with all signals blocked.

use dmtcp_plugin_api::sys;

/// A `siginfo_t`, as 16 words.
pub type Info = [u64; 16];

/// How many are kept. The rest stays in the kernel, and is lost only by a restart.
const ROOM: usize = 64;
const KERNEL_SET: usize = 8;

/// Signals taken out of the kernel's queues.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    infos: [Info; ROOM],
    own: u32,
    shared: u32,
}

/// The thread's own and the process's pending sets, from /proc/thread-self/status.
fn sets() -> Option<(u64, u64)> {
    let mut text = [0u8; 4096];
    let file = sys::open(b"/proc/thread-self/status", libc::O_RDONLY | libc::O_CLOEXEC, 0).ok()?;
    let filled = sys::read(file.number(), &mut text).ok()?;
    let field = |name: &[u8]| {
        let at = text[..filled].windows(name.len()).position(|w| w == name)? + name.len();
        let digits = text.get(at..at + 16)?;
        digits.iter().try_fold(0u64, |n, &d| Some(n << 4 | u64::from((d as char).to_digit(16)?)))
    };
    Some((field(b"SigPnd:\t")?, field(b"ShdPnd:\t")?))
}

fn pending_set() -> u64 {
    let mut set = 0u64;
    // SAFETY: the kernel writes 8 bytes.
    let _ = unsafe { sys::call(libc::SYS_rt_sigpending as i32, [(&raw mut set) as usize, KERNEL_SET, 0, 0, 0, 0]) };
    set
}

impl Pending {
    fn push(&mut self, set: u64) -> bool {
        let at = (self.own + self.shared) as usize;
        let Some(info) = self.infos.get_mut(at) else { return false };
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: set, siginfo and time are valid.
        unsafe {
            sys::call(
                libc::SYS_rt_sigtimedwait as i32,
                [(&raw const set) as usize, info.as_mut_ptr() as usize, (&raw const now) as usize, KERNEL_SET, 0, 0],
            )
        }
        .is_ok()
    }

    /// Takes what is pending for the calling thread, and if it is the first one, for the process; but never `ours`.
    pub fn take(&mut self, ours: u64) {
        self.own = 0;
        self.shared = 0;
        let first = sys::tid() == sys::pid();
        // Nothing at all, most of the time: one system call.
        while pending_set() & !ours != 0 {
            let Some((own, shared)) = sets() else { return };
            if own & !ours != 0 {
                // The thread's own queue is taken from first.
                if !self.push(own & !ours) {
                    return;
                }
                self.own += 1;
            } else if first && shared & !ours != 0 {
                if !self.push(shared & !ours) {
                    return;
                }
                self.shared += 1;
            } else {
                return;
            }
        }
    }

    /// Queues all of it again.
    pub fn put_back(&mut self) {
        let (pid, tid) = (sys::pid() as usize, sys::tid() as usize);
        for (index, info) in self.infos[..(self.own + self.shared) as usize].iter().enumerate() {
            let number = (info[0] & 0x7f) as usize;
            let info = info.as_ptr() as usize;
            // SAFETY: the siginfo came from the kernel.
            let _ = unsafe {
                if (index as u32) < self.own {
                    sys::call(libc::SYS_rt_tgsigqueueinfo as i32, [pid, tid, number, info, 0, 0])
                } else {
                    sys::call(libc::SYS_rt_sigqueueinfo as i32, [pid, number, info, 0, 0, 0])
                }
            };
        }
        self.own = 0;
        self.shared = 0;
    }
}
