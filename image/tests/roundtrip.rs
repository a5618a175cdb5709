//! Images are written from memory and read back, by every method; no change of a byte and no cut goes unseen, and none
//! makes the reader fail in another way than by an error.

use dmtcp_image::codec::Method;
use dmtcp_image::expand::expand;
use dmtcp_image::plan::{Contents, Plan, Source};
use dmtcp_image::read::{Error, Image};
use dmtcp_image::record::{Identity, Region, Restore, kind};
use dmtcp_image::write::{self, Part, Pass, Sink};
use dmtcp_image::{CHUNK, PAGE};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const METHODS: [&str; 5] = ["none", "gzip", "gzip:9", "lz4", "zstd"];

struct ToFile(File);

impl Sink for ToFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), i32> {
        self.0.write_all_at(bytes, offset).map_err(|error| error.raw_os_error().unwrap_or(1))
    }
    fn copy(&mut self, address: u64, into: &mut [u8]) {
        // SAFETY: the extents of these tests are memory of these tests.
        into.copy_from_slice(unsafe { std::slice::from_raw_parts(address as *const u8, into.len()) });
    }
    fn set_length(&mut self, length: u64) -> Result<(), i32> {
        self.0.set_len(length).map_err(|error| error.raw_os_error().unwrap_or(1))
    }
    fn progress(&mut self, _: u64) -> Result<(), i32> {
        Ok(())
    }
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

/// Page-aligned memory: noise, text, zeros, in stretches of pages.
fn memory(pages: usize) -> Vec<[u64; PAGE as usize / 8]> {
    let mut dice = Dice(7);
    (0..pages)
        .map(|page| {
            let mut words = [0; PAGE as usize / 8];
            match page / 100 % 3 {
                0 => words.iter_mut().for_each(|word| *word = dice.roll(1 << 31) << 31 | dice.roll(1 << 31)),
                1 => words.iter_mut().enumerate().for_each(|(at, word)| *word = at as u64 / 5),
                _ => {}
            }
            words
        })
        .collect()
}

/// Addresses must be page aligned, and a vector's are not: the extents' addresses are their sources' rounded up.
fn aligned(bytes: &[u8]) -> &[u8] {
    let skip = bytes.as_ptr().align_offset(PAGE as usize);
    &bytes[skip..skip + (bytes.len() - skip) / PAGE as usize * PAGE as usize]
}

fn write_image(path: &Path, method: &str, bytes: &[u8], blob: &[u8], halves: bool) {
    let method = Method::parse(method).unwrap();
    let start = bytes.as_ptr() as u64;
    let gap = 8 * PAGE;
    let half = (bytes.len() as u64 / 2).next_multiple_of(PAGE);
    let end = start + bytes.len() as u64;
    let source = |from: u64, to: u64, shared| Source { address: from, length: to - from, copy: shared, shared };
    let identity = Identity { program: "test".into(), computation: "0".repeat(32), ..Identity::default() };
    // SAFETY: all-zero bytes are a valid record.
    let restore: Restore = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let region: Region = unsafe { std::mem::zeroed() };
    let contents = Contents {
        identity: serde_json::to_vec(&identity).unwrap(),
        restore: Some(restore),
        regions: vec![Region { start, end, prot: 3, kind: kind::ANONYMOUS, ..region }],
        debugger: vec![(b"CORE\0", 1, vec![1, 2, 3])],
        sections: vec![("plugin".into(), "section".into(), b"some text".to_vec())],
        blobs: vec![("plugin".into(), "blob".into(), 2)],
        extents: vec![
            (source(start, start + half, false), false),
            (source(start + half + gap, end, true), false),
            (source(blob.as_ptr() as u64, blob.as_ptr() as u64 + blob.len() as u64, true), true),
        ],
        method,
        ..Contents::default()
    };
    let mut plan = Plan::new(&contents);
    let mut sink = ToFile(File::options().create(true).truncate(true).write(true).read(true).open(path).unwrap());
    let mut buffer = vec![0; write::buffer_length(method)];
    if halves {
        let mut pass = Pass::begin(&plan, &mut sink).unwrap();
        for part in [Part::Shared, Part::Own] {
            // SAFETY: the memory is borrowed for as long as this runs.
            unsafe { pass.extents(&mut plan, &mut sink, &mut buffer, &[], part) }.unwrap();
        }
        assert!(Image::open(path).is_err(), "complete before its end");
        pass.end(&mut plan, &mut sink).unwrap();
    } else {
        // SAFETY: the memory is borrowed for as long as this runs.
        unsafe { write::write(&mut plan, &mut sink, &mut buffer, &[]) }.unwrap();
    }
}

fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn what_was_written_is_read() {
    let directory = directory("written-is-read");
    let pages = memory(1500);
    let bytes = aligned(bytemuck::cast_slice(&pages));
    let blob: Vec<u8> = (0..CHUNK + 77).map(|n| (n / 4096 % 3 * n) as u8).collect();
    for method in METHODS {
        for halves in [false, true] {
            let path = directory.join(format!("{method}-{halves}"));
            write_image(&path, method, bytes, &blob, halves);
            let image = Image::open(&path).unwrap_or_else(|error| panic!("{method}: the image {error}"));
            assert_eq!(image.is_compressed(), method != "none");
            assert_eq!(image.section("plugin", "section"), Some(&b"some text"[..]));
            image.verify().unwrap_or_else(|error| panic!("{method}: the image {error}"));
            for extent in &image.extents {
                let there = if extent.address == 0 {
                    &blob[..]
                } else {
                    &bytes[(extent.address - bytes.as_ptr() as u64) as usize..][..extent.length as usize]
                };
                let mut at = 0;
                image
                    .each_chunk(extent, |place, chunk| {
                        assert_eq!(place, at);
                        assert!(chunk == &there[place as usize..][..chunk.len()], "{method}: bytes differ");
                        at += chunk.len() as u64;
                        Ok::<(), Error>(())
                    })
                    .unwrap();
                assert_eq!(at, extent.length);
            }
            // A blob is where its extent says, whatever the method: restart halves of plugins read it there.
            let extent = image.extents[image.blobs[0].extent];
            let mut there = vec![0; blob.len()];
            image.file.read_exact_at(&mut there, extent.offset).unwrap();
            assert!(there == blob, "{method}");
        }
    }
}

#[test]
fn a_compressed_image_can_be_expanded() {
    let directory = directory("expanded");
    let pages = memory(700);
    let bytes = aligned(bytemuck::cast_slice(&pages));
    let (plain, core) = (directory.join("plain"), directory.join("core"));
    write_image(&plain, "none", bytes, b"a blob", false);
    for method in &METHODS[1..] {
        let path = directory.join(method);
        write_image(&path, method, bytes, b"a blob", false);
        let _ = std::fs::remove_file(&core);
        expand(&Image::open(&path).unwrap(), &core).unwrap();
        let image = Image::open(&core).unwrap();
        image.verify().unwrap();
        assert!(!image.is_compressed());
        assert!(std::fs::read(&plain).unwrap() == std::fs::read(&core).unwrap(), "{method}");
        assert!(expand(&image, &core).is_err(), "a file that is there was replaced");
        // A frame that is damaged leaves no core behind.
        let mut whole = std::fs::read(&path).unwrap();
        let middle = whole.len() / 2;
        whole[middle..middle + 64].fill(0xaa);
        std::fs::write(&path, whole).unwrap();
        std::fs::remove_file(&core).unwrap();
        assert!(expand(&Image::open(&path).unwrap(), &core).is_err());
        assert!(!core.exists());
    }
}

#[test]
fn a_compressed_image_is_smaller() {
    let directory = directory("smaller");
    let pages = memory(900);
    let bytes = aligned(bytemuck::cast_slice(&pages));
    let length = |method: &str| {
        let path = directory.join(method);
        write_image(&path, method, bytes, b"blob", false);
        path.metadata().unwrap().len()
    };
    let plain = length("none");
    for method in &METHODS[1..] {
        assert!(length(method) * 3 < plain * 2, "{method}");
    }
}

/// Opens and reads all that there is.
fn outcome(path: &Path) -> Result<(), Error> {
    Image::open(path)?.verify()
}

#[test]
fn no_cut_goes_unseen() {
    let directory = directory("cut");
    let pages = memory(350);
    let bytes = aligned(bytemuck::cast_slice(&pages));
    for method in METHODS {
        let path = directory.join(method);
        write_image(&path, method, bytes, b"a blob", false);
        let whole = std::fs::read(&path).unwrap();
        let mut dice = Dice(whole.len() as u64);
        let cuts = (0..200).map(|_| dice.roll(whole.len() as u64)).chain([0, 1, 63, 64, 4096, whole.len() as u64 - 1]);
        let cut_path = directory.join("cut");
        for cut in cuts {
            std::fs::write(&cut_path, &whole[..cut as usize]).unwrap();
            assert!(outcome(&cut_path).is_err(), "{method}: cut at {cut} of {}", whole.len());
        }
        std::fs::write(&cut_path, [&whole[..], b"more"].concat()).unwrap();
        assert!(outcome(&cut_path).is_err(), "{method}: longer than it was");
    }
}

#[test]
fn no_change_goes_unseen() {
    let directory = directory("changed");
    let pages = memory(350);
    let bytes = aligned(bytemuck::cast_slice(&pages));
    let blob = [5u8; 100];
    for method in METHODS {
        let path = directory.join(method);
        write_image(&path, method, bytes, &blob, false);
        let whole = std::fs::read(&path).unwrap();
        let image = Image::open(&path).unwrap();
        let mut dice = Dice(whole.len() as u64);
        let changed = directory.join("bit");
        let file = File::options().create(true).write(true).truncate(true).open(&changed).unwrap();
        file.write_all_at(&whole, 0).unwrap();
        let header = whole.len().min(3 * PAGE as usize) as u64;
        for turn in 0..1200u64 {
            // The tables deserve more looks than their share of the file.
            let at = match turn % 3 {
                0 => dice.roll(header),
                1 => whole.len() as u64 - 1 - dice.roll(400),
                _ => dice.roll(whole.len() as u64),
            };
            let bit = 1u8 << dice.roll(8);
            file.write_all_at(&[whole[at as usize] ^ bit], at).unwrap();
            if outcome(&changed).is_ok() {
                // Padding means nothing: behind a blob, behind the last frame, behind the owner of a note. And a frame
                // has bits that mean nothing, before a stored block of deflate or at its end. The memory is right.
                let blob_end = image.extents[image.blobs[0].extent].offset + blob.len() as u64;
                let trailer = u64::from_le_bytes(whole[128..136].try_into().unwrap());
                let padding = at >= blob_end && (whole[at as usize] == 0 || image.is_compressed() && at < trailer);
                assert!(padding, "{method}: bit {bit} of byte {at} of {} changed unseen", whole.len());
            }
            file.write_all_at(&whole[at as usize..=at as usize], at).unwrap();
        }
        outcome(&changed).unwrap();
    }
}

#[test]
fn tables_that_lie_are_refused() {
    // Many bytes at once, and the checksums made right again for the header: what remains are the checks of the tables.
    let directory = directory("lies");
    let pages = memory(40);
    let bytes = aligned(bytemuck::cast_slice(&pages));
    for method in METHODS {
        let path = directory.join(method);
        write_image(&path, method, bytes, b"blob", false);
        let whole = std::fs::read(&path).unwrap();
        let note_at = u64::from_le_bytes(whole[72..80].try_into().unwrap());
        let note_length = u64::from_le_bytes(whole[96..104].try_into().unwrap());
        let header_end = (note_at + note_length).next_multiple_of(PAGE) as usize;
        let trailer_at = u64::from_le_bytes(whole[128..136].try_into().unwrap()) as usize;
        let end_at = whole.len() - 32;
        let mut dice = Dice(99);
        for _ in 0..3000 {
            let mut lie = whole.clone();
            for _ in 0..=dice.roll(4) {
                let at = if dice.roll(4) == 0 {
                    trailer_at as u64 + dice.roll((end_at - trailer_at) as u64)
                } else {
                    note_at + dice.roll(note_length)
                };
                lie[at as usize] = match dice.roll(3) {
                    0 => 0xff,
                    1 => 0,
                    _ => dice.roll(256) as u8,
                };
            }
            let sum = dmtcp_image::sum::plain(&lie[..header_end]);
            lie[end_at + 8..end_at + 16].copy_from_slice(&sum.to_le_bytes());
            std::fs::write(directory.join("lie"), &lie).unwrap();
            // Whether it is refused depends on what was hit; it must not panic, hang, or take all memory.
            let _ = outcome(&directory.join("lie"));
        }
    }
}
