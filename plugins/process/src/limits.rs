//! Resource limits: put back at the very end, as far as this place allows.

use crate::state::Limit;
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::sys;

/// Names of the limits, by number.
pub const NAMES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// All limits.
pub fn look() -> Vec<Limit> {
    let look = |resource| Some(Limit { resource, limit: sys::limit(resource, None).ok()? });
    (0..NAMES.len() as u32).filter_map(look).collect()
}

/// What can be had of `wanted` where `here` holds and hard limits cannot be raised.
fn possible(wanted: [u64; 2], here: [u64; 2]) -> [u64; 2] {
    let hard = wanted[1].min(here[1]);
    [wanted[0].min(hard), hard]
}

/// Puts them back.
pub fn restore(core: Core, limits: &[Limit]) {
    for wanted in limits {
        let name = NAMES.get(wanted.resource as usize).copied().unwrap_or("?");
        let Ok(here) = sys::limit(wanted.resource, None) else { continue };
        if here == wanted.limit || sys::limit(wanted.resource, Some(wanted.limit)).is_ok() {
            continue;
        }
        let possible = possible(wanted.limit, here);
        let done = sys::limit(wanted.resource, Some(possible));
        core.log(
            Level::Warning,
            &format!("RLIMIT_{name} was {:?}, here it can only be {possible:?} ({done:?})", wanted.limit),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_raised_above_what_is_allowed() {
        assert_eq!(possible([1024, 4096], [256, 2048]), [1024, 2048]);
        assert_eq!(possible([4096, 4096], [256, 2048]), [2048, 2048]);
        assert_eq!(possible([64, 128], [256, 2048]), [64, 128]);
    }

    #[test]
    fn all_sixteen_are_seen() {
        let limits = look();
        assert_eq!(limits.len(), 16);
        assert!(limits.iter().all(|l| l.limit[0] <= l.limit[1]));
    }
}
