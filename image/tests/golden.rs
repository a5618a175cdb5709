//! Golden images: one of each way to store memory, of each version of the format that was ever released. They are read
//! for ever. A test that fails here says that images of users cannot be read any more: repair the reader.
//!
//! `tests/golden/VERSION-METHOD.dmtcp` were written by the test `golden_images_of_this_version_are_made`, which is run by
//! hand when the format gets a new version, and writes none that is there.
//!
//! `tests/reader.py` is a reader of its own, written after docs/image-format.md. It must see what ours sees.

use dmtcp_image::codec::Method;
use dmtcp_image::expand::expand;
use dmtcp_image::plan::{Contents, Plan, Source};
use dmtcp_image::read::Image;
use dmtcp_image::record::{Identity, Region, Restore, Thread, flag, kind};
use dmtcp_image::write::{self, Sink};
use dmtcp_image::{CHUNK, FORMAT_VERSION, PAGE};
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const METHODS: [&str; 4] = ["none", "gzip", "lz4", "zstd"];
const HEAP: u64 = 0x5555_0000_0000;
const TEXT: u64 = 0x7f00_0000_0000;
const SHARED: u64 = 0x7f10_0000_0000;
const VDSO: u64 = 0x7fff_0000_0000;
const BLOB: u64 = 1 << 62;
const BLOB_LENGTH: u64 = 5000;

/// What stands at an address of the process.
fn byte(address: u64) -> u8 {
    match (address / PAGE) % 64 {
        // Words, as of a program; numbers, as of its data; nothing, as of most of its memory.
        0 | 5 => b"checkpoint and restart of a process "[(address % 36) as usize],
        3 => (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8,
        _ => 0,
    }
}

struct ToFile(File);

impl Sink for ToFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), i32> {
        self.0.write_all_at(bytes, offset).map_err(|error| error.raw_os_error().unwrap_or(1))
    }
    fn copy(&mut self, address: u64, into: &mut [u8]) {
        into.iter_mut().zip(address..).for_each(|(byte_here, at)| *byte_here = byte(at));
    }
    fn set_length(&mut self, length: u64) -> Result<(), i32> {
        self.0.set_len(length).map_err(|error| error.raw_os_error().unwrap_or(1))
    }
    fn progress(&mut self, _: u64) -> Result<(), i32> {
        Ok(())
    }
}

/// As version 1 wrote it. What later programs add to it must be something that may be missing.
const IDENTITY: &str = r#"{"computation":"0123456789abcdef0123456789abcdef","generation":3,"processes":2,"process":"fedcba9876543210fedcba9876543210","host":"host","kernel":"6.1.0","pid":1234,"ppid":1,"pgid":1234,"sid":1000,"uid":1000,"gid":100,"program":"program","exe":"/usr/bin/program","args":["program","an argument"],"cwd":"/home/user","checkpoint_dir":"/images","image_name":"ckpt_program_fedcba9876543210.dmtcp","taken":1700000000,"monotonic":123456789,"core_version":"0.1.0","plugins":[{"name":"file","version":"0.1.0","path":"/lib/libdmtcp_file.so"}],"cpu_features":["sse2","avx"],"cpu_state":[{"number":2,"offset":576,"size":256}]}"#;

fn identity() -> Identity {
    serde_json::from_str(IDENTITY).unwrap()
}

fn contents(method: Method) -> Contents {
    let mut names = Vec::new();
    let mut region = |start: u64, pages: u64, prot: u32, kind: u32, name: &str| {
        let name_offset = names.len() as u32;
        names.extend_from_slice(name.as_bytes());
        Region {
            start,
            end: start + pages * PAGE,
            offset: 0,
            inode: 0,
            object: 0,
            flags: 0,
            dev_major: 0,
            dev_minor: 0,
            prot,
            kind,
            name_offset,
            name_length: name.len() as u32,
        }
    };
    let regions = vec![
        Region { flags: flag::ACCOUNTED | flag::NOHUGEPAGE, ..region(HEAP, 1024, 3, kind::ANONYMOUS, "[heap]") },
        Region {
            offset: 2 * PAGE,
            inode: 77,
            dev_major: 8,
            ..region(TEXT, 8, 5, kind::PRIVATE_FILE, "/usr/bin/program")
        },
        Region { object: 9, flags: flag::SHARED, ..region(SHARED, 4, 3, kind::OBJECT, "/dev/shm/object") },
        region(VDSO - 4 * PAGE, 4, 1, kind::VVAR, "[vvar]"),
        region(VDSO, 2, 5, kind::VDSO, "[vdso]"),
    ];
    let thread = |tid: i32, role: u32, slot: u64, name: &[u8; 7]| Thread {
        tid,
        role,
        slot,
        name: std::array::from_fn(|at| name.get(at).copied().unwrap_or(0)),
    };
    let memory = |address: u64, length: u64| (Source { address, length, copy: true, shared: false }, false);
    Contents {
        identity: IDENTITY.as_bytes().to_vec(),
        restore: Some(Restore {
            enter_process: TEXT + 16,
            enter_task: TEXT + 32,
            mm: std::array::from_fn(|at| at as u64 * PAGE),
            vdso_start: VDSO,
            vdso_length: 2 * PAGE,
            vvar_start: VDSO - 4 * PAGE,
            vvar_length: 4 * PAGE,
            state_in_use: 7,
            xcomp_perm: 0,
            xstate_size: 832,
            personality: 0,
        }),
        regions,
        names,
        threads: vec![
            thread(1234, 2, 0, b"program"),
            thread(1235, 0, HEAP, b"work\0\0\0"),
            thread(1236, 1, TEXT, b"dmtcp\0\0"),
        ],
        debugger: vec![(b"CORE\0", 6, vec![0; 16]), (b"LINUX\0", 0x202, vec![1; 33])],
        sections: vec![
            ("file".into(), "descriptors".into(), br#"{"descriptors":[]}"#.to_vec()),
            ("file".into(), "empty".into(), Vec::new()),
        ],
        blobs: vec![("file".into(), "content".into(), 4)],
        extents: vec![
            memory(HEAP, CHUNK + 6 * PAGE),
            memory(HEAP + 2 * CHUNK, 4 * PAGE),
            memory(TEXT, 8 * PAGE),
            memory(VDSO, 2 * PAGE),
            (Source { address: BLOB, length: BLOB_LENGTH, copy: true, shared: true }, true),
        ],
        method,
    }
}

fn path(version: u32, method: &str) -> PathBuf {
    let name = format!("{version}-{method}.dmtcp");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn write_image(path: &Path, method: &str) {
    let method = Method::parse(method).unwrap();
    let mut plan = Plan::new(&contents(method));
    let mut sink = ToFile(File::options().create_new(true).write(true).open(path).unwrap());
    let mut buffer = vec![0; write::buffer_length(method)];
    // SAFETY: every extent asks for a copy, which the sink makes up: no memory is read.
    unsafe { write::write(&mut plan, &mut sink, &mut buffer, &[]) }.unwrap();
}

#[test]
#[ignore = "writes files of the source tree, once for each version of the format"]
fn golden_images_of_this_version_are_made() {
    for method in METHODS.iter().filter(|method| !path(FORMAT_VERSION, method).exists()) {
        write_image(&path(FORMAT_VERSION, method), method);
    }
}

fn all() -> Vec<(String, PathBuf)> {
    let versions = 1..=FORMAT_VERSION;
    let names =
        versions.flat_map(|version| METHODS.map(|method| (format!("{version}-{method}"), path(version, method))));
    names.collect()
}

#[test]
fn golden_images_are_read() {
    let wanted = contents(Method::None);
    for (name, path) in all() {
        let image = Image::open(&path).unwrap_or_else(|error| panic!("{name} {error}"));
        assert_eq!(format!("{:?}", image.identity), format!("{:?}", identity()), "{name}");
        assert_eq!(bytemuck::bytes_of(&image.restore), bytemuck::bytes_of(&wanted.restore.unwrap()), "{name}");
        assert_eq!(
            bytemuck::cast_slice::<_, u8>(&image.regions),
            bytemuck::cast_slice::<_, u8>(&wanted.regions),
            "{name}"
        );
        assert_eq!(
            bytemuck::cast_slice::<_, u8>(&image.threads),
            bytemuck::cast_slice::<_, u8>(&wanted.threads),
            "{name}"
        );
        assert_eq!(image.regions.iter().map(|r| image.name(r)).collect::<String>().as_bytes(), wanted.names, "{name}");
        assert_eq!(image.section("file", "descriptors"), Some(&br#"{"descriptors":[]}"#[..]), "{name}");
        assert_eq!(image.section("file", "empty"), Some(&[][..]), "{name}");
        assert_eq!(image.debugger.len(), 2, "{name}");
        let blob = image.blob("file", "content").unwrap_or_else(|| panic!("{name}: no blob"));
        assert_eq!((blob.extent, blob.length), (4, BLOB_LENGTH), "{name}");
        image.verify().unwrap_or_else(|error| panic!("{name} {error}"));
        for (extent, (source, _)) in image.extents.iter().zip(&wanted.extents) {
            let mut length = 0;
            let read = image.each_chunk(extent, |place, chunk| {
                let right = chunk.iter().zip(source.address + place..).all(|(found, at)| *found == byte(at));
                assert!(right, "{name}: the bytes of {:x}", source.address + place);
                length = place + chunk.len() as u64;
                Ok::<(), dmtcp_image::read::Error>(())
            });
            read.unwrap_or_else(|error| panic!("{name} {error}"));
            assert_eq!(length, source.length, "{name}");
        }
    }
}

#[test]
fn golden_images_become_cores() {
    let directory = tempfile::tempdir().unwrap();
    for (name, path) in all() {
        let core = directory.path().join(&name);
        expand(&Image::open(&path).unwrap(), &core).unwrap_or_else(|error| panic!("{name} {error}"));
        let core = Image::open(&core).unwrap_or_else(|error| panic!("the core of {name} {error}"));
        core.verify().unwrap_or_else(|error| panic!("the core of {name} {error}"));
    }
}

/// What reader.py prints, from what our reader found.
fn listing(image: &Image) -> String {
    let mut out = String::new();
    let id = &image.identity;
    let _ = writeln!(out, "image {} {} {}", id.computation, id.generation, id.program);
    let _ = writeln!(out, "entry {:x} {:x}", image.restore.enter_process, image.restore.enter_task);
    for thread in &image.threads {
        let name = String::from_utf8_lossy(&thread.name).trim_end_matches('\0').to_owned();
        let _ = writeln!(out, "thread {} {} {:x} {name}", thread.tid, thread.role, thread.slot);
    }
    for region in &image.regions {
        let Region { start, end, prot, kind, flags, object, inode, .. } = region;
        let name = image.name(region);
        let _ = writeln!(out, "region {start:x}-{end:x} {prot} {kind} {flags:x} {object} {inode} {name}");
    }
    for (owner, kind, bytes) in &image.debugger {
        let _ = writeln!(out, "note {owner} {kind:x} {}", bytes.len());
    }
    for section in &image.sections {
        let _ = writeln!(out, "section {}/{} {}", section.plugin, section.name, section.bytes.len());
    }
    for blob in &image.blobs {
        let _ = writeln!(out, "blob {}/{} {} {}", blob.plugin, blob.name, blob.extent, blob.length);
    }
    for extent in &image.extents {
        for index in 0..extent.length.div_ceil(CHUNK) {
            let sum = image.chunk_sum(extent, index).unwrap_or_default();
            let _ = writeln!(out, "chunk {:x} {sum:016x}", extent.address + index * CHUNK);
        }
    }
    out
}

fn read_by_stranger(path: &Path) -> (bool, String) {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader.py");
    let output = Command::new("/usr/bin/python3").arg(reader).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn a_reader_written_after_the_document_agrees() {
    for (name, path) in all() {
        let image = Image::open(&path).unwrap_or_else(|error| panic!("{name} {error}"));
        let (read, said) = read_by_stranger(&path);
        assert!(read, "{name}: {said}");
        assert_eq!(said, listing(&image), "{name}");
    }
}

#[test]
fn a_reader_written_after_the_document_sees_damage() {
    let directory = tempfile::tempdir().unwrap();
    for (name, path) in all() {
        let whole = std::fs::read(&path).unwrap();
        let damaged = directory.path().join(&name);
        let content = (8192..whole.len()).find(|at| whole[*at] != 0).unwrap();
        for at in [70, content, whole.len() - 40] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&damaged, bytes).unwrap();
            let (read, said) = read_by_stranger(&damaged);
            assert!(!read, "{name}, byte {at}: {said}");
        }
        std::fs::write(&damaged, &whole[..whole.len() - 1]).unwrap();
        assert!(!read_by_stranger(&damaged).0, "{name}, cut");
    }
}
