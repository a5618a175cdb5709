//! What a generation is on disk: claiming its number, committing it, giving its images their names.
//!
//! ```text
//!   claim     mkdir CKPTDIR/.dmtcp-COMPUTATION/GENERATION           nobody else uses that number
//!   commit    every image is on the disk (the workers' fsync, ours for those that have left)
//!             MANIFEST in each directory: write, fsync, rename, fsync the directory; the deciding one last
//!             ------------------------------------------------------ the generation counts from here on
//!   flip      CKPTDIR/NAME -> the new image, restart script; names of processes that are no more go
//!   remove    older generations of the same computation in the same directories, but for the complete ones to keep
//! ```
//! Before the line every failure fails the generation and leaves the older one as it was. Behind it nothing can fail
//! the generation any more: what goes wrong is reported, and dmtcp_restart rolls a missed flip forward.

use crate::script;
pub use crate::script::Script;
use dmtcp_protocol::manifest::{self, Manifest};
use dmtcp_protocol::message::{ComputationId, Join, Written};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// How many numbers in a row may be taken before the search for a free one is given up.
const MOST_TAKEN: u64 = 10_000;

/// Why a generation cannot be committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An image is not where images of this generation belong.
    #[error("{program} wrote its image to {path}, which is no place for generation {generation}")]
    Misplaced {
        /// The program.
        program: String,
        /// The image.
        path: String,
        /// The generation.
        generation: u64,
    },
    /// An image is not there or cannot be brought to the disk.
    #[error("cannot bring the image {path} to the disk: {error}")]
    Sync {
        /// The image.
        path: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The manifest cannot be written.
    #[error("cannot write {}: {error}", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// An image that takes part in a commit.
pub struct Image<'a> {
    /// What its process said of it.
    pub written: &'a Written,
    /// The process.
    pub join: &'a Join,
    /// Whether the process has brought it to the disk.
    pub synced: bool,
}

/// What is left to do and to say after a commit.
#[derive(Debug, Default)]
pub struct Committed {
    /// What went wrong behind the commit point.
    pub warnings: Vec<String>,
    /// Directories of older generations.
    pub obsolete: Vec<PathBuf>,
}

/// A generation number that nobody else uses in the checkpoint directories that can be reached from here.
pub struct Claim {
    computation: ComputationId,
    generation: u64,
    directories: Vec<PathBuf>,
}

impl Claim {
    /// Claims the first free number from `first` on, by creating the generation's directories.
    ///
    /// Two computations restarted from the same image share a directory: a number is only free if neither uses it. A
    /// directory that cannot be written from here (another host's) is left to its workers.
    pub fn take<'a>(directories: impl Iterator<Item = &'a str>, computation: ComputationId, first: u64) -> Self {
        let places: BTreeSet<&str> = directories.collect();
        for place in &places {
            // If this fails, so does the next step.
            let _ = create_private(Path::new(&manifest::computation_directory(place, computation)));
        }
        let mut claim = Self { computation, generation: first, directories: Vec::new() };
        while claim.generation < first + MOST_TAKEN {
            let taken = places.iter().any(|place| {
                let directory = PathBuf::from(manifest::generation_directory(place, computation, claim.generation));
                match create_private(&directory) {
                    Ok(()) => {
                        claim.directories.push(directory);
                        false
                    }
                    Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
                }
            });
            if !taken {
                break;
            }
            for directory in claim.directories.drain(..) {
                // Just created, and empty; a leftover would only skip a number.
                let _ = std::fs::remove_dir(directory);
            }
            claim.generation += 1;
        }
        claim
    }

    /// The number.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Removes what there is of a generation that will not be.
    pub fn discard<'a>(self, images: impl Iterator<Item = &'a Written>) {
        let mut directories: BTreeSet<PathBuf> = self.directories.into_iter().collect();
        directories.extend(images.filter_map(|image| placed_in(image, self.computation, self.generation)));
        for directory in directories {
            // A worker may be writing to it still: the next commit removes what is left.
            let _ = std::fs::remove_dir_all(&directory);
            if let Some(parent) = directory.parent() {
                // Only if no other generation is there.
                let _ = std::fs::remove_dir(parent);
            }
        }
    }
}

/// Commits a generation and gives its images their names; `keep` complete ones stay, this one among them.
pub fn commit(
    computation: ComputationId,
    generation: u64,
    images: &[Image],
    script: &Script,
    keep: u32,
) -> Result<Committed, CommitError> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for image in images {
        let written = image.written;
        let directory = placed_in(written, computation, generation).ok_or_else(|| CommitError::Misplaced {
            program: image.join.program.clone(),
            path: written.path.clone(),
            generation,
        })?;
        if !directories.contains(&directory) {
            directories.push(directory);
        }
        if !image.synced {
            sync(Path::new(&written.path)).map_err(|error| CommitError::Sync { path: written.path.clone(), error })?;
        }
    }
    let text = describe(computation, generation, images, directories.first());
    for directory in directories.iter().rev() {
        write_manifest(directory, &text)?;
    }
    let mut committed = Committed::default();
    for image in images {
        if let Err(error) = flip(image.written, generation) {
            let name = &image.written.public_path;
            committed.warnings.push(format!(
                "the checkpoint is complete, but {name} still names the older image: {error}; dmtcp_restart will see to it"
            ));
        }
    }
    if let Err((path, error)) = script::write(script, computation, generation, images) {
        committed.warnings.push(format!(
            "the checkpoint is complete, but the restart script {} could not be written: {error}",
            path.display()
        ));
    }
    // All that the user sees is of this generation before he is told of it.
    directories.iter().flat_map(|directory| obsolete(directory, generation, 1)).for_each(|older| forget_names(&older));
    committed.obsolete = directories.iter().flat_map(|directory| obsolete(directory, generation, keep)).collect();
    Ok(committed)
}

/// Removes the public names that still name an image of an older generation: those of processes that have ended since, or
/// that have executed another program.
fn forget_names(older: &Path) {
    for entry in std::fs::read_dir(older).into_iter().flatten().flatten() {
        let Some(public) = older.ancestors().nth(2).map(|place| place.join(entry.file_name())) else { continue };
        let identity = |path: &Path| std::fs::symlink_metadata(path).map(|m| (m.dev(), m.ino())).ok();
        if identity(&public).is_some_and(|named| Some(named) == identity(&entry.path())) {
            let _ = std::fs::remove_file(&public);
        }
    }
}

/// The generation directory that an image is in, if it is where it should be.
fn placed_in(written: &Written, computation: ComputationId, generation: u64) -> Option<PathBuf> {
    let (path, public) = (Path::new(&written.path), Path::new(&written.public_path));
    let plain = |path: &Path| path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    let place = public.parent()?.to_str()?;
    let directory = PathBuf::from(manifest::generation_directory(place, computation, generation));
    (plain(path) && plain(public) && path.parent() == Some(&directory)).then_some(directory)
}

fn describe(computation: ComputationId, generation: u64, images: &[Image], decided_in: Option<&PathBuf>) -> String {
    let manifest = Manifest {
        format: manifest::VERSION,
        computation: computation.to_string(),
        generation,
        decided_in: decided_in.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        images: images
            .iter()
            .map(|image| manifest::Image {
                path: image.written.path.clone(),
                public_path: image.written.public_path.clone(),
                program: image.join.program.clone(),
                virtual_pid: image.join.virtual_pid,
                host: image.join.host.clone(),
                bytes: image.written.bytes,
            })
            .collect(),
    };
    // Strings and numbers always make JSON.
    serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n"
}

fn write_manifest(directory: &Path, text: &str) -> Result<(), CommitError> {
    let path = directory.join(manifest::NAME);
    let temporary = directory.join(format!(".{}.tmp", manifest::NAME));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        // The name, the generation's directory and the computation's are on the disk only now.
        directory.ancestors().take(3).try_for_each(sync)
    };
    write().map_err(|error| CommitError::Manifest { path: path.clone(), error })
}

/// Lets the name that the user sees name the new image.
fn flip(written: &Written, generation: u64) -> io::Result<()> {
    let public = Path::new(&written.public_path);
    let name = public.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = public.with_file_name(format!(".{name}.tmp-{generation}-{}", std::process::id()));
    // Left by a coordinator that died here.
    let _ = std::fs::remove_file(&temporary);
    std::fs::hard_link(&written.path, &temporary).or_else(|_| std::fs::copy(&written.path, &temporary).map(drop))?;
    std::fs::rename(&temporary, public).inspect_err(|_| {
        // Nobody looks for it under this name.
        let _ = std::fs::remove_file(&temporary);
    })
}

/// Directories of older generations beside this one that are not to be kept.
fn obsolete(directory: &Path, generation: u64, keep: u32) -> Vec<PathBuf> {
    let Some(entries) = directory.parent().and_then(|parent| std::fs::read_dir(parent).ok()) else { return Vec::new() };
    let number = |entry: std::fs::DirEntry| Some((entry.file_name().to_str()?.parse::<u64>().ok()?, entry.path()));
    let mut older: Vec<_> = entries.filter_map(|entry| number(entry.ok()?)).filter(|(n, _)| *n < generation).collect();
    older.sort_by(|a, b| b.cmp(a));
    let mut kept = 1;
    older.retain(|(_, path)| {
        let keeps = kept < keep && path.join(manifest::NAME).exists();
        kept += u32::from(keeps);
        !keeps
    });
    older.into_iter().map(|(_, path)| path).collect()
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn create_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(directory)
}
