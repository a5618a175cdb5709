//! Which images make up what is restarted.
//!
//! ```text
//!   CKPTDIR/NAME.dmtcp                              given by the user
//!   CKPTDIR/.dmtcp-COMPUTATION/GENERATION/MANIFEST  decides whether that generation counts
//! ```
//! A checkpoint that was cut off after its decision has left older images under the public names: the newest decided
//! generation is taken instead, and the names are set right. Images that were copied elsewhere have no manifest; then
//! only their own identities can be compared.

use dmtcp_image::processor;
use dmtcp_image::read::{Error as ImageError, Image};
use dmtcp_protocol::manifest::{self, Manifest};
use dmtcp_protocol::message::ComputationId;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Why images cannot be restarted together.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// No image was named.
    #[error("no image is named: give the names of images that end in .dmtcp, or --restartdir DIR")]
    None,
    /// The directory cannot be read.
    #[error("cannot read the directory {}: {error}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// The directory has no images.
    #[error("there is no image (a name that ends in .dmtcp) in {}", .0.display())]
    Empty(PathBuf),
    /// The name is not an image's.
    #[error("{} does not end in .dmtcp: only images can be restarted", .0.display())]
    Name(PathBuf),
    /// The file is not a usable image.
    #[error("{} {error}", .path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The rest of the sentence.
        error: ImageError,
    },
    /// An image's computation is not a number.
    #[error("{} names no computation: it is damaged", .0.display())]
    NoComputation(PathBuf),
    /// Images of several computations.
    #[error("{} and {} belong to different computations: restart them separately", .0.display(), .1.display())]
    Computations(PathBuf, PathBuf),
    /// Images of several generations.
    #[error("{} is of generation {}, {} of generation {}: images of one generation belong together", .0.display(), .1, .2.display(), .3)]
    Generations(PathBuf, u64, PathBuf, u64),
    /// One process twice.
    #[error("{} and {} are images of the same process: name one of them", .0.display(), .1.display())]
    Twice(PathBuf, PathBuf),
    /// The generation was never decided.
    #[error("generation {generation} of {} was never completed: it is not consistent; use an older one", .path.display())]
    Undecided {
        /// An image.
        path: PathBuf,
        /// Its generation.
        generation: u64,
    },
    /// Images are missing.
    #[error("the computation has {wanted} processes, and {given} images are given{missing}")]
    Missing {
        /// How many there should be.
        wanted: u32,
        /// How many there are.
        given: usize,
        /// `: missing NAME, NAME` or nothing.
        missing: String,
    },
    /// The manifest cannot be understood.
    #[error("{} cannot be read: {reason}", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The images of one restart.
#[derive(Debug)]
pub struct Selection {
    /// The images.
    pub images: Vec<Image>,
    /// Their computation.
    pub computation: ComputationId,
    /// Their generation.
    pub generation: u64,
    /// How many processes the generation has on all hosts.
    pub processes: u32,
    /// Directory of the public names.
    pub directory: PathBuf,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// The names that the command line means.
pub fn names(images: &[PathBuf], directory: Option<&Path>) -> Result<Vec<PathBuf>, SelectError> {
    let is_image = |path: &Path| path.extension().is_some_and(|extension| extension == "dmtcp");
    if let Some(path) = directory {
        let failed = |error| SelectError::Directory { path: path.into(), error };
        let mut list = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            list.push(entry.map_err(failed)?.path());
        }
        list.retain(|path| is_image(path));
        list.sort();
        return if list.is_empty() { Err(SelectError::Empty(path.into())) } else { Ok(list) };
    }
    let skipped = |path: &&PathBuf| path.to_string_lossy().trim_end_matches('/').ends_with("_files");
    let list: Vec<PathBuf> = images.iter().filter(|path| !skipped(path)).cloned().collect();
    if let Some(path) = list.iter().find(|path| !is_image(path)) {
        return Err(SelectError::Name(path.clone()));
    }
    if list.is_empty() { Err(SelectError::None) } else { Ok(list) }
}

fn open(path: &Path) -> Result<Image, SelectError> {
    let mut image = Image::open(path).map_err(|error| SelectError::Image { path: path.into(), error })?;
    if image.restore.state_in_use & processor::KEY_RIGHTS != 0 {
        // For memory that can only be executed the kernel takes a protection key, which may be one that the process had:
        // the core makes it so when the process has its own again.
        let executable = image.regions.iter_mut().filter(|region| region.prot == libc::PROT_EXEC as u32);
        executable.for_each(|region| region.prot |= libc::PROT_READ as u32);
    }
    Ok(image)
}

fn computation(image: &Image) -> Result<ComputationId, SelectError> {
    let id = u128::from_str_radix(&image.identity.computation, 16);
    id.map(ComputationId).map_err(|_| SelectError::NoComputation(image.path.clone()))
}

/// Opens the named images, decides on their generation, and checks that they belong together. `partly` allows that
/// other images are restarted elsewhere although nothing says so.
pub fn select(names: &[PathBuf], partly: bool) -> Result<Selection, SelectError> {
    let mut images = names.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let id = computation(&images[0])?;
    for image in &images[1..] {
        if computation(image)? != id {
            return Err(SelectError::Computations(images[0].path.clone(), image.path.clone()));
        }
    }
    let mut notes = Vec::new();
    let place = Place::of(&images[0].path, id);
    let mut manifest = None;
    if let Some(root) = &place.root {
        let decided = match place.generation {
            Some(generation) => decided(root, generation)?,
            None => newest(root)?,
        };
        let Some(found) = decided else { return Err(undecided(&images[0])) };
        if images.iter().any(|image| image.identity.generation > found.generation) {
            return Err(undecided(&images[0]));
        }
        // Given by a name inside of a generation's directory, images are what they are.
        if place.generation.is_none() {
            notes.extend(roll_forward(&mut images, &found)?);
        }
        manifest = Some(found);
    }
    notes.extend(drop_ended(&mut images, manifest.as_ref()));
    belong_together(&images)?;
    complete(&images, manifest.as_ref(), partly)?;
    Ok(Selection {
        computation: id,
        generation: images[0].identity.generation,
        processes: images[0].identity.processes.max(images.len() as u32),
        directory: place.directory,
        images,
        notes,
    })
}

/// Where an image is, seen from the generations' directory.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Directory of the public names.
    directory: PathBuf,
    /// `CKPTDIR/.dmtcp-COMPUTATION`, if it is there.
    root: Option<PathBuf>,
    /// The generation, if the image is named by its place in that.
    generation: Option<u64>,
}

impl Place {
    fn of(image: &Path, id: ComputationId) -> Self {
        let absolute = std::path::absolute(image).unwrap_or_else(|_| image.into());
        let parent = absolute.parent().unwrap_or(Path::new("/"));
        let inside = parent
            .parent()
            .filter(|root| root.file_name().is_some_and(|name| name.to_string_lossy() == format!(".dmtcp-{id}")));
        if let Some(root) = inside {
            let generation = parent.file_name().and_then(|name| name.to_str()?.parse().ok());
            let directory = root.parent().unwrap_or(Path::new("/")).to_path_buf();
            return Self { directory, root: Some(root.into()), generation };
        }
        let root = PathBuf::from(manifest::computation_directory(&parent.to_string_lossy(), id));
        Self { directory: parent.into(), root: root.is_dir().then_some(root), generation: None }
    }
}

/// The manifest of a generation, if the generation was decided.
fn decided(root: &Path, generation: u64) -> Result<Option<Manifest>, SelectError> {
    let path = root.join(generation.to_string()).join(manifest::NAME);
    let failed = |reason: String| SelectError::Manifest { path: path.clone(), reason };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    let found: Manifest = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    if found.format > manifest::VERSION {
        return Err(failed(format!("its format {} is newer than this program", found.format)));
    }
    // The manifest that is written last stands in this directory, unless all was moved since.
    let decides = Path::new(&found.decided_in).join(manifest::NAME);
    let moved = !Path::new(&found.decided_in).exists();
    Ok((decides.exists() || moved).then_some(found))
}

/// The newest decided generation.
fn newest(root: &Path) -> Result<Option<Manifest>, SelectError> {
    let failed = |error| SelectError::Directory { path: root.into(), error };
    let mut generations = BTreeSet::new();
    for entry in std::fs::read_dir(root).map_err(failed)? {
        generations.extend(entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    for generation in generations.into_iter().rev() {
        if let Some(found) = decided(root, generation)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn undecided(image: &Image) -> SelectError {
    SelectError::Undecided { path: image.path.clone(), generation: image.identity.generation }
}

fn is_named(entry: &manifest::Image, path: &Path) -> bool {
    path.file_name().is_some() && Path::new(&entry.public_path).file_name() == path.file_name()
}

/// Takes the images of the decided generation where the names still mean older ones of the same processes, and sets the
/// names right on the way. Says so.
fn roll_forward(images: &mut Vec<Image>, manifest: &Manifest) -> Result<Option<String>, SelectError> {
    let missed = images.iter().any(|image| {
        image.identity.generation < manifest.generation
            && manifest.images.iter().any(|entry| is_named(entry, &image.path))
    });
    if !missed {
        return Ok(None);
    }
    let hosts: BTreeSet<String> = images.iter().map(|image| image.identity.host.clone()).collect();
    let directory = images[0].path.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut newer = Vec::new();
    for entry in manifest.images.iter().filter(|entry| hosts.contains(&entry.host)) {
        newer.push(open(Path::new(&entry.path))?);
        if let Some(name) = Path::new(&entry.public_path).file_name() {
            let public = directory.join(name);
            let temporary = public.with_extension("dmtcp.new");
            // A directory that cannot be written to only means that the same is found out again next time.
            let _ = std::fs::hard_link(&entry.path, &temporary).and_then(|()| std::fs::rename(&temporary, &public));
        }
    }
    *images = newer;
    let generation = manifest.generation;
    Ok(Some(format!("the last checkpoint was decided but its names were not set: restarting generation {generation}")))
}

/// Drops images of processes that had ended before the newest generation was taken, if that is there as a whole: their
/// names may have stayed. Says so.
fn drop_ended(images: &mut Vec<Image>, manifest: Option<&Manifest>) -> Option<String> {
    let newest = images.iter().map(|image| image.identity.generation).max()?;
    let is_new = |image: &Image| image.identity.generation == newest;
    let processes: BTreeSet<&str> =
        images.iter().filter(|image| is_new(image)).map(|image| image.identity.process.as_str()).collect();
    let wanted = images.iter().find(|image| is_new(image)).map_or(0, |image| image.identity.processes);
    let whole = processes.len() as u32 >= wanted || manifest.is_some_and(|manifest| manifest.generation == newest);
    let older = images.iter().filter(|image| !is_new(image)).count();
    if older == 0 || !whole {
        return None;
    }
    images.retain(is_new);
    Some(format!("restarting generation {newest}; {older} images of processes that had ended before it are skipped"))
}

fn belong_together(images: &[Image]) -> Result<(), SelectError> {
    let first = &images[0];
    for (index, image) in images.iter().enumerate() {
        let (a, b) = (first.identity.generation, image.identity.generation);
        if a != b {
            return Err(SelectError::Generations(first.path.clone(), a, image.path.clone(), b));
        }
        if let Some(same) = images[..index].iter().find(|other| other.identity.process == image.identity.process) {
            return Err(SelectError::Twice(same.path.clone(), image.path.clone()));
        }
    }
    Ok(())
}

fn complete(images: &[Image], manifest: Option<&Manifest>, partly: bool) -> Result<(), SelectError> {
    let wanted = images[0].identity.processes;
    if images.len() as u32 >= wanted {
        return Ok(());
    }
    let given: BTreeSet<_> = images.iter().filter_map(|image| image.path.file_name()).collect();
    let hosts: BTreeSet<_> = images.iter().map(|image| image.identity.host.as_str()).collect();
    let missing: Vec<&str> = manifest
        .iter()
        .flat_map(|manifest| &manifest.images)
        .filter(|entry| hosts.contains(entry.host.as_str()))
        .filter(|entry| !Path::new(&entry.public_path).file_name().is_some_and(|name| given.contains(name)))
        .map(|entry| entry.public_path.as_str())
        .collect();
    // Processes of other hosts are restarted there; without a manifest only the user knows.
    if missing.is_empty() && (manifest.is_some() || partly) {
        return Ok(());
    }
    let missing = if missing.is_empty() { String::new() } else { format!(": missing {}", missing.join(", ")) };
    Err(SelectError::Missing { wanted, given: images.len(), missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let list = ["a.dmtcp", "a_files", "b.dmtcp"].map(PathBuf::from);
        assert_eq!(names(&list, None).unwrap(), [PathBuf::from("a.dmtcp"), PathBuf::from("b.dmtcp")]);
        assert!(matches!(names(&[], None), Err(SelectError::None)));
        assert!(matches!(names(&["core".into()], None), Err(SelectError::Name(_))));
        assert!(matches!(names(&["a_files".into()], None), Err(SelectError::None)));
        assert!(matches!(names(&[], Some(Path::new("/nowhere"))), Err(SelectError::Directory { .. })));
    }

    #[test]
    fn a_place_inside_of_a_generation_is_recognized() {
        let id = ComputationId(0xabc);
        let path = format!("/ckpt/.dmtcp-{id}/17/ckpt_a_1.dmtcp");
        let place = Place::of(Path::new(&path), id);
        assert_eq!(place.directory, Path::new("/ckpt"));
        assert_eq!(place.generation, Some(17));
        assert_eq!(Place::of(Path::new("/ckpt/a.dmtcp"), id).root, None);
    }
}
