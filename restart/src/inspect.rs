//! dmtcp_inspect: what is in an image, for a person or as JSON.

use crate::plugins::Plugins;
use clap::Parser;
use dmtcp_image::read::{Error, Image};
use dmtcp_image::record::{Region, flag, kind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

mod diff;

/// Shows what is in checkpoint images.
#[derive(Parser, Debug)]
#[command(name = "dmtcp_inspect", version)]
pub struct Options {
    /// As JSON, one object per image
    #[arg(long, conflicts_with = "maps")]
    pub json: bool,
    /// The list of mappings, as in /proc/PID/maps, with the bytes that are stored of each
    #[arg(long)]
    pub maps: bool,
    /// Read everything and compare it with its checksums
    #[arg(long)]
    pub check: bool,
    /// What differs between two images, of one process as a rule
    #[arg(long, conflicts_with_all = ["maps", "to_core"])]
    pub diff: bool,
    /// Write the image uncompressed to this file, which debuggers open as a core
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "maps"])]
    pub to_core: Option<PathBuf>,
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
}

impl Options {
    /// The same, with the list of mappings if nothing else is asked for.
    pub fn or_maps(mut self) -> Self {
        self.maps |= !(self.json || self.diff || self.check || self.to_core.is_some());
        self
    }
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A file that cannot be shown.
    #[error("{} {error}", .path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The rest of the sentence.
        error: Error,
    },
    /// Other than two images to compare.
    #[error("--diff compares two images, not {0}: name two")]
    NotTwo(usize),
}

#[derive(Serialize)]
struct Summary<'a> {
    image: String,
    identity: &'a dmtcp_image::record::Identity,
    threads: Vec<Thread>,
    regions: usize,
    mapped_bytes: u64,
    stored_bytes: u64,
    memory: BTreeMap<&'static str, Kind>,
    sections: BTreeMap<&'a str, BTreeMap<&'a str, usize>>,
    blobs: BTreeMap<&'a str, BTreeMap<&'a str, u64>>,
}

#[derive(Serialize)]
struct Thread {
    tid: i32,
    name: String,
    checkpoint_thread: bool,
}

impl From<&dmtcp_image::record::Thread> for Thread {
    fn from(thread: &dmtcp_image::record::Thread) -> Self {
        let name = String::from_utf8_lossy(&thread.name).trim_end_matches('\0').into();
        Self { tid: thread.tid, name, checkpoint_thread: thread.role == 1 }
    }
}

#[derive(Serialize, Default)]
struct Kind {
    regions: usize,
    mapped_bytes: u64,
    stored_bytes: u64,
}

/// Everything that is asked for, as text.
pub fn run(options: &Options) -> Result<String, InspectError> {
    let mut out = String::new();
    if options.diff {
        let [first, second] = &options.images[..] else { return Err(InspectError::NotTwo(options.images.len())) };
        return diff::run(first, second, options.json);
    }
    for path in &options.images {
        let failed = |error| InspectError::Image { path: path.clone(), error };
        let image = Image::open(path).map_err(failed)?;
        if options.check {
            image.verify().map_err(failed)?;
        }
        if let Some(core) = &options.to_core {
            let at = |error: &Error| if matches!(error, Error::Io(_)) { core.clone() } else { path.clone() };
            dmtcp_image::expand::expand(&image, core)
                .map_err(|error| InspectError::Image { path: at(&error), error })?;
        } else if options.json {
            out.push_str(&serde_json::to_string(&summary(&image)).unwrap_or_default());
            out.push('\n');
        } else if options.maps {
            maps(&image, &mut out);
        } else {
            describe(image, &mut out, options.check);
        }
    }
    Ok(out)
}

fn kind_name(region: &Region) -> &'static str {
    match region.kind {
        kind::ANONYMOUS => "anonymous",
        kind::PRIVATE_FILE => "private file",
        kind::OBJECT => "shared",
        kind::VDSO | kind::VVAR => "vdso",
        kind::EMPTY => "recreated empty",
        kind::ORPHAN => "shared, unclaimed",
        _ => "unknown",
    }
}

fn stored_in(image: &Image, region: &Region) -> u64 {
    let first = image.extents.partition_point(|extent| extent.address != 0 && extent.address < region.start);
    let here = image.extents[first..].iter().take_while(|e| e.address != 0 && e.address < region.end);
    here.map(|extent| extent.length).sum()
}

fn summary(image: &Image) -> Summary<'_> {
    let mut memory: BTreeMap<&'static str, Kind> = BTreeMap::new();
    for region in &image.regions {
        let entry = memory.entry(kind_name(region)).or_default();
        entry.regions += 1;
        entry.mapped_bytes += region.end - region.start;
        entry.stored_bytes += stored_in(image, region);
    }
    let mut sections: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for section in &image.sections {
        sections.entry(&section.plugin).or_default().insert(&section.name, section.bytes.len());
    }
    let mut blobs: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for blob in &image.blobs {
        blobs.entry(&blob.plugin).or_default().insert(&blob.name, blob.length);
    }
    Summary {
        image: image.path.display().to_string(),
        identity: &image.identity,
        threads: image.threads.iter().map(Thread::from).collect(),
        regions: image.regions.len(),
        mapped_bytes: image.regions.iter().map(|region| region.end - region.start).sum(),
        stored_bytes: image.stored(),
        memory,
        sections,
        blobs,
    }
}

/// A number of bytes for a person.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// Addresses and protection of a region, as in /proc/PID/maps.
fn range(region: &Region) -> String {
    let bit = |bits: u32, letter: char| if region.prot & bits != 0 { letter } else { '-' };
    let share = if region.kind == kind::OBJECT || region.flags & flag::SHARED != 0 { 's' } else { 'p' };
    format!("{:08x}-{:08x} {}{}{}{share}", region.start, region.end, bit(1, 'r'), bit(2, 'w'), bit(4, 'x'))
}

fn maps(image: &Image, out: &mut String) {
    for region in &image.regions {
        let _ = writeln!(
            out,
            "{} {:08x} {:02x}:{:02x} {:<10} {:>10} {}",
            range(region),
            region.offset,
            region.dev_major,
            region.dev_minor,
            region.inode,
            size(stored_in(image, region)),
            image.name(region),
        );
    }
}

/// A point of time, given in seconds since 1970; those that have no date (a damaged image's) as they are.
fn moment(seconds: u64) -> String {
    const FIRST_WITHOUT_DATE: u64 = 253_402_300_800;
    if seconds < FIRST_WITHOUT_DATE {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    } else {
        format!("{seconds} s after 1970")
    }
}

fn describe(image: Image, out: &mut String, checked: bool) {
    {
        let summary = summary(&image);
        let id = summary.identity;
        let _ = writeln!(out, "{}", summary.image);
        let _ = writeln!(out, "  program      {} (pid {}): {}", id.program, id.pid, id.args.join(" "));
        let _ = writeln!(out, "  directory    {}", id.cwd);
        let _ = writeln!(out, "  user         {}:{} on {}, Linux {}", id.uid, id.gid, id.host, id.kernel);
        let _ = writeln!(out, "  computation  {}, generation {}", id.computation, id.generation);
        let _ = writeln!(out, "  processes    {}", id.processes);
        let _ = writeln!(out, "  taken        {}, by core {}", moment(id.taken), id.core_version);
        let names: Vec<_> = summary.threads.iter().map(|t| format!("{} {}", t.tid, t.name)).collect();
        let _ = writeln!(out, "  threads      {}: {}", names.len(), names.join(", "));
        let (mapped, stored) = (size(summary.mapped_bytes), size(summary.stored_bytes));
        let _ = writeln!(out, "  memory       {} mappings, {mapped}, {stored} stored", summary.regions);
        for (name, kind) in &summary.memory {
            let (mapped, stored) = (size(kind.mapped_bytes), size(kind.stored_bytes));
            let _ = writeln!(out, "    {name:<18} {:>5}  {mapped:>10}  {stored:>10} stored", kind.regions);
        }
        if checked {
            let _ = writeln!(out, "  checksums    right");
        }
    }
    let loaded: Vec<_> = image.identity.plugins.iter().map(|p| format!("{} {}", p.name, p.version)).collect();
    let _ = writeln!(out, "  plugins      {}", loaded.join(", "));
    match Plugins::load(vec![image], 2) {
        Ok(plugins) => {
            for (name, text) in plugins.explain(0) {
                let _ = writeln!(out, "  {name}");
                for line in text.lines() {
                    let _ = writeln!(out, "    {line}");
                }
            }
        }
        Err(errors) => {
            for error in errors {
                let _ = writeln!(out, "  ({error})");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(12), "12 B");
        assert_eq!(size(4096), "4.0 KiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
    }
}
