//! What a checkpoint needs beyond the limits that the application has set itself.
//!
//! An application may leave itself no address space, no data segment, no room for a file or a queued signal. Such limits
//! bind the calls that the checkpoint thread makes, too, but only at the moment of the call. So it raises a soft limit,
//! makes the call, and puts the limit back: the memory, the file and the signal stay. A hard limit can be raised by a
//! privileged process alone; where it cannot, the call fails as before.
//!
//! Only the checkpoint thread does this: two threads that raise one limit at a time would put back each other's.

use crate::{arena, sys};

/// A limit that has been raised, until this is dropped.
#[derive(Debug)]
pub struct Raised {
    resource: u32,
    before: [u64; 2],
}

impl Raised {
    /// Raises a limit (RLIMIT_*) as far as this process may; `None`: it may not, or has no limit.
    pub fn new(resource: u32) -> Option<Self> {
        let before = sys::limit(resource, None).ok()?;
        let possible = [[u64::MAX; 2], [before[1]; 2]];
        let raised = before[0] != u64::MAX
            && possible.into_iter().any(|to| to != before && sys::limit(resource, Some(to)).is_ok());
        raised.then_some(Self { resource, before })
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let _ = sys::limit(self.resource, Some(self.before));
    }
}

/// An anonymous private mapping, readable and writable, with further MAP_* flags. On the checkpoint thread the limits of
/// memory do not count, as far as it can raise them.
pub fn map(length: usize, flags: i32) -> Result<u64, i32> {
    map_with(length, libc::PROT_READ | libc::PROT_WRITE, flags)
}

/// As [`map`], with other PROT_* rights.
pub fn map_with(length: usize, prot: i32, flags: i32) -> Result<u64, i32> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    let map = || sys::map(0, length, prot, flags, -1, 0);
    match map() {
        // EAGAIN: all that is mapped is locked at once (mlockall), and there is a limit to that.
        Err(libc::ENOMEM | libc::EAGAIN) if arena::on_checkpoint_stack() => {
            let _raised = [libc::RLIMIT_AS, libc::RLIMIT_DATA, libc::RLIMIT_MEMLOCK].map(Raised::new);
            map()
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_and_put_back() {
        let before = sys::limit(libc::RLIMIT_CORE, None).unwrap();
        let low = [0, before[1]];
        sys::limit(libc::RLIMIT_CORE, Some(low)).unwrap();
        let raised = Raised::new(libc::RLIMIT_CORE);
        assert_eq!(raised.is_some(), before[1] != 0);
        assert!(sys::limit(libc::RLIMIT_CORE, None).unwrap()[0] >= before[1]);
        drop(raised);
        assert_eq!(sys::limit(libc::RLIMIT_CORE, None).unwrap(), low);
        sys::limit(libc::RLIMIT_CORE, Some(before)).unwrap();
    }
}
