//! What the restarter leaves in memory for the code that it brings back.
//!
//! ```text
//!   stub, on the first task                      stub, on every other task (made before any memory was unmapped)
//!     lays out memory                              waits on `go`
//!     enter_process(&handoff)  -- returns
//!     go = 1, wake
//!     enter_task(slot of the first task)           enter_task(slot of this task)
//! ```
//! Both entry points are in restored memory (`image::record::Restore`). They run on the stub's stacks, with no thread
//! pointer set; `enter_task` leaves the stub for ever and counts itself in `left`. When `left == tasks`, the mapping
//! `stub_start..+stub_length`, which holds this structure too, may be unmapped.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// First field of [`Handoff`].
pub const MAGIC: u64 = u64::from_le_bytes(*b"DMTCPHND");
/// Version of this layout; the restored core refuses another one.
pub const VERSION: u32 = 2;

/// Lives in the stub's mapping.
#[repr(C)]
#[derive(Debug)]
pub struct Handoff {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Number of tasks of this process.
    pub tasks: u32,
    /// Futex word: 0 until memory stands, then 1.
    pub go: u32,
    /// Number of tasks that have left the stub; changed atomically by `enter_task`.
    pub left: u32,
    /// Address of the postcard bytes of [`RestartInfo`], inside the stub's mapping.
    pub info: u64,
    /// Their length.
    pub info_length: u64,
    /// The stub's mapping.
    pub stub_start: u64,
    /// Its length.
    pub stub_length: u64,
}

/// Everything that a restored process is told.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct RestartInfo {
    /// Coordinator to connect to.
    pub coord_host: String,
    /// Its port.
    pub coord_port: u16,
    /// The key's 32 bytes.
    pub key: Vec<u8>,
    /// Generation that the process is restored from.
    pub generation: u64,
    /// Directory for the next images; empty: as before.
    pub checkpoint_dir: String,
    /// Scratch directory.
    pub tmpdir: String,
    /// Environment of dmtcp_restart, `NAME=VALUE` each.
    pub environment: Vec<Vec<u8>>,
    /// Name of the table by which ids are translated (`plugin_api::ids`); empty: tasks have the ids that they had.
    pub ids: String,
}
