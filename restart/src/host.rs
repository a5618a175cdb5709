//! What restart halves see of this program: the functions behind [`HostTable`].
//!
//! They are called on the main thread only, from inside a duty; state is in cells because a duty may call any of them
//! at any time. Nothing here panics on what a plugin passes: an unknown number or name is answered with "none".

use crate::descriptors::{Descriptors, Handle};
use crate::forest::Member;
use dmtcp_image::read::Image;
use dmtcp_plugin_api::ids::Table;
use dmtcp_plugin_api::restart::{BlobAt, EndedChild, HostTable, Process, Text};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What the functions work on.
pub struct HostState {
    images: Vec<Image>,
    image_handles: Vec<Handle>,
    /// The descriptors of this process.
    pub descriptors: Descriptors,
    inherited: [Option<Handle>; 3],
    calling: RefCell<String>,
    wanted: RefCell<Vec<Option<Vec<i32>>>>,
    members: RefCell<Vec<Member>>,
    /// Paths that were handed out; they live as long as the program.
    paths: RefCell<Vec<Box<[u8]>>>,
    mappings: Vec<(Vec<u8>, Vec<u8>)>,
    quiet: Cell<u8>,
    id_table: Cell<Option<u64>>,
    id_source: Cell<IdSource>,
}

/// Where the ids of the processes come from.
#[derive(Debug, Clone, Copy)]
pub enum IdSource {
    /// The kernel: they are any.
    Kernel,
    /// They are the virtual ones.
    Same,
    /// They are others, by this table.
    Table(Table),
}

/// `old:new;old:new`, as the environment has it.
fn path_mappings(text: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = text.split(';').filter_map(|pair| pair.split_once(':'));
    pairs
        .filter(|(old, _)| !old.is_empty())
        .map(|(old, new)| (old.as_bytes().to_vec(), new.as_bytes().to_vec()))
        .collect()
}

/// A path with the first mapping applied whose old name is the path or a directory above it.
fn mapped(mappings: &[(Vec<u8>, Vec<u8>)], path: &[u8]) -> Vec<u8> {
    for (old, new) in mappings {
        if let Some(rest) = path.strip_prefix(&old[..])
            && (rest.is_empty() || rest[0] == b'/' || old.ends_with(b"/"))
        {
            return [new, rest].concat();
        }
    }
    path.to_vec()
}

impl HostState {
    /// Takes the images, and copies of the standard streams.
    pub fn new(mut images: Vec<Image>, quiet: u8) -> io::Result<Self> {
        let descriptors = Descriptors::default();
        let copy = |number: RawFd| {
            // SAFETY: a number that is not open gives EBADF, and nothing is owned.
            let copy = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().ok()?;
            Some(descriptors.adopt(copy))
        };
        let inherited = [0, 1, 2].map(copy);
        let image_handles = images
            .iter_mut()
            .map(|image| {
                // From now on the list owns the image's descriptor; the image's own field reads nothing any more.
                let nothing = File::open("/dev/null")?;
                Ok(descriptors.adopt(std::mem::replace(&mut image.file, nothing).into()))
            })
            .collect::<io::Result<_>>()?;
        let wanted = RefCell::new(vec![None; images.len()]);
        let member = |image: &Image| {
            let identity = &image.identity;
            let (pid, ppid, pgid, sid) = (identity.pid, identity.ppid, identity.pgid, identity.sid);
            Member { pid, ppid, pgid, sid, ..Member::default() }
        };
        let members = RefCell::new(images.iter().map(member).collect());
        let mappings = path_mappings(&std::env::var("DMTCP_PATH_MAPPING").unwrap_or_default());
        Ok(Self {
            images,
            image_handles,
            descriptors,
            inherited,
            calling: RefCell::default(),
            wanted,
            members,
            paths: RefCell::default(),
            mappings,
            quiet: Cell::new(quiet),
            id_table: Cell::new(None),
            id_source: Cell::new(IdSource::Kernel),
        })
    }

    /// Says whose sections the next calls are about.
    pub fn call_for(&self, plugin: &str) {
        plugin.clone_into(&mut self.calling.borrow_mut());
    }

    /// The images.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// An image's descriptor.
    pub fn image_handle(&self, index: usize) -> Handle {
        self.image_handles[index]
    }

    /// The copy of a standard stream; none if it was closed.
    pub fn inherited_handle(&self, number: RawFd) -> Option<Handle> {
        *self.inherited.get(usize::try_from(number).ok()?)?
    }

    /// Its number; -1 if it was closed.
    pub fn inherited_number(&self, number: RawFd) -> RawFd {
        self.inherited_handle(number).map_or(-1, |handle| self.descriptors.number(handle))
    }

    /// What is known of each process' place in the family.
    pub fn members(&self) -> Vec<Member> {
        self.members.borrow().clone()
    }

    /// The object that is a table of ids.
    pub fn id_table(&self) -> Option<u64> {
        self.id_table.get()
    }

    /// Says where the processes' ids come from.
    pub fn set_id_source(&self, source: IdSource) {
        self.id_source.set(source);
    }

    /// Whether a task of the computation has this id, or an ended child.
    fn has_id(&self, id: i32) -> bool {
        let is_wanted = self.wanted.borrow().iter().flatten().flatten().any(|wanted| *wanted == id);
        is_wanted || self.members.borrow().iter().flat_map(|member| &member.ended).any(|child| child.pid == id)
    }

    /// The ids that were asked for.
    pub fn wanted_ids(&self, index: usize) -> Option<Vec<i32>> {
        self.wanted.borrow().get(index).cloned().flatten()
    }
}

/// The table for plugins. It points at the state, which must stay where it is.
pub fn table(state: &HostState) -> HostTable {
    HostTable {
        size: size_of::<HostTable>(),
        context: std::ptr::from_ref(state).cast_mut().cast(),
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
    }
}

fn state<'a>(context: *mut ()) -> &'a HostState {
    // SAFETY: the context of every call is that of `table`, whose state lives for as long as plugins are called.
    unsafe { &*context.cast_const().cast::<HostState>() }
}

fn text<'a>(name: Text) -> &'a [u8] {
    // SAFETY: a plugin passes bytes that live for the duration of the call.
    unsafe { name.bytes() }.unwrap_or_default()
}

extern "C" fn process_count(context: *mut ()) -> u32 {
    state(context).images.len() as u32
}

extern "C" fn process(context: *mut (), index: u32, out: *mut Process) -> bool {
    let Some(image) = state(context).images.get(index as usize) else { return false };
    let identity = &image.identity;
    // SAFETY: a plugin passes a place for the answer.
    unsafe { *out = Process { pid: identity.pid, ppid: identity.ppid, pgid: identity.pgid, sid: identity.sid } };
    true
}

extern "C" fn section(context: *mut (), index: u32, name: Text) -> Text {
    let state = state(context);
    let name = str::from_utf8(text(name)).unwrap_or_default();
    let image = state.images.get(index as usize);
    image.and_then(|image| image.section(&state.calling.borrow(), name)).map_or(Text::NONE, Text::of)
}

extern "C" fn blob(context: *mut (), index: u32, name: Text) -> BlobAt {
    let state = state(context);
    let name = str::from_utf8(text(name)).unwrap_or_default();
    let found = state.images.get(index as usize).and_then(|image| {
        let blob = image.blob(&state.calling.borrow(), name)?;
        let image_descriptor = state.descriptors.number(state.image_handles[index as usize]);
        Some(BlobAt { image: image_descriptor, offset: image.extents.get(blob.extent)?.offset, length: blob.length })
    });
    found.unwrap_or(BlobAt { image: -1, offset: 0, length: 0 })
}

extern "C" fn provide(context: *mut (), number: u64, descriptor: RawFd) {
    if descriptor >= 0 {
        // SAFETY: the plugin hands the descriptor over.
        state(context).descriptors.provide(number, unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
}

extern "C" fn object(context: *mut (), number: u64) -> RawFd {
    state(context).descriptors.object(number).unwrap_or(-1)
}

extern "C" fn keep_clear(context: *mut (), numbers: *const RawFd, count: usize) -> bool {
    // SAFETY: a plugin passes an array of this length; an empty one may be anywhere.
    let numbers = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(numbers, count) } };
    state(context).descriptors.keep_clear(numbers).is_ok()
}

extern "C" fn inherited(context: *mut (), number: RawFd) -> RawFd {
    state(context).inherited_number(number)
}

extern "C" fn want_ids(context: *mut (), index: u32, ids: *const i32, count: usize) {
    if let Some(wanted) = state(context).wanted.borrow_mut().get_mut(index as usize)
        && count > 0
    {
        // SAFETY: a plugin passes an array of this length.
        *wanted = Some(unsafe { std::slice::from_raw_parts(ids, count) }.to_vec());
    }
}

extern "C" fn leaderless(context: *mut (), index: u32, id: i32) {
    if let Some(member) = state(context).members.borrow_mut().get_mut(index as usize) {
        member.gone.push(id);
    }
}

extern "C" fn ended_child(context: *mut (), index: u32, child: EndedChild) {
    if let Some(member) = state(context).members.borrow_mut().get_mut(index as usize) {
        member.ended.push(child);
    }
}

extern "C" fn foreground(context: *mut (), index: u32, id: i32) {
    if let Some(member) = state(context).members.borrow_mut().get_mut(index as usize) {
        member.foreground = id;
    }
}

extern "C" fn exit_signal(context: *mut (), index: u32, pid: i32, signal: i32) {
    if let Some(member) = state(context).members.borrow_mut().get_mut(index as usize) {
        member.exit_signals.insert(pid, signal);
    }
}

extern "C" fn real_id(context: *mut (), id: i32) -> i32 {
    let state = state(context);
    let real = match state.id_source.get() {
        IdSource::Kernel => None,
        IdSource::Same => Some(id).filter(|id| state.has_id(*id)),
        IdSource::Table(table) => table.real(id),
    };
    real.filter(|_| id > 0).unwrap_or(0)
}

extern "C" fn id_table(context: *mut (), object: u64) {
    state(context).id_table.set(Some(object));
}

extern "C" fn warn(context: *mut (), what: Text) {
    let state = state(context);
    if state.quiet.get() < 2 {
        let line = format!("dmtcp_restart: warning: {}\n", String::from_utf8_lossy(text(what)));
        crate::report::write(state.inherited_number(2), &line);
    }
}

extern "C" fn path(context: *mut (), name: Text) -> Text {
    let state = state(context);
    let mut paths = state.paths.borrow_mut();
    paths.push(mapped(&state.mappings, text(name)).into_boxed_slice());
    // The boxes never move or go.
    paths.last().map_or(Text::NONE, |path| Text::of(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_mapped_at_component_borders() {
        let list = path_mappings("/old:/new;/a/b:/c");
        assert_eq!(mapped(&list, b"/old/x"), b"/new/x");
        assert_eq!(mapped(&list, b"/older/x"), b"/older/x");
        assert_eq!(mapped(&list, b"/a/b"), b"/c");
        assert_eq!(mapped(&[], b"/a"), b"/a");
    }
}
