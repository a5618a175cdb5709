//! For unit tests of plugins: runs the in-process half against a core that only pretends, and the restart half against
//! such a restarter. Nothing is checkpointed; what crosses between the halves is what would be in the image.
//!
//! ```text
//!   FakeCore::new(&dmtcp_plugin_v1)     init, INIT
//!     .checkpoint(&[descriptors])       claims, PRECHECKPOINT -> Image: sections, blobs, claims, complaints
//!     .resume() / .restart()            RESUME, RUNNING / PLACED, RESTART, RUNNING
//!   FakeRestarter::new()
//!     .process(ids, image)              -> index
//!     .check / .create / .place / .explain::<Half>()
//! ```
//! A test is one process with one copy of the plugin's statics, so there is one [`FakeCore`] at a time: a second test that
//! wants one waits. The test's own thread plays the checkpoint thread, and the test's descriptors and mappings play those
//! of the application.
//!
//! What this cannot show: that hooks call no libc, that wrappers are wired, that memory comes back. The tests of whole
//! programs do that.

mod broker;
mod core;
mod exchange;
mod image;
mod restarter;

pub use crate::core::FakeCore;
pub use image::{Image, Offered};
pub use restarter::FakeRestarter;
