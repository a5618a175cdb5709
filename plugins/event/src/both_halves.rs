//! What the in-process half says is enough for the restart half.

use crate::restart::Half;
use dmtcp_plugin_api::restart::Process;
use dmtcp_plugin_test::{FakeCore, FakeRestarter};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

fn owned(number: i32) -> OwnedFd {
    assert!(number >= 0);
    // SAFETY: the caller has just made it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[test]
fn an_eventfd_comes_back_with_its_count() {
    let core = FakeCore::new(&crate::dmtcp_plugin_v1);
    // SAFETY: no memory is passed.
    let event = owned(unsafe { libc::eventfd(5, libc::EFD_NONBLOCK | libc::EFD_SEMAPHORE) });
    let image = core.checkpoint(&[event.as_fd()]);
    core.resume();
    let object = image.object_of(event.as_raw_fd()).unwrap();
    let mut restarter = FakeRestarter::new();
    let index = restarter.process(Process::default(), &image);
    assert_eq!(restarter.check::<Half>(), Vec::<String>::new());
    restarter.create::<Half>().unwrap();
    let mut again = std::fs::File::from(restarter.object(object).unwrap().try_clone_to_owned().unwrap());
    let mut count = [0; 8];
    for _ in 0..5 {
        again.read_exact(&mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1, "a semaphore counts one by one");
    }
    assert_eq!(again.read(&mut count).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    again.write_all(&7u64.to_ne_bytes()).unwrap();
    assert_eq!(std::fs::File::from(event).read(&mut count).unwrap(), 8, "the one of before is another");
    assert!(restarter.explain::<Half>(index).contains("eventfd"));
}

#[test]
fn what_is_no_event_object_is_left_to_others() {
    let core = FakeCore::new(&crate::dmtcp_plugin_v1);
    let (reader, writer) = std::io::pipe().unwrap();
    let image = core.checkpoint(&[reader.as_fd(), writer.as_fd()]);
    assert!(image.descriptors.iter().all(|d| d.owner.is_none()), "{:?}", image.descriptors);
    assert_eq!((image.failure, image.unsupported), (None, Vec::new()));
}
