//! Shared mappings of files, whether a descriptor of the file is still open or not.
//!
//! ```text
//!   name leads to the file, on disk      -> mapped again from the file as it is; what was mapped for writing has its
//!                                           bytes in the image (up to a size) for the case that the file is gone
//!   name leads to the file, in memory    -> bytes in the image (a tmpfs is memory), written back
//!   no name, a descriptor is open        -> the nameless file that the descriptor has
//!   no name, no descriptor               -> bytes through the mapping, a nameless file
//! ```
//! Private mappings are the core's.

use crate::claim::State;
use crate::names;
use crate::regular::memfd_name;
use crate::state::{Mapped, Named, Nameless, Origin, Source};
use dmtcp_plugin_api::content::Content;
use dmtcp_plugin_api::core::{Core, Mapping};
use dmtcp_plugin_api::{kept, sys};

const TMPFS: u64 = 0x0102_1994;
/// Files on disk that are larger have no spare in the image.
const SPARE_LIMIT: u64 = 64 << 20;
/// Shared memory without a file, which is not ours: as it is, and as plugin `ipc` brings it back; and what only the process
/// itself can read (memfd_secret), of which the core makes a private copy.
const WITHOUT_FILE: [&[u8]; 3] = [b"/dev/zero (deleted)", b"/memfd:dmtcp-shared (deleted)", b"/secretmem (deleted)"];

/// A file that is mapped, and how: mappings that agree in this are one object.
type Key = (u32, u32, u64, bool);

fn key(mapping: &Mapping) -> Key {
    (mapping.view.dev_major, mapping.view.dev_minor, mapping.view.inode, mapping.may_write())
}

/// Whether a shared mapping may be of a file.
fn is_file(mapping: &Mapping) -> bool {
    mapping.view.shared == 1
        && mapping.name.starts_with(b"/")
        && !mapping.name.starts_with(b"/SYSV")
        && !mapping.name.starts_with(b"/anon_hugepage")
        && !mapping.name.starts_with(dmtcp_plugin_api::ids::PREFIX.as_bytes())
        && !WITHOUT_FILE.contains(&mapping.name.as_slice())
}

/// Claims all shared mappings of files.
pub fn describe(core: Core, state: &mut State) {
    let all: Vec<Mapping> = core.mappings().into_iter().filter(is_file).collect();
    let mappings = || all.iter().filter(|m| !kept::is_kept(m.view.start));
    let mut objects: Vec<(Key, u64)> = Vec::new();
    for mapping in mappings() {
        let known = objects.iter().find(|(k, _)| *k == key(mapping)).map(|(_, object)| *object);
        let object = known.map_or_else(
            || {
                let file = (mapping.view.dev_major, mapping.view.dev_minor, mapping.view.inode);
                let same = mappings().filter(|m| (m.view.dev_major, m.view.dev_minor, m.view.inode) == file);
                describe_file(core, state, mapping, &same.collect::<Vec<_>>())
            },
            Ok,
        );
        match object {
            Ok(object) => {
                objects.push((key(mapping), object));
                core.claim_mapping(mapping.view.start, object, mapping.view.offset);
            }
            Err(sentence) => core.unsupported(&format!(
                "mapping at {:#x} of {}: {sentence}",
                mapping.view.start,
                String::from_utf8_lossy(&mapping.name)
            )),
        }
    }
}

/// The object for a mapping; `all` are the mappings of the same file. The error completes a sentence.
fn describe_file(core: Core, state: &mut State, mapping: &Mapping, all: &[&Mapping]) -> Result<u64, String> {
    if let Some(path) = name_of(mapping) {
        let status = sys::stat(&path).map_err(|e| format!("error {e} looking at the file"))?;
        if status.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err("memory of a device cannot be saved; after a restart it is private memory".into());
        }
        let named = Named { path: path.as_slice().into(), mode: status.st_mode, size: status.st_size as u64 };
        let source = named_source(core, state, named, &path, mapping.may_write())?;
        return Ok(add(core, state, mapping.may_write(), source));
    }
    let object = nameless(core, state, mapping, all)?;
    // What was mapped from a descriptor for reading must not become writable.
    Ok(if mapping.may_write() { object } else { add(core, state, false, Source::Nameless(object)) })
}

fn add(core: Core, state: &mut State, writable: bool, source: Source) -> u64 {
    let object = core.new_object();
    state.files.mapped.push(Mapped { object, writable, source });
    object
}

/// The path that leads to the mapped file, if one does. A named semaphore is mapped under the name that it was made by,
/// which is gone; its real name is in the same directory.
fn name_of(mapping: &Mapping) -> Option<Vec<u8>> {
    if memfd_name(&mapping.name).is_some() {
        return None;
    }
    if sys::stat(&mapping.name).is_ok_and(|s| mapping.shows(&s)) {
        return Some(mapping.name.clone());
    }
    let old = names::without_mark(&mapping.name);
    let device = sys::stat(names::directory_of(old)).ok()?.st_dev;
    names::in_same_directory(old, (device, mapping.view.inode))
}

/// A file that lives in memory has its bytes saved, once, whatever it is mapped for. Of one on disk they are a spare: a
/// program's own scratch file (java's hsperfdata) tends to be tidied away after the program was killed.
fn named_source(core: Core, state: &State, named: Named, path: &[u8], writable: bool) -> Result<Source, String> {
    let unreadable = |e| format!("error {e} reading the file");
    let open = match sys::open(path, libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY, 0) {
        Ok(open) => open,
        Err(_) => return Ok(Source::Named(named)),
    };
    let in_memory = sys::filesystem(open.number()) == Ok(TMPFS);
    let saved = state.files.mapped.iter().any(|m| m.source.makes(&named));
    if saved || (!in_memory && (!writable || named.size > SPARE_LIMIT)) {
        return Ok(Source::Named(named));
    }
    let content = Content::of_file(core, open.number()).map_err(unreadable)?;
    Ok(if in_memory { Source::Memory(named, content) } else { Source::Spare(named, content) })
}

/// The content's object number of a nameless file.
fn nameless(core: Core, state: &mut State, mapping: &Mapping, all: &[&Mapping]) -> Result<u64, String> {
    let device = libc::makedev(mapping.view.dev_major, mapping.view.dev_minor);
    let identity = (device, mapping.view.inode);
    if let Some((_, object)) = state.nameless.iter().find(|(file, _)| *file == identity) {
        return Ok(*object);
    }
    let first = all.iter().min_by_key(|m| m.view.offset).copied().unwrap_or(mapping);
    let size = all.iter().map(|m| m.view.offset + (m.view.end - m.view.start)).max().unwrap_or(0);
    let content = Content::of_mapping(core, first.view.start, first.view.offset, size)
        .map_err(|e| format!("error {e} reading the bytes of the unlinked file"))?;
    let object = content.object;
    let origin = match memfd_name(&mapping.name) {
        Some(name) => Origin::Memfd(name.into(), 0),
        None => Origin::Unlinked(names::without_mark(&mapping.name).into()),
    };
    state.files.nameless.push(Nameless { identity, content, origin, mode: 0o600 });
    state.nameless.push((identity, object));
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmtcp_plugin_api::abi::MappingView;

    fn mapping(name: &[u8], shared: u32) -> Mapping {
        let view = MappingView {
            start: 0x1000,
            end: 0x2000,
            offset: 0,
            inode: 1,
            dev_major: 0,
            dev_minor: 1,
            prot: 3,
            shared,
            flags: 0,
            name: std::ptr::null(),
            name_length: 0,
        };
        Mapping { view, name: name.to_vec() }
    }

    #[test]
    fn only_shared_mappings_of_files_are_ours() {
        assert!(is_file(&mapping(b"/tmp/x", 1)));
        assert!(is_file(&mapping(b"/memfd:x (deleted)", 1)));
        assert!(!is_file(&mapping(b"/tmp/x", 0)));
        assert!(!is_file(&mapping(b"/dev/zero (deleted)", 1)));
        assert!(!is_file(&mapping(b"/secretmem (deleted)", 1)));
        assert!(!is_file(&mapping(b"/SYSV00000000 (deleted)", 1)));
        assert!(!is_file(&mapping(b"anon_inode:[io_uring]", 1)));
    }
}
