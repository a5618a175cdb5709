//! `--diff`: what differs between two images.
//!
//! Memory is compared page by page, by address, for pages that at least one of the images stores. It is read through the
//! checksums, so a damaged image is an error and not a difference.

use super::{InspectError, Thread, range, size};
use dmtcp_image::read::{Error, Image};
use dmtcp_image::record::{Extent, Region};
use dmtcp_image::{CHUNK, PAGE, sum};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Everything that differs. Pairs are of the first image and of the second.
#[derive(Serialize)]
struct Difference {
    images: [PathBuf; 2],
    identity: BTreeMap<String, [Value; 2]>,
    threads_gone: Vec<Thread>,
    threads_new: Vec<Thread>,
    mappings_gone: Vec<String>,
    mappings_new: Vec<String>,
    memory: Vec<Changed>,
    /// Lengths of sections that are not the same.
    sections: BTreeMap<String, [Option<usize>; 2]>,
}

/// A mapping whose content differs.
#[derive(Serialize)]
struct Changed {
    mapping: String,
    pages: u64,
}

/// Compares two images.
pub(super) fn run(first: &Path, second: &Path, json: bool) -> Result<String, InspectError> {
    let open = |path: &Path| Image::open(path).map_err(|error| InspectError::Image { path: path.to_path_buf(), error });
    let images = [&open(first)?, &open(second)?];
    let difference = Difference {
        images: [first.to_path_buf(), second.to_path_buf()],
        identity: identity(images),
        threads_gone: threads_only_in(images[0], images[1]),
        threads_new: threads_only_in(images[1], images[0]),
        mappings_gone: mappings_only_in(images[0], images[1]),
        mappings_new: mappings_only_in(images[1], images[0]),
        memory: memory(images)?,
        sections: sections(images),
    };
    if json {
        return Ok(serde_json::to_string(&difference).unwrap_or_default() + "\n");
    }
    Ok(difference.describe())
}

impl Difference {
    fn describe(&self) -> String {
        let mut out = format!("{}\n{}\n", self.images[0].display(), self.images[1].display());
        for (name, [first, second]) in &self.identity {
            let _ = writeln!(out, "  {name}: {first}, then {second}");
        }
        for (threads, what) in [(&self.threads_gone, "gone"), (&self.threads_new, "new")] {
            for thread in threads {
                let _ = writeln!(out, "  thread {what}: {} {}", thread.tid, thread.name);
            }
        }
        for (mappings, what) in [(&self.mappings_gone, "gone"), (&self.mappings_new, "new")] {
            for mapping in mappings {
                let _ = writeln!(out, "  mapping {what}: {mapping}");
            }
        }
        for changed in &self.memory {
            let _ = writeln!(out, "  memory: {} in {}", size(changed.pages * PAGE), changed.mapping);
        }
        for (name, lengths) in &self.sections {
            let length = |length: Option<usize>| length.map_or_else(|| "none".into(), |n| format!("{n} bytes"));
            let _ = writeln!(out, "  section {name}: {}, then {}", length(lengths[0]), length(lengths[1]));
        }
        out
    }
}

fn identity(images: [&Image; 2]) -> BTreeMap<String, [Value; 2]> {
    let [first, second] = images.map(|image| serde_json::to_value(&image.identity).unwrap_or_default());
    let names = first.as_object().into_iter().flatten().map(|(name, _)| name);
    let pair = |name: &String| [first[name].clone(), second[name].clone()];
    names.map(|name| (name.clone(), pair(name))).filter(|(_, [first, second])| first != second).collect()
}

fn threads_only_in(here: &Image, there: &Image) -> Vec<Thread> {
    let known: BTreeSet<i32> = there.threads.iter().map(|thread| thread.tid).collect();
    here.threads.iter().filter(|thread| !known.contains(&thread.tid)).map(Thread::from).collect()
}

fn mapping(image: &Image, region: &Region) -> String {
    format!("{} {}", range(region), image.name(region)).trim_end().to_owned()
}

fn mappings_only_in(here: &Image, there: &Image) -> Vec<String> {
    let known: BTreeSet<String> = there.regions.iter().map(|region| mapping(there, region)).collect();
    here.regions.iter().map(|region| mapping(here, region)).filter(|mapping| !known.contains(mapping)).collect()
}

fn sections(images: [&Image; 2]) -> BTreeMap<String, [Option<usize>; 2]> {
    let bytes = |image: usize, plugin: &str, name: &str| images[image].section(plugin, name);
    let all = images.into_iter().flat_map(|image| &image.sections);
    let differing = all.filter(|s| bytes(0, &s.plugin, &s.name) != bytes(1, &s.plugin, &s.name));
    let pair = |plugin: &str, name: &str| [0, 1].map(|image| bytes(image, plugin, name).map(<[u8]>::len));
    differing.map(|s| (format!("{}/{}", s.plugin, s.name), pair(&s.plugin, &s.name))).collect()
}

/// Pages that differ, by mapping of the first image.
fn memory(images: [&Image; 2]) -> Result<Vec<Changed>, InspectError> {
    let mut pages = images.map(Pages::new);
    let mut changed: Vec<(u64, Changed)> = Vec::new();
    for (start, end) in stored(images) {
        for address in (start..end).step_by(PAGE as usize) {
            let (Some(region), Some(_)) = (images[0].region_of(address), images[1].region_of(address)) else {
                continue;
            };
            let [first, second] = &mut pages;
            let (first, second) = (first.page(address)?, second.page(address)?);
            let same = match (first, second) {
                (Some(first), Some(second)) => first == second,
                (Some(page), None) | (None, Some(page)) => sum::is_zero(page),
                (None, None) => true,
            };
            if same {
                continue;
            }
            match changed.last_mut().filter(|(start, _)| *start == region.start) {
                Some((_, changed)) => changed.pages += 1,
                None => changed.push((region.start, Changed { mapping: mapping(images[0], region), pages: 1 })),
            }
        }
    }
    Ok(changed.into_iter().map(|(_, changed)| changed).collect())
}

/// Ranges of addresses that one of the images stores, in order and without overlap.
fn stored(images: [&Image; 2]) -> Vec<(u64, u64)> {
    let memory = images.into_iter().flat_map(|image| &image.extents).filter(|extent| extent.address != 0);
    let mut ranges: Vec<(u64, u64)> = memory.map(|e| (e.address, e.address + e.length)).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut().filter(|last| start <= last.1) {
            Some(last) => last.1 = last.1.max(end),
            None => merged.push((start, end)),
        }
    }
    merged
}

/// The memory of an image by address; the chunk that was read last is kept.
struct Pages<'a> {
    image: &'a Image,
    memory: Vec<Extent>,
    read: Option<(u64, u64)>,
    chunk: Vec<u8>,
    spare: Vec<u8>,
}

impl<'a> Pages<'a> {
    fn new(image: &'a Image) -> Self {
        let memory = image.extents.iter().filter(|extent| extent.address != 0).copied().collect();
        Self { image, memory, read: None, chunk: Vec::new(), spare: Vec::new() }
    }

    /// The bytes of a page; `None` if the image does not store it.
    fn page(&mut self, address: u64) -> Result<Option<&[u8]>, InspectError> {
        let after = self.memory.partition_point(|extent| extent.address <= address);
        let covering = self.memory[..after].last().filter(|extent| address < extent.address + extent.length);
        let Some(extent) = covering.copied() else { return Ok(None) };
        let index = (address - extent.address) / CHUNK;
        if self.read != Some((extent.address, index)) {
            let length = CHUNK.min(extent.length - index * CHUNK);
            self.chunk.resize(length as usize, 0);
            let read = self.image.read_chunk(&self.image.file, &extent, index, &mut self.chunk, &mut self.spare);
            read.map_err(|error: Error| InspectError::Image { path: self.image.path.clone(), error })?;
            self.read = Some((extent.address, index));
        }
        let at = (address - extent.address - index * CHUNK) as usize;
        Ok(self.chunk.get(at..at + PAGE as usize))
    }
}
