//! Whose rights a thread has: user and group ids, supplementary groups, capabilities and securebits, which to the kernel
//! are each thread's own.
//!
//! Without this a program that had given rights away would have them again after a restart. What the place of the restart
//! does not allow stays as it is there, and is reported: an ordinary user can change none of it, and has no need to if
//! the program was started as that user. In a user namespace groups that have no name there show as 65534: such a list
//! says nothing, and is left alone. So is the bounding set where it cannot be changed, since a thread without
//! capabilities has no use for it but to execute a privileged program.

use super::slot::Slot;
use crate::log;
use dmtcp_plugin_api::core::Level;
use dmtcp_plugin_api::sys;

const CAPABILITY_VERSION: u32 = 0x2008_0522;
const PR_CAPBSET_READ: i32 = 23;
const PR_CAPBSET_DROP: i32 = 24;
const PR_GET_SECUREBITS: i32 = 27;
const PR_SET_SECUREBITS: i32 = 28;
const PR_CAP_AMBIENT: i32 = 47;
const AMBIENT_IS_SET: usize = 1;
const AMBIENT_RAISE: usize = 2;
const AMBIENT_CLEAR_ALL: usize = 4;
/// Capabilities stay what they are when user ids change.
const NO_SETUID_FIXUP: usize = 1 << 2;
/// What a group shows as that a user namespace has no name for.
const NAMELESS: u32 = 65534;
/// An id that nobody has: setfsuid(2) changes nothing, and tells.
const NOBODY: usize = u32::MAX as usize;
/// Supplementary groups that are kept. Who has more keeps those of the restart.
const ROOM: usize = 64;

/// What capget(2) gives: effective, permitted and inheritable, the lower words, then the upper ones.
type Sets = [u32; 6];

/// Rights of a thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective and saved user id, that for file systems.
    users: [u32; 4],
    /// Groups likewise.
    groups: [u32; 4],
    /// How many supplementary groups there are; more than [`ROOM`]: they are not in `list`.
    count: u32,
    list: [u32; ROOM],
    sets: Sets,
    secure_bits: u32,
    ambient: u64,
    bounding: u64,
}

fn ask(number: i64, arguments: [usize; 3]) -> Result<usize, i32> {
    let [a, b, c] = arguments;
    // SAFETY: the callers pass numbers, and addresses of their own variables of the size that the call writes or reads.
    unsafe { sys::call(number as i32, [a, b, c, 0, 0, 0]) }
}

/// The capabilities that the kernel says yes to.
fn those(mut is_set: impl FnMut(usize) -> Result<usize, i32>) -> u64 {
    let mut all = 0;
    for number in 0..64 {
        match is_set(number) {
            Ok(0) => {}
            Ok(_) => all |= 1 << number,
            Err(_) => break,
        }
    }
    all
}

/// Ids of one kind: those that the call writes, and that for file systems.
fn ids(get: i64, of_files: i64) -> [u32; 4] {
    let mut ids = [0u32; 4];
    let place = |index: usize| (&raw const ids).cast::<u32>() as usize + 4 * index;
    let arguments = [place(0), place(1), place(2)];
    let _ = ask(get, arguments);
    ids[3] = ask(of_files, [NOBODY, 0, 0]).unwrap_or(0) as u32;
    ids
}

fn set_capabilities(sets: &Sets) {
    let header = [CAPABILITY_VERSION, 0];
    let _ = ask(libc::SYS_capset, [header.as_ptr() as usize, sets.as_ptr() as usize, 0]);
}

impl Credentials {
    /// Those of the calling thread.
    pub fn of_thread() -> Credentials {
        let mut list = [0u32; ROOM];
        let mut count = ask(libc::SYS_getgroups, [ROOM, list.as_mut_ptr() as usize, 0]);
        if count.is_err() {
            count = ask(libc::SYS_getgroups, [0; 3]);
        }
        let (header, mut sets) = ([CAPABILITY_VERSION, 0], [0u32; 6]);
        let _ = ask(libc::SYS_capget, [header.as_ptr() as usize, sets.as_mut_ptr() as usize, 0]);
        let ambient = |number| sys::prctl(PR_CAP_AMBIENT, AMBIENT_IS_SET, number, 0, 0);
        // Only what is permitted and inheritable can be ambient.
        let may_be = sets[1] & sets[2] != 0 || sets[4] & sets[5] != 0;
        Credentials {
            users: ids(libc::SYS_getresuid, libc::SYS_setfsuid),
            groups: ids(libc::SYS_getresgid, libc::SYS_setfsgid),
            count: count.unwrap_or(0) as u32,
            list,
            sets,
            secure_bits: sys::prctl(PR_GET_SECUREBITS, 0, 0, 0, 0).unwrap_or(0) as u32,
            ambient: if may_be { those(ambient) } else { 0 },
            bounding: those(|number| sys::prctl(PR_CAPBSET_READ, number, 0, 0, 0)),
        }
    }

    /// The supplementary groups, if they are known.
    fn supplementary(&self) -> Option<&[u32]> {
        self.list.get(..self.count as usize).filter(|list| !list.contains(&NAMELESS))
    }

    /// The same with what counts for nothing left out.
    fn essence(&self, other: &Credentials) -> Credentials {
        let (count, list) = match (self.supplementary(), other.supplementary()) {
            (Some(_), Some(_)) => (self.count, self.list),
            _ => (0, [0; ROOM]),
        };
        Credentials { count, list, bounding: 0, ..*self }
    }

    /// Gives them to the calling thread, as far as it may. The value is whether it has them.
    pub fn put_back(&self) -> bool {
        let here = Credentials::of_thread();
        if here == *self {
            return true;
        }
        self.change(&here);
        let now = Credentials::of_thread();
        now.essence(self) == self.essence(&now)
    }

    /// Each step needs rights that a later one may take away.
    fn change(&self, here: &Credentials) {
        let control = |option, a, b, c| {
            let _ = sys::prctl(option, a, b, c, 0);
        };
        if let Some(groups) = self.supplementary().filter(|groups| here.supplementary() != Some(groups)) {
            let _ = ask(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0]);
        }
        for number in (0..64).filter(|number| here.bounding & !self.bounding & 1 << number != 0) {
            control(PR_CAPBSET_DROP, number, 0, 0);
        }
        if here.users != self.users || here.groups != self.groups {
            control(PR_SET_SECUREBITS, here.secure_bits as usize | NO_SETUID_FIXUP, 0, 0);
            let [real, effective, saved, of_files] = self.groups.map(|id| id as usize);
            let _ = ask(libc::SYS_setresgid, [real, effective, saved]);
            let _ = ask(libc::SYS_setfsgid, [of_files, 0, 0]);
            let [real, effective, saved, of_files] = self.users.map(|id| id as usize);
            let _ = ask(libc::SYS_setresuid, [real, effective, saved]);
            let _ = ask(libc::SYS_setfsuid, [of_files, 0, 0]);
        }
        let (wanted, has) = (&self.sets, &here.sets);
        // Ambient ones must be inheritable, and may be forbidden by the securebits.
        set_capabilities(&[has[0], has[1], wanted[2], has[3], has[4], wanted[5]]);
        control(PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL, 0, 0);
        for number in (0..64).filter(|number| self.ambient & 1 << number != 0) {
            control(PR_CAP_AMBIENT, AMBIENT_RAISE, number, 0);
        }
        control(PR_SET_SECUREBITS, self.secure_bits as usize, 0, 0);
        let permitted = [wanted[1] & has[1], wanted[4] & has[4]];
        let effective = [wanted[0] & permitted[0], wanted[3] & permitted[1]];
        set_capabilities(&[effective[0], permitted[0], wanted[2], effective[1], permitted[1], wanted[5]]);
    }
}

/// When all else is restored: the checkpoint thread, whose slot this is, takes its own back, and says whether anybody
/// lacks something.
pub fn conclude(own: &Slot) {
    let dumpable = sys::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0).unwrap_or(0);
    // SAFETY: the slot is the calling thread's own.
    let mut lacking = usize::from(!unsafe { own.saved() }.credentials.put_back());
    // The kernel may have taken it away with a user id.
    let _ = sys::prctl(libc::PR_SET_DUMPABLE, dumpable, 0, 0, 0);
    // SAFETY: parked threads leave their slots to us.
    lacking += super::parked().iter().filter(|slot| unsafe { slot.saved() }.rights_are_lost).count();
    if lacking > 0 {
        let text = format!("{lacking} threads cannot have the users, groups and capabilities again here that they had");
        log::line(Level::Warning, "core", &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_has_it_has() {
        let here = Credentials::of_thread();
        assert_eq!(here.users[1], sys::user_ids()[1]);
        assert!(here.put_back());
        assert_eq!(here, Credentials::of_thread());
    }

    #[test]
    fn groups_without_a_name_say_nothing() {
        let here = Credentials::of_thread();
        let nameless = Credentials { count: 2, list: [NAMELESS; ROOM], ..here };
        let many = Credentials { count: 1000, ..here };
        assert_eq!(nameless.essence(&here), here.essence(&nameless));
        assert_eq!(many.essence(&here), here.essence(&many));
        let other = Credentials { groups: [here.groups[0] + 1; 4], ..here };
        assert_ne!(other.essence(&here), here.essence(&other));
    }
}
