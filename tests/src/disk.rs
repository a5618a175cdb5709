//! Disks that are full or cannot be written: a file system of its own over the directory of a case's images.

use crate::scenario::Scenario;
use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A tmpfs of so many MiB over the directory of the images, for this case alone.
pub fn small_disk(s: &Scenario, mib: usize) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let size = format!("size={mib}m,mode=700");
    mount(Some("none"), s.image_directory(), Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))?;
    s.run_as().own(s.image_directory())
}

/// Mounts it again with other flags or options.
pub fn remount(s: &Scenario, flags: MsFlags, options: &str) -> Result<()> {
    let none: Option<&str> = None;
    mount(none, s.image_directory(), none, MsFlags::MS_REMOUNT | flags, Some(options))
        .with_context(|| format!("cannot remount {} with {options}", s.image_directory().display()))
}
