//! The service `descriptors`, which plugin `ipc` offers in a real process: here the test says what there is.

use crate::core::with_state;
use crate::image::Offered;
use dmtcp_plugin_api::descriptors::{Broker, Claimer, Descriptor};
use dmtcp_plugin_api::proc_files;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

pub static BROKER: Broker = Broker { size: size_of::<Broker>(), register };

extern "C" fn register(claimer: &'static Claimer) {
    with_state(|s| {
        s.claimers.push(claimer);
        s.claimers.sort_by_key(|c| c.priority);
    });
}

/// Offers descriptors to all claimers.
pub fn run(descriptors: &[BorrowedFd<'_>]) -> Vec<Offered> {
    let claimers = with_state(|s| s.claimers.clone());
    claimers.iter().for_each(|c| (c.begin)());
    let offered = descriptors.iter().map(|fd| offer(&claimers, fd.as_raw_fd())).collect();
    claimers.iter().for_each(|c| (c.describe)());
    offered
}

fn offer(claimers: &[&'static Claimer], number: i32) -> Offered {
    let link = proc_files::read_link(&format!("/proc/thread-self/fd/{number}")).unwrap_or_default();
    let info = proc_files::read_file(&format!("/proc/thread-self/fdinfo/{number}")).unwrap_or_default();
    // SAFETY: a stat of zeros is valid; fstat writes one.
    let (status, flags) = unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        assert_eq!(libc::fstat(number, &raw mut status), 0, "fd {number} has no status");
        (status, libc::fcntl(number, libc::F_GETFL))
    };
    let object = with_state(|s| s.new_object());
    let descriptor = Descriptor {
        object,
        number,
        copy: number,
        flags,
        mode: status.st_mode,
        device: status.st_dev,
        inode: status.st_ino,
        links: status.st_nlink,
        size: status.st_size,
        special: status.st_rdev,
        link: link.as_ptr(),
        link_length: link.len(),
        info: info.as_ptr(),
        info_length: info.len(),
        numbers: &raw const number,
        number_count: 1,
    };
    let owner = claimers.iter().find(|c| (c.claim)(&descriptor)).map(|c| {
        // SAFETY: a claimer's name is a static text with its zero.
        unsafe { CStr::from_ptr(c.name) }.to_string_lossy().into_owned()
    });
    Offered { number, object, owner }
}
