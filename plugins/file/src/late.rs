//! What can only be put back when the memory stands: the seal that forbids mappings which existed before it.

use crate::state::{Files, Origin, What};
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::sys;

const F_ADD_SEALS: i32 = 1033;
/// F_SEAL_FUTURE_WRITE: no new writable mappings; those that were there stay.
pub const FUTURE_WRITE: i32 = 0x10;
/// F_SEAL_SEAL: no more seals.
pub const NO_MORE: i32 = 0x1;

/// Number of a descriptor and the seals to add through it.
static SEALS: Round<Vec<(i32, i32)>> = Round::new(Vec::new());

/// The seals of a memfd that must wait until it is mapped: all from the first that would be in the way.
pub fn late_seals(seals: i32) -> i32 {
    if seals & FUTURE_WRITE == 0 { 0 } else { seals & (FUTURE_WRITE | NO_MORE) }
}

/// Notes what there is to do after a restart.
pub fn remember(files: &Files) {
    let wanted = files.nameless.iter().filter_map(|nameless| {
        let Origin::Memfd(_, seals) = nameless.origin else { return None };
        let open = files.opens.iter().find(|o| o.what == What::Nameless(nameless.content.object) && o.writes())?;
        (late_seals(seals) != 0).then(|| (open.number(), late_seals(seals)))
    });
    let wanted: Vec<_> = wanted.collect();
    SEALS.with(|seals| *seals = wanted);
}

/// The hook for RESTART.
pub fn restore(core: Core) {
    for (number, seals) in SEALS.take() {
        let done = core.copy_descriptor(number).and_then(|c| sys::fcntl(c.number(), F_ADD_SEALS, seals as usize));
        if let Err(error) = done {
            core.log(Level::Warning, &format!("fd {number}: seals {seals:#x} cannot be set again: error {error}"));
        }
    }
}
