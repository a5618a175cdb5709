//! Staging: every region's bytes are brought into memory of the restarter, checked, before anything is given up.
//!
//! Each region becomes one mapping at a place that is congruent to its own modulo 2 MiB (then moving it costs nothing),
//! with its final protection and flags: whatever can fail, fails here, with all of std at hand. Reading and checking is
//! shared by a few ordinary threads that are gone before the stub starts.
//!
//! Private mappings of files are made from the file again where it is still there, so that /proc/PID/maps shows it and
//! unchanged pages stay shared; every page is compared with the image all the same.

use crate::gaps::Gaps;
use crate::holes::Holes;
use crate::kernel;
use crate::layout::{self, FromImage, Placement, Source};
use crate::original::{self, Original};
use crate::progress::Progress;
use crate::report;
use dmtcp_image::read::{Error as ImageError, Image};
use dmtcp_image::record::{Extent, Region, flag, kind};
use dmtcp_image::{CHUNK, PAGE, sum};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why memory cannot be staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// No room.
    #[error("no free addresses for the {length} bytes of memory at {start:x}")]
    NoRoom {
        /// Where they belong.
        start: u64,
        /// How many.
        length: u64,
    },
    /// The kernel refused a mapping.
    #[error("cannot make memory for {start:x}-{end:x} {name}: {error}")]
    Map {
        /// First address.
        start: u64,
        /// Address after the last.
        end: u64,
        /// The region's name.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// An object that memory is shared with was not made.
    #[error(
        "memory at {start:x} ({name}) is shared with an object that no plugin made: restart with the plugins that were loaded"
    )]
    NoObject {
        /// First address.
        start: u64,
        /// The region's name.
        name: String,
    },
    /// The image cannot be read.
    #[error("{} cannot be read: {error}", .image.display())]
    Read {
        /// The image.
        image: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The image's bytes are not those that were written.
    #[error(
        "{} is damaged: the memory of {address:x} does not match its checksum; use another copy or an older generation",
        .image.display()
    )]
    Damaged {
        /// The image.
        image: PathBuf,
        /// First address of the chunk.
        address: u64,
    },
}

/// Below this many bytes one thread is as fast as several.
const WORTH_THREADS: u64 = 16 << 20;
/// More threads than this wait for memory, not for the processor.
const MAX_THREADS: usize = 16;
/// Moving is free when both addresses are the same modulo this.
const MODULUS: u64 = 2 << 20;
/// Regions of this size are aligned so that the kernel moves whole gigabytes.
const HUGE: u64 = 1 << 30;

/// A run of an image to be read: one chunk of an extent, for this place.
struct Job {
    extent: Extent,
    chunk: u64,
    to: u64,
    /// The place is a mapping of a file: only what differs is written.
    backed: bool,
}

/// Where memory comes from.
pub struct Stage<'a> {
    /// The image.
    pub image: &'a Image,
    /// Its file, by the number that it has now.
    file: RawFd,
    /// Where warnings go.
    stderr: RawFd,
    /// Whether memory is mapped from the image and not read; a compressed one is always read.
    pub lazy: bool,
    /// Objects that plugins made, by their number.
    objects: BTreeMap<u64, RawFd>,
    /// The extents of memory, by address.
    memory: Vec<Extent>,
}

impl<'a> Stage<'a> {
    /// Memory of this image, whose file must stay open under this number.
    pub fn new(image: &'a Image, file: RawFd, stderr: RawFd, lazy: bool, objects: BTreeMap<u64, RawFd>) -> Self {
        let lazy = lazy && !image.is_compressed();
        let memory = image.extents.iter().filter(|extent| extent.address != 0).copied().collect();
        Self { image, file, stderr, lazy, objects, memory }
    }

    /// Stages all memory of the image.
    pub fn all(&self, gaps: &mut Gaps, progress: Progress) -> Result<Vec<Placement>, StageError> {
        let mut placements = Vec::with_capacity(self.image.regions.len());
        let mut jobs = Vec::new();
        for region in self.regions() {
            let source = self.source(region, gaps, &mut jobs)?;
            placements.push(Placement { region: *region, anon_name: self.anon_name(region), source });
        }
        self.fill(&jobs, progress)?;
        for placement in &placements {
            self.finish(placement)?;
        }
        Ok(placements)
    }

    /// The regions that are memory of the process and not of the kernel.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        let special =
            |region: &Region| matches!(region.kind, kind::VDSO | kind::VVAR) || self.image.name(region) == "[vsyscall]";
        self.image.regions.iter().filter(move |region| !special(region))
    }

    /// NAME of a region that is called `[anon:NAME]`.
    pub fn anon_name(&self, region: &Region) -> Option<String> {
        let name = self.image.name(region).strip_prefix("[anon:")?.strip_suffix(']')?;
        Some(name.to_owned())
    }

    /// The descriptor of the object that a region is shared with.
    pub fn object(&self, region: &Region) -> Result<RawFd, StageError> {
        let no_object = || StageError::NoObject { start: region.start, name: self.image.name(region).into() };
        self.objects.get(&region.object).copied().ok_or_else(no_object)
    }

    /// Takes addresses for a region: its own, or some from which moving it will be free. The kernel joins a mapping that has
    /// never moved with what is mapped or protected beside it later, as it would have done without a restart.
    pub fn room(&self, region: &Region, gaps: &mut Gaps) -> Result<u64, StageError> {
        let length = region.end - region.start;
        let modulus = if length >= HUGE { HUGE } else { MODULUS };
        let home = gaps.is_free_now(&(region.start..region.end)).then_some(region.start);
        home.or_else(|| gaps.take(length, region.start, modulus))
            .ok_or(StageError::NoRoom { start: region.start, length })
    }

    /// What the image has of a region.
    pub fn runs(&self, region: &Region) -> Vec<FromImage> {
        let run = |e: &Extent| FromImage { address: e.address, length: e.length, offset: e.offset };
        self.extents(region).iter().map(run).collect()
    }

    /// Calls `f` with the address and the bytes of each run of a region that is not all zeros.
    pub fn each_data<E: From<StageError>>(
        &self,
        region: &Region,
        mut f: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_chunk(region, |address, chunk| {
            sum::for_each_run(chunk, |offset, run| f(address + offset as u64, run))
        })
    }

    /// Calls `f` with the address and the bytes of each checked chunk of a region.
    pub fn each_chunk<E: From<StageError>>(
        &self,
        region: &Region,
        mut f: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // SAFETY: the caller keeps the descriptor open while this runs; the value is never dropped as an owner.
        let file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(self.file) });
        let mut buffer = vec![0; CHUNK as usize];
        let mut spare = Vec::new();
        for extent in self.extents(region) {
            for index in 0..extent.length.div_ceil(CHUNK) {
                let at = index * CHUNK;
                let chunk = &mut buffer[..CHUNK.min(extent.length - at) as usize];
                self.read_chunk(&file, extent, index, chunk, &mut spare)?;
                f(extent.address + at, chunk)?;
            }
        }
        Ok(())
    }

    fn read_chunk(
        &self,
        file: &File,
        extent: &Extent,
        index: u64,
        chunk: &mut [u8],
        spare: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        self.image.read_chunk(file, extent, index, chunk, spare).map_err(|error| match error {
            ImageError::Io(error) => self.unreadable(error),
            _ => self.damaged(extent.address + index * CHUNK),
        })
    }

    /// The bytes of the vdso that the process had.
    pub fn vdso_bytes(&self) -> Result<Option<Vec<u8>>, StageError> {
        let region = self.image.regions.iter().find(|region| region.kind == kind::VDSO);
        region.map(|region| self.bytes(region)).transpose()
    }

    /// All bytes of a small region, checked.
    fn bytes(&self, region: &Region) -> Result<Vec<u8>, StageError> {
        let mut bytes = vec![0; (region.end - region.start) as usize];
        self.each_data(region, |address, run| -> Result<(), StageError> {
            bytes[(address - region.start) as usize..][..run.len()].copy_from_slice(run);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Stages a region with these bytes; the value is where.
    pub fn bring(&self, region: &Region, bytes: &[u8], gaps: &mut Gaps) -> Result<u64, StageError> {
        let length = region.end - region.start;
        let at = self.room(region, gaps)?;
        let failed = |error| self.map_error(region, error);
        kernel::map_anonymous(at, length, libc::PROT_READ | libc::PROT_WRITE, 0).map_err(failed)?;
        // SAFETY: the mapping was just made, is writable, and as long as the region whose bytes these are.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len().min(length as usize)) };
        kernel::protect(at, length, region.prot as i32).map_err(failed)?;
        Ok(at)
    }

    fn damaged(&self, address: u64) -> StageError {
        StageError::Damaged { image: self.image.path.clone(), address }
    }

    fn unreadable(&self, error: io::Error) -> StageError {
        StageError::Read { image: self.image.path.clone(), error }
    }

    fn map_error(&self, region: &Region, error: io::Error) -> StageError {
        StageError::Map { start: region.start, end: region.end, name: self.image.name(region).into(), error }
    }

    /// A region's extents.
    fn extents(&self, region: &Region) -> &[Extent] {
        let from = |address: u64| self.memory.partition_point(|extent| extent.address < address);
        &self.memory[from(region.start)..from(region.end)]
    }

    fn source(&self, region: &Region, gaps: &mut Gaps, jobs: &mut Vec<Job>) -> Result<Source, StageError> {
        let length = region.end - region.start;
        let failed = |error| self.map_error(region, error);
        if region.kind == kind::OBJECT {
            let at = self.room(region, gaps)?;
            let object = self.object(region)?;
            kernel::map_file(at, length, region.prot as i32, libc::MAP_SHARED, object, region.offset)
                .map_err(failed)?;
            return Ok(Source::Staged(at));
        }
        let extents = self.extents(region);
        let original = self.original(region);
        if original.is_none() && self.is_fresh(region) {
            return Ok(Source::Fresh(self.runs(region)));
        }
        let at = self.room(region, gaps)?;
        let backed = original.is_some_and(|original| self.map_original(region, &original, at));
        if !backed {
            if self.is_fresh(region) {
                return Ok(Source::Fresh(Vec::new()));
            }
            let map = |flags| kernel::map_anonymous(at, length, libc::PROT_READ | libc::PROT_WRITE, flags);
            self.map_pages(region, map).map_err(failed)?;
        }
        // Huge pages have to be asked for before the memory is touched.
        for advice in layout::advice(region.flags) {
            let _ = kernel::advise(at, length, advice);
        }
        for extent in extents {
            for chunk in 0..extent.length.div_ceil(CHUNK) {
                let to = at + (extent.address - region.start) + chunk * CHUNK;
                jobs.push(Job { extent: *extent, chunk, to, backed });
            }
        }
        Ok(Source::Staged(at))
    }

    /// Whether the stub maps the region. Huge pages may not be there, which it could say to nobody.
    pub fn is_fresh(&self, region: &Region) -> bool {
        layout::huge_pages(region) == 0 && (self.lazy || self.extents(region).is_empty())
    }

    /// Has memory mapped for a region, given the flags: huge pages, if it had them and they are there.
    pub fn map_pages<E: std::fmt::Display>(
        &self,
        region: &Region,
        map: impl Fn(i32) -> Result<(), E>,
    ) -> Result<(), E> {
        let (flags, huge) = (layout::map_flags(region), layout::huge_pages(region));
        if huge == 0 {
            return map(flags);
        }
        // What is not reserved may be missing when it is written to.
        map(flags & !libc::MAP_NORESERVE | huge).or_else(|error| {
            let text = format!(
                "dmtcp_restart: warning: memory at {:x} had pages of the hugetlb pool, and gets ordinary ones: {error}; see /proc/sys/vm/nr_hugepages\n",
                region.start
            );
            report::write(self.stderr, &text);
            map(flags)
        })
    }

    /// The file that a region was a private mapping of, if memory is made from it again.
    pub fn original(&self, region: &Region) -> Option<Original> {
        if self.lazy { None } else { Original::of(region, self.image.name(region), self.extents(region)) }
    }

    /// Maps that file.
    fn map_original(&self, region: &Region, original: &Original, at: u64) -> bool {
        let file = original.file.as_raw_fd();
        if kernel::map_file(
            at,
            region.end - region.start,
            original::prot(region),
            libc::MAP_PRIVATE,
            file,
            region.offset,
        )
        .is_err()
        {
            return false;
        }
        for zeros in &original.zeros {
            let place = (at + (zeros.start - region.start)) as *mut u8;
            // SAFETY: the mapping was just made, is writable, and backed by the file as far as the image has it.
            let gap = unsafe { std::slice::from_raw_parts_mut(place, (zeros.end - zeros.start) as usize) };
            for page in gap.chunks_mut(PAGE as usize).filter(|page| !sum::is_zero(page)) {
                page.fill(0);
            }
        }
        true
    }

    /// Reads and checks all bytes.
    fn fill(&self, jobs: &[Job], progress: Progress) -> Result<(), StageError> {
        // SAFETY: the caller keeps the descriptor open while this runs; the value is never dropped as an owner.
        let file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(self.file) });
        let stored = if self.image.is_compressed() { &[][..] } else { &self.memory };
        // SAFETY: as above.
        let holes = Holes::of(unsafe { BorrowedFd::borrow_raw(self.file) }, stored);
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), StageError> {
            let mut buffers = (Vec::new(), Vec::new());
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.read(&file, &holes, job, &mut buffers)?;
                progress.add(CHUNK.min(job.extent.length - job.chunk * CHUNK));
            }
            Ok(())
        };
        let bytes = jobs.len() as u64 * CHUNK;
        let threads = if bytes < WORTH_THREADS { 1 } else { kernel::allowed_cpus().min(MAX_THREADS) };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            others.into_iter().map(|other| other.join().expect("a panic aborts the process")).fold(own, Result::and)
        })
    }

    /// Does one job. The buffers are kept between jobs: one for pages to be compared, one for compressed bytes.
    fn read(
        &self,
        file: &File,
        holes: &Holes,
        job: &Job,
        (bounce, spare): &mut (Vec<u8>, Vec<u8>),
    ) -> Result<(), StageError> {
        let extent = &job.extent;
        let at = job.chunk * CHUNK;
        let length = CHUNK.min(extent.length - at);
        // SAFETY: the job's place is a part of a staged mapping, writable, that no other job covers.
        let place = unsafe { std::slice::from_raw_parts_mut(job.to as *mut u8, length as usize) };
        let chunk: &mut [u8] = if job.backed {
            bounce.clear();
            bounce.resize(length as usize, 0);
            bounce
        } else {
            place
        };
        if self.image.is_compressed() {
            self.read_chunk(file, extent, job.chunk, chunk, spare)?;
        } else if self.read_data(file, holes, extent.offset + at, chunk)? != self.image.chunk_sum(extent, job.chunk) {
            return Err(self.damaged(extent.address + at));
        }
        if job.backed {
            // SAFETY: as above; `chunk` is the other buffer in this case.
            let place = unsafe { std::slice::from_raw_parts_mut(job.to as *mut u8, length as usize) };
            let _ = kernel::advise(job.to, length, libc::MADV_POPULATE_READ);
            for (old, new) in place.chunks_mut(PAGE as usize).zip(bounce.chunks(PAGE as usize)) {
                if old != new {
                    old.copy_from_slice(new);
                }
            }
        }
        Ok(())
    }

    /// Reads what is no hole into a chunk that is zero; the value is its checksum.
    fn read_data(&self, file: &File, holes: &Holes, offset: u64, chunk: &mut [u8]) -> Result<Option<u64>, StageError> {
        let mut total = 0;
        for run in holes.data(offset..offset + chunk.len() as u64) {
            let start = (run.start - offset) as usize;
            let bytes = &mut chunk[start..(run.end - offset) as usize];
            file.read_exact_at(bytes, run.start).map_err(|error| self.unreadable(error))?;
            let _: Result<(), std::convert::Infallible> = sum::for_each_run(bytes, |within, run| {
                total = sum::advance(total, start + within, run);
                Ok(())
            });
        }
        Ok(Some(total))
    }

    /// Gives a staged region its protection.
    fn finish(&self, placement: &Placement) -> Result<(), StageError> {
        let region = &placement.region;
        let Source::Staged(at) = placement.source else { return Ok(()) };
        if region.kind == kind::OBJECT {
            for advice in layout::advice(region.flags & !flag::HUGETLB) {
                let _ = kernel::advise(at, region.end - region.start, advice);
            }
            return Ok(());
        }
        kernel::protect(at, region.end - region.start, region.prot as i32)
            .map_err(|error| self.map_error(region, error))
    }
}
