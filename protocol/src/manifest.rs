//! The manifest of a generation: its being there makes the generation one that counts.
//!
//! ```text
//!   CKPTDIR/ckpt_PROG_ID.dmtcp                         what the user sees: hard link to the image below
//!   CKPTDIR/.dmtcp-COMPUTATION/GENERATION/MANIFEST     JSON of one [`Manifest`]
//!   CKPTDIR/.dmtcp-COMPUTATION/GENERATION/ckpt_PROG_ID.dmtcp
//! ```
//! Processes may have different checkpoint directories; each gets the same manifest. The one in
//! [`Manifest::decided_in`] is written last, and is the one that decides.

use crate::message::ComputationId;
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Version of the manifest's layout.
pub const VERSION: u32 = 1;
/// File name of a manifest.
pub const NAME: &str = "MANIFEST";

/// Directory below a checkpoint directory that holds all generations of a computation.
pub fn computation_directory(checkpoint_dir: &str, computation: ComputationId) -> String {
    format!("{}/.dmtcp-{computation}", checkpoint_dir.trim_end_matches('/'))
}

/// Directory of one generation below a checkpoint directory.
pub fn generation_directory(checkpoint_dir: &str, computation: ComputationId, generation: u64) -> String {
    format!("{}/{generation}", computation_directory(checkpoint_dir, computation))
}

/// One consistent set of images.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// [`VERSION`].
    pub format: u32,
    /// The computation, 32 hexadecimal digits.
    pub computation: String,
    /// The generation.
    pub generation: u64,
    /// The generation directory whose manifest is written last.
    pub decided_in: String,
    /// All images, whichever directory they are in.
    pub images: Vec<Image>,
}

/// An image of a generation.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub path: String,
    /// The name that the user sees.
    pub public_path: String,
    /// Name of the program.
    pub program: String,
    /// Pid as the application knows it.
    pub virtual_pid: i32,
    /// Host of the process.
    pub host: String,
    /// Bytes that the image takes on disk.
    pub bytes: u64,
}
