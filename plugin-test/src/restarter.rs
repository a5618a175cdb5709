//! The restarter's side: processes that are to come back, with what their images say.

use crate::image::Image;
use dmtcp_plugin_api::restart::{BlobAt, EndedChild, HostRef, HostTable, Process, RestartHalf, Text, adapter};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

/// A process that is to come back.
struct Restored {
    ids: Process,
    image: Image,
    /// All blobs, one after the other, as in an image.
    file: File,
}

/// A restarter for one plugin. The test's process plays the restarter and, at `place`, the process that is to come back:
/// a test whose plugin puts descriptors at their numbers forks first, or uses numbers that nobody else has.
#[derive(Default)]
pub struct FakeRestarter {
    processes: Vec<Restored>,
    objects: BTreeMap<u64, OwnedFd>,
    mappings: Vec<(Vec<u8>, Vec<u8>)>,
    /// Paths that were handed out; the interface promises that they live as long as the program.
    paths: Vec<Vec<u8>>,
    warnings: Vec<String>,
    ids: BTreeMap<u32, Vec<i32>>,
    leaderless: Vec<(u32, i32)>,
    ended: Vec<(u32, EndedChild)>,
    foreground: Vec<(u32, i32)>,
    id_table: Option<u64>,
    exit_signals: Vec<(u32, i32, i32)>,
}

impl FakeRestarter {
    /// One without processes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a process; returns its index.
    ///
    /// # Panics
    /// If the blobs cannot be kept in a temporary file.
    pub fn process(&mut self, ids: Process, image: &Image) -> u32 {
        // SAFETY: the name is a constant text; the descriptor is nobody else's.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"image".as_ptr(), libc::MFD_CLOEXEC)) };
        let mut at = 0;
        for (_, bytes) in &image.blobs {
            file.write_all_at(bytes, at).expect("room for the blobs");
            at += bytes.len() as u64;
        }
        self.processes.push(Restored { ids, image: image.clone(), file });
        self.processes.len() as u32 - 1
    }

    /// Lets a path of the image be another one here.
    pub fn map_path(&mut self, from: &str, to: &str) {
        self.mappings.push((from.into(), to.into()));
    }

    fn with_host<R>(&mut self, f: impl FnOnce(HostRef) -> R) -> R {
        let table = HostTable {
            size: size_of::<HostTable>(),
            context: std::ptr::from_mut(self).cast(),
            process_count,
            process,
            section,
            blob,
            provide,
            object,
            keep_clear,
            inherited,
            want_ids,
            warn,
            path,
            leaderless,
            ended_child,
            foreground,
            id_table,
            exit_signal,
            real_id,
        };
        f(HostRef::new(&table))
    }

    /// What is missing, in sentences.
    pub fn check<H: RestartHalf + Default>(&mut self) -> Vec<String> {
        self.with_host(|host| adapter::check::<H>(host)).into_iter().map(String::from).collect()
    }

    /// Makes the kernel objects.
    pub fn create<H: RestartHalf + Default>(&mut self) -> Result<(), String> {
        self.with_host(|host| adapter::create::<H>(host)).into_result().map_err(String::from)
    }

    /// Puts them into the calling process.
    pub fn place<H: RestartHalf + Default>(&mut self, index: u32) -> Result<(), String> {
        self.with_host(|host| adapter::place::<H>(host, index)).into_result().map_err(String::from)
    }

    /// What there is to say of a process.
    pub fn explain<H: RestartHalf + Default>(&mut self, index: u32) -> String {
        self.with_host(|host| adapter::explain::<H>(host, index)).into()
    }

    /// What was provided under an object number.
    pub fn object(&self, object: u64) -> Option<BorrowedFd<'_>> {
        self.objects.get(&object).map(AsFd::as_fd)
    }

    /// Provides an object, as another plugin would.
    pub fn provide(&mut self, object: u64, descriptor: OwnedFd) {
        self.objects.insert(object, descriptor);
    }

    /// What the user was warned of.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The ids that were asked for.
    pub fn ids(&self, index: u32) -> &[i32] {
        self.ids.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Groups and sessions without a leader: process, id.
    pub fn leaderless(&self) -> &[(u32, i32)] {
        &self.leaderless
    }

    /// Signals at the end of processes: process, pid, signal.
    pub fn exit_signals(&self) -> &[(u32, i32, i32)] {
        &self.exit_signals
    }

    /// Groups in the foreground of their terminal: process, id.
    pub fn foreground(&self) -> &[(u32, i32)] {
        &self.foreground
    }

    /// The object that is the table of ids.
    pub fn id_table(&self) -> Option<u64> {
        self.id_table
    }

    /// Ended children that are to be there: process, child.
    pub fn ended_children(&self) -> &[(u32, EndedChild)] {
        &self.ended
    }
}

/// The restarter behind a table's first argument.
fn restarter<'a>(context: *mut ()) -> &'a mut FakeRestarter {
    // SAFETY: `with_host` puts it there and lets nobody else have it until the plugin returns.
    unsafe { &mut *context.cast() }
}

fn bytes<'a>(text: Text) -> &'a [u8] {
    // SAFETY: texts that plugins pass live for the duration of the call.
    unsafe { text.bytes() }.unwrap_or_default()
}

fn restored<'a>(context: *mut (), index: u32) -> Option<&'a Restored> {
    restarter(context).processes.get(index as usize)
}

extern "C" fn process_count(context: *mut ()) -> u32 {
    restarter(context).processes.len() as u32
}

extern "C" fn process(context: *mut (), index: u32, into: *mut Process) -> bool {
    let Some(process) = restored(context, index) else { return false };
    // SAFETY: the caller passes room for one.
    unsafe { into.write(process.ids) };
    true
}

extern "C" fn section(context: *mut (), index: u32, name: Text) -> Text {
    let name = String::from_utf8_lossy(bytes(name));
    restored(context, index).and_then(|p| p.image.section(&name)).map_or(Text::NONE, Text::of)
}

extern "C" fn blob(context: *mut (), index: u32, name: Text) -> BlobAt {
    let mut offset = 0;
    if let Some(process) = restored(context, index) {
        for (blob, content) in &process.image.blobs {
            if blob.as_bytes() == bytes(name) {
                return BlobAt { image: process.file.as_raw_fd(), offset, length: content.len() as u64 };
            }
            offset += content.len() as u64;
        }
    }
    BlobAt { image: -1, offset: 0, length: 0 }
}

extern "C" fn provide(context: *mut (), object: u64, descriptor: RawFd) {
    // SAFETY: the plugin gives the descriptor away.
    restarter(context).provide(object, unsafe { OwnedFd::from_raw_fd(descriptor) });
}

extern "C" fn object(context: *mut (), object: u64) -> RawFd {
    restarter(context).object(object).map_or(-1, |fd| fd.as_raw_fd())
}

extern "C" fn keep_clear(context: *mut (), numbers: *const RawFd, count: usize) -> bool {
    // SAFETY: the caller passes `count` numbers.
    let numbers = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(numbers, count) } };
    let above = numbers.iter().max().map_or(3, |n| n + 1);
    for kept in restarter(context).objects.values_mut() {
        if numbers.contains(&kept.as_raw_fd()) {
            // SAFETY: no memory is passed.
            let moved = unsafe { libc::fcntl(kept.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) };
            if moved < 0 {
                return false;
            }
            // SAFETY: the duplicate is nobody else's.
            *kept = unsafe { OwnedFd::from_raw_fd(moved) };
        }
    }
    true
}

extern "C" fn inherited(_: *mut (), number: RawFd) -> RawFd {
    if (0..3).contains(&number) { number } else { -1 }
}

extern "C" fn want_ids(context: *mut (), index: u32, ids: *const i32, count: usize) {
    // SAFETY: the caller passes `count` ids.
    let ids = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(ids, count) } };
    restarter(context).ids.insert(index, ids.to_vec());
}

extern "C" fn warn(context: *mut (), text: Text) {
    restarter(context).warnings.push(String::from_utf8_lossy(bytes(text)).into_owned());
}

extern "C" fn path(context: *mut (), path: Text) -> Text {
    let restarter = restarter(context);
    let path = bytes(path);
    let Some((from, to)) = restarter.mappings.iter().find(|(from, _)| path.starts_with(from)) else {
        return Text::NONE;
    };
    let mapped = [to, &path[from.len()..]].concat();
    restarter.paths.push(mapped);
    restarter.paths.last().map_or(Text::NONE, |p| Text::of(p))
}

extern "C" fn leaderless(context: *mut (), index: u32, id: i32) {
    restarter(context).leaderless.push((index, id));
}

extern "C" fn ended_child(context: *mut (), index: u32, child: EndedChild) {
    restarter(context).ended.push((index, child));
}

extern "C" fn foreground(context: *mut (), index: u32, id: i32) {
    restarter(context).foreground.push((index, id));
}

extern "C" fn exit_signal(context: *mut (), index: u32, pid: i32, signal: i32) {
    restarter(context).exit_signals.push((index, pid, signal));
}

extern "C" fn real_id(context: *mut (), id: i32) -> i32 {
    let known = restarter(context).processes.iter().any(|process| process.ids.pid == id);
    if known { id } else { 0 }
}

extern "C" fn id_table(context: *mut (), object: u64) {
    restarter(context).id_table = Some(object);
}
