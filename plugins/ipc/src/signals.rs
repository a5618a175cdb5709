//! Who is told of readiness by signal: F_SETOWN, F_SETSIG and O_ASYNC of a description.
//!
//! The owner must exist when it is set, so all of it is put back in restored memory, through copies of the descriptors:
//! the list is simply still there.

use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{ids, sys};

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;

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
    for mut notified in NOTIFIED.take() {
        let restored = core.copy_descriptor(notified.number).and_then(|copy| {
            let fd = copy.number();
            notified.owner = translate(notified.owner, |id| ids::to_real(core, id));
            if notified.owner.id != 0 {
                sys::fcntl_value(fd, F_SETOWN_EX, &mut notified.owner)?;
            }
            sys::fcntl(fd, F_SETSIG, notified.signal as usize)?;
            if notified.asynchronous {
                let flags = sys::fcntl(fd, libc::F_GETFL, 0)?;
                sys::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC as usize)?;
            }
            Ok(())
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
}
