//! Memory policy: on which NUMA nodes a thread, or a mapping, gets its pages.
//!
//! A thread's policy can be asked for and set by that thread alone, so it is kept in its slot. A mapping's is asked for by
//! address; where it has none, the kernel answers with the asking thread's, which therefore has to be the default then.
//! Kernels without NUMA, and sandboxes that forbid the question, have no policy to be kept.

use dmtcp_plugin_api::sys;

const DEFAULT: i32 = 0;
const MPOL_F_ADDR: usize = 2;
const MPOL_MF_MOVE: usize = 2;
/// Room for the nodes of the largest machines that Linux knows.
const WORDS: usize = 16;
/// As the kernel wants the number of nodes: one more than there are bits.
const NODES: usize = WORDS * 64 + 1;

/// A policy: zero is the default.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    mode: i32,
    unused: i32,
    nodes: [u64; WORDS],
}

fn get(address: u64, flags: usize) -> Result<Policy, i32> {
    let mut policy = Policy::default();
    let (mode, nodes) = ((&raw mut policy.mode) as usize, policy.nodes.as_mut_ptr() as usize);
    // SAFETY: the kernel writes an int and as many words as it is told that there are.
    unsafe { sys::call(libc::SYS_get_mempolicy as i32, [mode, nodes, NODES, address as usize, flags, 0]) }?;
    Ok(policy)
}

impl Policy {
    /// The calling thread's; the default where the kernel does not tell.
    pub fn of_thread() -> Self {
        get(0, 0).unwrap_or_default()
    }

    /// Whether it is nothing special.
    pub fn is_default(&self) -> bool {
        self.mode == DEFAULT
    }

    /// Makes it the calling thread's.
    pub fn set_for_thread(&self) -> Result<(), i32> {
        let nodes = if self.is_default() { [0, 0] } else { [self.nodes.as_ptr() as usize, NODES] };
        let arguments = [self.mode as usize, nodes[0], nodes[1], 0, 0, 0];
        // SAFETY: the kernel reads as many words as it is told that there are.
        unsafe { sys::call(libc::SYS_set_mempolicy as i32, arguments) }.map(drop)
    }

    /// Makes it that of a range of memory, and moves what is there already.
    pub fn set_for(&self, start: u64, end: u64) -> Result<(), i32> {
        let length = (end - start) as usize;
        let arguments = [start as usize, length, self.mode as usize, self.nodes.as_ptr() as usize, NODES, MPOL_MF_MOVE];
        // SAFETY: pages move, their content does not change.
        unsafe { sys::call(libc::SYS_mbind as i32, arguments) }.map(drop)
    }
}

/// Calls back for each of these ranges that has a policy of its own, as far as the kernel tells.
pub fn each(ranges: impl Iterator<Item = (u64, u64)>, mut found: impl FnMut(u64, u64, Policy)) {
    let own = Policy::of_thread();
    if !own.is_default() && Policy::default().set_for_thread().is_err() {
        return;
    }
    for (start, end) in ranges {
        match get(start, MPOL_F_ADDR) {
            Ok(policy) if !policy.is_default() => found(start, end, policy),
            Ok(_) | Err(libc::EFAULT) => {}
            Err(_) => break,
        }
    }
    if !own.is_default() {
        let _ = own.set_for_thread();
    }
}
