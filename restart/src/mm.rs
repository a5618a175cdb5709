//! What the kernel is told about a process's memory besides its mappings (PR_SET_MM): where code, data, heap, arguments and
//! environment are, the auxiliary vector, the executable. It shows in /proc/PID, and `brk` grows from there.
//!
//! | kernel and privilege | way |
//! |---|---|
//! | CONFIG_CHECKPOINT_RESTORE, as all distributions have it | all at once; the executable takes a capability |
//! | without, CAP_SYS_RESOURCE where the machine was started | one by one, the executable too |
//! | without | nothing: the process has to exec the original program, and has that one's addresses |

use crate::kernel;
use crate::table::{Arg, Table};
use dmtcp_image::record::Restore;
use std::os::fd::RawFd;

/// How the kernel can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// All at once (PR_SET_MM_MAP).
    Map,
    /// One by one.
    Fields,
    /// Not at all.
    Nothing,
}

const PR_SET_MM_START_CODE: i32 = 1;
const PR_SET_MM_AUXV: i32 = 12;
const PR_SET_MM_EXE_FILE: i32 = 13;
const PR_SET_MM_MAP: i32 = 14;
const PR_SET_MM_MAP_SIZE: i32 = 15;
/// The options for one field each, and the fields' places in `struct prctl_mm_map`. The kernel refuses a start behind its
/// end: where both move up, the start is set when the end is.
const FIELDS: [(i32, usize); 16] = [
    (1, 0),
    (2, 1),
    (1, 0),
    (3, 2),
    (4, 3),
    (3, 2),
    (6, 4),
    (7, 5),
    (6, 4),
    (5, 6),
    (8, 7),
    (9, 8),
    (8, 7),
    (10, 9),
    (11, 10),
    (10, 9),
];

impl Way {
    /// The way that the calling process has.
    pub fn here() -> Self {
        if kernel::forbidden("mm_map") || !map_is_known() {
            if may_set_fields() { Self::Fields } else { Self::Nothing }
        } else {
            Self::Map
        }
    }

    /// Whether the calling process can name the executable in this way.
    pub fn names_executable(self) -> bool {
        const CAP_SYS_ADMIN: u32 = 21;
        const CAP_CHECKPOINT_RESTORE: u32 = 40;
        let allowed = match self {
            Self::Map => kernel::has_capability(CAP_CHECKPOINT_RESTORE) || kernel::has_capability(CAP_SYS_ADMIN),
            Self::Fields => true,
            Self::Nothing => false,
        };
        allowed && !kernel::forbidden("mm_exe")
    }

    /// Adds the operations. An executable of -1 is left as it is.
    pub fn describe(self, table: &mut Table, restore: &Restore, auxv: &[u8], exe: RawFd) {
        match self {
            Self::Map => {
                if exe >= 0 {
                    table.or_else(libc::SYS_prctl, &map(restore, auxv, exe), 1);
                }
                table.may(libc::SYS_prctl, &map(restore, auxv, -1));
            }
            Self::Fields => {
                for (option, place) in FIELDS {
                    field(table, option, Arg::Value(restore.mm[place]), 0);
                }
                field(table, PR_SET_MM_AUXV, Arg::Bytes(auxv.to_vec()), auxv.len() as u64);
                if exe >= 0 {
                    field(table, PR_SET_MM_EXE_FILE, Arg::Value(exe as u64), 0);
                }
            }
            Self::Nothing => {}
        }
    }
}

fn field(table: &mut Table, option: i32, value: Arg, length: u64) {
    let args =
        [Arg::Value(libc::PR_SET_MM as u64), Arg::Value(option as u64), value, Arg::Value(length), Arg::Value(0)];
    table.may(libc::SYS_prctl, &args);
}

/// Arguments of prctl(2) with `struct prctl_mm_map`: eleven addresses, the auxiliary vector and its size, the executable.
fn map(restore: &Restore, auxv: &[u8], exe: RawFd) -> [Arg; 5] {
    let mut map = Vec::new();
    for address in restore.mm {
        map.extend_from_slice(&address.to_le_bytes());
    }
    let pointer = map.len();
    map.extend_from_slice(&0u64.to_le_bytes());
    map.extend_from_slice(&(auxv.len() as u32).to_le_bytes());
    map.extend_from_slice(&(exe as u32).to_le_bytes());
    let size = map.len() as u64;
    [
        Arg::Value(libc::PR_SET_MM as u64),
        Arg::Value(PR_SET_MM_MAP as u64),
        Arg::BytesWithPointer { bytes: map, pointer, target: auxv.to_vec() },
        Arg::Value(size),
        Arg::Value(0),
    ]
}

fn map_is_known() -> bool {
    let mut size = 0u32;
    // SAFETY: the kernel writes one number.
    unsafe { libc::prctl(libc::PR_SET_MM, PR_SET_MM_MAP_SIZE, &raw mut size, 0usize, 0usize) == 0 }
}

/// Whether single fields may be set: the right is looked at before the address, which is none.
fn may_set_fields() -> bool {
    // SAFETY: nothing is at address 0, so the kernel changes nothing.
    let done = unsafe { libc::prctl(libc::PR_SET_MM, PR_SET_MM_START_CODE, 0usize, 0usize, 0usize) };
    done == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}
