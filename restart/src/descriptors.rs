//! The restarter's own descriptors, kept out of the way of those that are restored.
//!
//! Everything that the restarter holds open is in one list: standard streams that it was started with, images, created
//! objects, and its own pipes. Plugins announce the numbers that they are about to place ([`Descriptors::keep_clear`]);
//! whatever of ours is there moves. In the end everything that was neither announced nor is ours is closed.

use nix::fcntl::{FcntlArg, fcntl};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// A descriptor of the restarter, whatever its number is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(usize);

/// All of them.
#[derive(Debug, Default)]
pub struct Descriptors {
    own: RefCell<Vec<RawFd>>,
    objects: RefCell<BTreeMap<u64, Handle>>,
    placed: RefCell<BTreeSet<RawFd>>,
    announced: Cell<bool>,
}

const CLOSED: RawFd = -1;

impl Descriptors {
    /// Puts a descriptor on the list.
    pub fn adopt(&self, descriptor: OwnedFd) -> Handle {
        let mut own = self.own.borrow_mut();
        own.push(descriptor.into_raw_fd());
        Handle(own.len() - 1)
    }

    /// Its number now; -1 once it is closed.
    pub fn number(&self, handle: Handle) -> RawFd {
        self.own.borrow()[handle.0]
    }

    /// Keeps a created object under its number; one that had the number before is closed.
    pub fn provide(&self, object: u64, descriptor: OwnedFd) {
        let handle = self.adopt(descriptor);
        if let Some(before) = self.objects.borrow_mut().insert(object, handle) {
            self.close(before);
        }
    }

    /// The descriptor of a created object.
    pub fn object(&self, object: u64) -> Option<RawFd> {
        self.objects.borrow().get(&object).map(|handle| self.number(*handle))
    }

    /// The descriptors of all created objects.
    pub fn objects(&self) -> BTreeMap<u64, RawFd> {
        self.objects.borrow().iter().map(|(object, handle)| (*object, self.number(*handle))).collect()
    }

    /// All created objects.
    pub fn object_handles(&self) -> Vec<Handle> {
        self.objects.borrow().values().copied().collect()
    }

    /// Closes one.
    pub fn close(&self, handle: Handle) {
        let number = std::mem::replace(&mut self.own.borrow_mut()[handle.0], CLOSED);
        if number >= 0 {
            // SAFETY: the list owns its descriptors, and the entry is gone.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }

    /// The numbers that plugins have announced.
    pub fn announced(&self) -> Vec<RawFd> {
        self.placed.borrow().iter().copied().collect()
    }

    /// Closes all but these.
    pub fn close_all_but(&self, keep: &[Handle]) {
        let count = self.own.borrow().len();
        for index in 0..count {
            if !keep.contains(&Handle(index)) {
                self.close(Handle(index));
            }
        }
    }

    /// Moves everything of ours off these numbers, and remembers that they will be in use.
    pub fn keep_clear(&self, numbers: &[RawFd]) -> io::Result<()> {
        self.announced.set(true);
        self.placed.borrow_mut().extend(numbers);
        let placed = self.placed.borrow();
        for number in self.own.borrow_mut().iter_mut().filter(|number| placed.contains(number)) {
            let mut least = 3;
            let moved = loop {
                while placed.contains(&least) {
                    least += 1;
                }
                // SAFETY: the list owns it, so it is open.
                let copy = fcntl(unsafe { BorrowedFd::borrow_raw(*number) }, FcntlArg::F_DUPFD_CLOEXEC(least))?;
                if !placed.contains(&copy) {
                    break copy;
                }
                // SAFETY: the copy was just made and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(copy) });
                least = copy + 1;
            };
            // SAFETY: the list owns it, and the entry is about to name the copy.
            drop(unsafe { OwnedFd::from_raw_fd(*number) });
            *number = moved;
        }
        Ok(())
    }

    /// Closes every descriptor of the process that is neither ours nor announced. If nothing was announced, no plugin
    /// cares for descriptors: then the process goes on with the standard streams that are there.
    pub fn close_strangers(&self) {
        let mut keep: BTreeSet<RawFd> = self.placed.borrow().clone();
        if !self.announced.get() {
            keep.extend([0, 1, 2]);
        }
        keep.extend(self.own.borrow().iter().copied());
        let mut at = 0u32;
        for number in keep.range(0..).map(|number| *number as u32).chain([u32::MAX]) {
            if number > at {
                // SAFETY: what is closed here belongs to libraries that are about to be unmapped, or was inherited.
                unsafe { libc::syscall(libc::SYS_close_range, at, number.saturating_sub(1).max(at), 0) };
            }
            at = number.saturating_add(1);
        }
    }
}

/// Lets this program, and what it becomes, use as many descriptors as the hard limit allows. Returns what was.
pub fn raise_limit() -> [u64; 2] {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return [u64::MAX; 2] };
    // Fewer than the application needs show in `keep_clear`.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    [soft, hard]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn own_descriptors_move_off_announced_numbers() {
        let list = Descriptors::default();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let handle = list.adopt(writer.into());
        let before = list.number(handle);
        list.keep_clear(&[before, before + 1]).unwrap();
        let after = list.number(handle);
        assert!(after != before && after != before + 1);
        // SAFETY: the list keeps it open.
        let copy = unsafe { BorrowedFd::borrow_raw(after) }.try_clone_to_owned().unwrap();
        std::fs::File::from(copy).write_all(b"x").unwrap();
        list.close(handle);
        assert_eq!(list.number(handle), -1);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn a_second_object_of_one_number_replaces_the_first() {
        let list = Descriptors::default();
        let open = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        list.provide(7, open());
        let first = list.object(7).unwrap();
        list.provide(7, open());
        assert_ne!(list.object(7), None);
        assert!(list.object(8).is_none());
        let _ = first;
    }
}
