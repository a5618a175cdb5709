//! VFORK_*: a vfork that plugins ask about is a fork whose parent waits until the child executes a program or ends.
//!
//! A vfork's child runs in its parent's memory, on its parent's stack: what a hook wrote there would be the parent's, and no
//! member of the computation would be behind it. As a fork's it has memory of its own and is a member, so that hooks
//! can do in it what they do in any child. Without a plugin that asks, vfork is libc's.
//!
//! ```text
//!   VFORK_PREPARE --fork--> parent: VFORK_PARENT, waits at the pipe's reading end ........ goes on
//!                     \---> child:  VFORK_CHILD, has the writing end --exec or exit closes it-/
//! ```
//! What can go wrong: a program whose vfork's child leaves a word for its parent in a variable; the parent does not see it.
//! (`--disable-wrapper program-events:vfork` leaves vfork alone.) A child that closes descriptors that are not its own lets
//! the parent go on early, as a fork's may.

use crate::{tell_of, wanted};
use dmtcp_plugin_api::abi::{Event, Wrapper};
use dmtcp_plugin_api::sys;
use libc::{c_int, pid_t};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

const NO_FILE: c_int = -1;
/// The child's end gets a number from here on if there is one, so that small ones are what the program expects.
const HIGH: usize = 900;

/// In a child that stands for a vfork's: the writing end of its parent's pipe, and its inode.
static HELD: AtomicI32 = AtomicI32::new(NO_FILE);
static INODE: AtomicU64 = AtomicU64::new(0);

mod vfork {
    dmtcp_plugin_api::wrapped_symbol!(vfork, super::choose, std::ptr::null(), 0);
}

/// The wrappers of this module.
pub static WRAPPERS: &[&Wrapper] = &[&vfork::WRAPPER];

/// libc's vfork returns twice on one stack, so nothing of ours may be on it then.
#[unsafe(naked)]
unsafe extern "C" fn choose() {
    core::arch::naked_asm!(
        "sub rsp, 8",
        "call {is_asked}",
        "add rsp, 8",
        "test al, al",
        "jnz {as_fork}",
        "jmp qword ptr [rip + {next}]",
        is_asked = sym is_asked,
        as_fork = sym as_fork,
        next = sym vfork::NEXT,
    )
}

extern "C" fn is_asked() -> bool {
    [Event::VforkPrepare, Event::VforkParent, Event::VforkChild, Event::VforkFailed].into_iter().any(wanted)
}

/// A pipe: where the parent waits, and what keeps it waiting.
struct Pipe {
    reading: c_int,
    writing: c_int,
}

impl Pipe {
    /// `None`: there are too many descriptors, and the parent does not wait.
    fn new() -> Option<Self> {
        let mut ends = [NO_FILE; 2];
        // SAFETY: the kernel writes two numbers.
        unsafe {
            let arguments = [ends.as_mut_ptr() as usize, libc::O_CLOEXEC as usize, 0, 0, 0, 0];
            sys::call(libc::SYS_pipe2 as i32, arguments).ok()?;
        }
        let [reading, low] = ends;
        // SAFETY: no memory is passed.
        let high =
            unsafe { sys::call(libc::SYS_fcntl as i32, [low as usize, libc::F_DUPFD_CLOEXEC as usize, HIGH, 0, 0, 0]) };
        let writing = match high {
            Ok(high) => {
                sys::close(low);
                high as c_int
            }
            Err(_) => low,
        };
        Some(Self { reading, writing })
    }

    /// In the child: keeps its end.
    fn hold(&self) {
        sys::close(self.reading);
        INODE.store(sys::fstat(self.writing).map_or(0, |status| status.st_ino), Ordering::Relaxed);
        HELD.store(self.writing, Ordering::Relaxed);
    }

    /// In the parent: waits until nobody has the other end any more.
    fn wait(&self, child: pid_t) {
        sys::close(self.writing);
        if child > 0 {
            let mut entry = libc::pollfd { fd: self.reading, events: libc::POLLIN, revents: 0 };
            let arguments = [(&raw mut entry) as usize, 1, usize::MAX, 0, 0, 0];
            // SAFETY: the kernel reads and writes one entry. A signal's handler may run meanwhile, as it may after a fork.
            while let Err(libc::EINTR) = unsafe { sys::call(libc::SYS_poll as i32, arguments) } {}
        }
        sys::close(self.reading);
    }
}

#[allow(clippy::disallowed_methods, reason = "the program has called vfork, and this is what it gets")]
extern "C" fn as_fork() -> pid_t {
    let pipe = Pipe::new();
    tell_of(Event::VforkPrepare);
    // SAFETY: libc's fork, by the name that all wrappers of fork are behind.
    let child = unsafe { libc::fork() };
    match pipe {
        Some(pipe) if child == 0 => pipe.hold(),
        Some(pipe) => pipe.wait(child),
        None => {}
    }
    child
}

/// In any fork's child: one whose parent is a child that stands for a vfork's is not who that one's parent waits for.
pub fn after_fork() {
    let held = HELD.swap(NO_FILE, Ordering::Relaxed);
    // The program may have given the number to another file.
    if held != NO_FILE && sys::fstat(held).is_ok_and(|status| status.st_ino == INODE.load(Ordering::Relaxed)) {
        sys::close(held);
    }
}
