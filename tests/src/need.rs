//! What a case needs that not every machine or run has: a feature of the kernel that is not forbidden, a feature of the
//! processor, a capability. A case without it is reported as ignored, with the reason.

use crate::cpuset;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::fs;

/// Something that a case cannot do without.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A kernel feature that `DMTCP_TEST_FORBID` may forbid, and what is lost without it, as docs/limitations.md says.
    Feature(&'static str, &'static str),
    /// Protection keys of the processor.
    ProtectionKeys,
    /// A control group of fewer processors than there are.
    Cpuset,
    /// CAP_SYS_RESOURCE, which containers take away even from root.
    SysResource,
}

impl Need {
    /// Where the kernel is told nothing about the memory of a process.
    pub const MM_MAP: Need =
        Need::Feature("mm_map", "/proc/self has the command line, environment and heap of another start");
    /// Where monotonic time is the machine's.
    pub const TIME_NAMESPACE: Need = Need::Feature("time_namespace", "monotonic time goes back after a reboot");

    /// Where a restart may choose ids.
    pub const CHOSEN_IDS: Need = Need::Feature("clone3_set_tid", "ids come back translated only");
    /// Where a restart may have a pid namespace of its own.
    pub const PID_NAMESPACE: Need = Need::Feature("pid_namespace", "no restart can be told to make one");

    /// Why the case cannot run, if it cannot.
    pub fn obstacle(self) -> Option<String> {
        match self {
            Need::Feature(name, lost) => is_forbidden(name).then(|| format!("without {name}, {lost}")),
            Need::ProtectionKeys => (!has_protection_keys())
                .then(|| "this processor has no protection keys; that of other-kernel has".into()),
            Need::Cpuset => (!cpuset::is_possible()).then(|| "no control group of one processor can be made".into()),
            Need::SysResource => {
                (!has_sys_resource()).then(|| "needs CAP_SYS_RESOURCE, which root has in other-kernel".into())
            }
        }
    }
}

/// Whether this run is to do without a feature of the kernel.
pub fn is_forbidden(feature: &str) -> bool {
    let forbidden = std::env::var("DMTCP_TEST_FORBID").unwrap_or_default();
    forbidden.split(',').any(|name| name == feature)
}

fn has_protection_keys() -> bool {
    const STRUCTURED: u32 = 7;
    const OSPKE: u32 = 1 << 4;
    __cpuid(0).eax >= STRUCTURED && __cpuid_count(STRUCTURED, 0).ecx & OSPKE != 0
}

fn has_sys_resource() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    effective.is_some_and(|mask| mask & 1 << CAP_SYS_RESOURCE != 0)
}
