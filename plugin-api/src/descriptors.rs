//! The service `descriptors`: which descriptors are one open file description, and who saves it.
//!
//! Offered by plugin `ipc` (the broker). At PRECHECKPOINT the broker lists the application's descriptors, groups those
//! that are one open file description, gives each group an object number, and asks the claimers, in the order of their
//! priority, until one says that the object is its to save. What nobody claims is reported by name. Then every claimer's
//! `describe` is called, where it writes its section. At restart the claimer's restart half provides the object under its
//! number, and the broker's places the numbers and close-on-exec flags.

use crate::core::Core;
use std::ffi::{CStr, c_char};

/// Name of the service; its table is a [`Broker`].
pub const SERVICE: &CStr = c"descriptors";

/// One open file description of the application.
#[repr(C)]
#[derive(Debug)]
pub struct Descriptor {
    /// Its object number in this image.
    pub object: u64,
    /// Lowest descriptor number that refers to it.
    pub number: i32,
    /// A copy in the calling thread's own table; borrowed. Reading status through it is harmless; closing a copy of it
    /// drops nothing of the application's, since the table is not the application's.
    pub copy: i32,
    /// File status flags and access mode, as fcntl(F_GETFL) gives them.
    pub flags: i32,
    /// File type and mode, device and inode as fstat(2) gives them.
    pub mode: u32,
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Number of links.
    pub links: u64,
    /// Size in bytes.
    pub size: i64,
    /// Device that a device file stands for.
    pub special: u64,
    /// Text of the link in /proc/PID/fd.
    pub link: *const u8,
    /// Its length.
    pub link_length: usize,
    /// Text of /proc/PID/fdinfo.
    pub info: *const u8,
    /// Its length.
    pub info_length: usize,
    /// All descriptor numbers that refer to it, in ascending order.
    pub numbers: *const i32,
    /// How many.
    pub number_count: usize,
}

impl Descriptor {
    /// Text of the link in /proc/PID/fd.
    pub fn link(&self) -> &[u8] {
        // SAFETY: the broker keeps both texts alive while a claimer looks at the descriptor.
        unsafe { std::slice::from_raw_parts(self.link, self.link_length) }
    }

    /// All descriptor numbers that refer to it, in ascending order.
    pub fn numbers(&self) -> &[i32] {
        // SAFETY: as for `link`.
        unsafe { std::slice::from_raw_parts(self.numbers, self.number_count) }
    }

    /// Text of /proc/PID/fdinfo.
    pub fn info(&self) -> &[u8] {
        // SAFETY: as for `link`.
        unsafe { std::slice::from_raw_parts(self.info, self.info_length) }
    }

    /// A field of fdinfo by its name, without the colon and surrounding space.
    pub fn info_field(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.info())
            .ok()?
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    }
}

/// Somebody who can save open file descriptions of some kind.
#[repr(C)]
#[derive(Debug)]
pub struct Claimer {
    /// Name of the plugin.
    pub name: *const c_char,
    /// Smaller ones are asked first.
    pub priority: i32,
    /// A new round of claims begins: forget the last one.
    pub begin: extern "C" fn(),
    /// Whether the object is this claimer's to save; if so it notes what it needs.
    pub claim: extern "C" fn(&Descriptor) -> bool,
    /// All objects have been offered: write the section.
    pub describe: extern "C" fn(),
}

// SAFETY: the name is a static text.
unsafe impl Sync for Claimer {}

/// The broker.
#[repr(C)]
#[derive(Debug)]
pub struct Broker {
    /// `size_of::<Broker>()` of the broker; fields are only appended.
    pub size: usize,
    /// Makes a claimer known; at INIT.
    pub register: extern "C" fn(&'static Claimer),
}

/// Registers a claimer with the broker, if there is one.
pub fn register(core: Core, claimer: &'static Claimer) -> bool {
    // SAFETY: the service of this name is documented to be a `Broker`.
    match unsafe { core.find_service::<Broker>(SERVICE) } {
        Some(broker) => {
            (broker.register)(claimer);
            true
        }
        None => false,
    }
}
