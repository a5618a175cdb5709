//! Who is told of readiness by signal: F_SETOWN, F_SETSIG and O_ASYNC of a description.
//!
//! The owner must exist when it is set, so all of it is put back in restored memory: the list is simply still there. Owner and
//! signal are set through copies of the descriptors. O_ASYNC is set by a thread of the application: the number by which that is
//! done is what the signal tells (si_fd). By which one it was done before, the kernel does not say: it is the lowest one, of
//! the process that is the owner if it has the description.

use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{ids, sys};
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, Ordering};

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_OWNER_TID: i32 = 0;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Owner {
    kind: i32,
    id: i32,
}

#[derive(Debug, Clone, Copy)]
struct Notified {
    number: i32,
    owner: Owner,
    signal: i32,
    asynchronous: bool,
}

static NOTIFIED: Round<Vec<Notified>> = Round::new(Vec::new());

/// The thread that sets O_ASYNC: one that has the application's descriptors.
static SETTER: AtomicI32 = AtomicI32::new(0);

/// Forgets the last round.
pub fn begin_round() {
    drop(NOTIFIED.take());
}

/// An owner with another id; a group's is negative where its kind does not say so.
fn translate(owner: Owner, with: impl Fn(i32) -> i32) -> Owner {
    Owner { id: if owner.id < 0 { -with(-owner.id) } else { with(owner.id) }, ..owner }
}

/// Looks at one description through a copy.
pub fn look(core: Core, number: i32, copy: i32, flags: i32) {
    let mut owner = Owner::default();
    // Descriptors opened with O_PATH know none of this.
    if sys::fcntl_value(copy, F_GETOWN_EX, &mut owner).is_err() {
        return;
    }
    let signal = sys::fcntl(copy, F_GETSIG, 0).unwrap_or(0) as i32;
    let asynchronous = flags & libc::O_ASYNC != 0;
    if owner.id != 0 || signal != 0 || asynchronous {
        let owner = translate(owner, |id| ids::to_virtual(core, id));
        NOTIFIED.with(|n| n.push(Notified { number, owner, signal, asynchronous }));
    }
}

/// The hook for RESTART.
pub fn restore(core: Core) {
    let mut list = NOTIFIED.take();
    for notified in &mut list {
        let restored = core.copy_descriptor(notified.number).and_then(|copy| {
            notified.owner = translate(notified.owner, |id| ids::to_real(core, id));
            if notified.owner.id != 0 {
                sys::fcntl_value(copy.number(), F_SETOWN_EX, &mut notified.owner)?;
            }
            sys::fcntl(copy.number(), F_SETSIG, notified.signal as usize)
        });
        if let Err(error) = restored {
            core.log(
                Level::Warning,
                &format!(
                    "fd {}: the receiver of its signals ({}) cannot be set again: error {error}",
                    notified.number, notified.owner.id
                ),
            );
        }
    }
    list.retain(|notified| notified.asynchronous);
    if !list.is_empty() {
        NOTIFIED.with(|n| *n = list);
        SETTER.store(core.application_task(), Ordering::Release);
        core.in_each_thread(set_asynchronous);
        begin_round();
    }
}

/// In the stopped threads of the application.
extern "C" fn set_asynchronous(_frame: *mut c_void) {
    if sys::tid() != SETTER.load(Ordering::Acquire) {
        return;
    }
    NOTIFIED.with(|list| {
        for notified in list.iter() {
            let set = |flags: usize| sys::fcntl(notified.number, libc::F_SETFL, flags);
            let Ok(flags) = sys::fcntl(notified.number, libc::F_GETFL, 0) else { continue };
            let flags = flags & !(libc::O_ASYNC as usize);
            // Another process may have been quicker; the owner's number counts.
            let is_own = notified.owner.id == sys::pid() || notified.owner.kind == F_OWNER_TID;
            let _ = if is_own { set(flags) } else { Ok(0) };
            let _ = set(flags | libc::O_ASYNC as usize);
        }
    });
}
