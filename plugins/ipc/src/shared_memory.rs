//! MAP_SHARED memory without a file: one object per inode, however many mappings show it.
//!
//! /proc/PID/maps calls it `/dev/zero (deleted)`. After a restart the object is a memfd that no descriptor refers to, with
//! a name of ours by which the next checkpoint knows it.

use crate::state::{SharedMemory, SharedObject};
use dmtcp_plugin_api::content::Content;
use dmtcp_plugin_api::core::{Core, Mapping};
use std::collections::BTreeMap;

/// Whether this plugin saves what the mapping shows.
fn is_ours(mapping: &Mapping) -> bool {
    let memfd = || {
        let name = mapping.name.strip_prefix(b"/memfd:").and_then(|n| n.strip_suffix(b" (deleted)"));
        name == Some(SharedMemory::MEMFD.as_bytes())
    };
    mapping.view.shared == 1 && (mapping.name == b"/dev/zero (deleted)" || memfd())
}

/// The mappings of each object, the one with the lowest offset first.
fn by_object(mappings: Vec<Mapping>) -> Vec<Vec<Mapping>> {
    let mut objects: BTreeMap<_, Vec<Mapping>> = BTreeMap::new();
    for mapping in mappings.into_iter().filter(is_ours) {
        let view = &mapping.view;
        objects.entry((view.dev_major, view.dev_minor, view.inode)).or_default().push(mapping);
    }
    let mut objects: Vec<_> = objects.into_values().collect();
    for mappings in &mut objects {
        mappings.sort_by_key(|m| m.view.offset);
    }
    objects
}

/// The hook for PRECHECKPOINT.
pub fn describe(core: Core) {
    let mut section = SharedMemory::default();
    for mappings in by_object(core.mappings()) {
        let Some(first) = mappings.first() else { continue };
        let size = mappings.iter().map(|m| m.view.offset + (m.view.end - m.view.start)).max().unwrap_or(0);
        match Content::of_mapping(core, first.view.start, first.view.offset, size) {
            Ok(content) => {
                for mapping in &mappings {
                    core.claim_mapping(mapping.view.start, content.object, mapping.view.offset);
                }
                let identity = (first.view.dev_major, first.view.dev_minor, first.view.inode);
                section.objects.push(SharedObject { identity, content });
            }
            Err(error) => core.fail(&format!(
                "shared memory at {:#x}: its {size} bytes cannot be looked at: error {error}",
                first.view.start
            )),
        }
    }
    core.json(SharedMemory::SECTION, &section);
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmtcp_plugin_api::abi::MappingView;

    fn mapping(name: &[u8], start: u64, offset: u64, inode: u64, shared: u32) -> Mapping {
        let (dev_major, dev_minor, prot, flags) = (0, 1, 3, 0);
        let (name_pointer, name_length) = (std::ptr::null(), 0);
        let end = start + 4096;
        let view = MappingView {
            start,
            end,
            offset,
            inode,
            dev_major,
            dev_minor,
            prot,
            shared,
            flags,
            name: name_pointer,
            name_length,
        };
        Mapping { view, name: name.to_vec() }
    }

    #[test]
    fn one_object_per_inode_and_nothing_that_is_not_ours() {
        let zero = b"/dev/zero (deleted)";
        let objects = by_object(vec![
            mapping(zero, 0x1000, 8192, 5, 1),
            mapping(zero, 0x9000, 0, 5, 1),
            mapping(b"/memfd:dmtcp-shared (deleted)", 0xa000, 0, 6, 1),
            mapping(b"/memfd:other (deleted)", 0xb000, 0, 7, 1),
            mapping(zero, 0xc000, 0, 8, 0),
            mapping(b"/tmp/file", 0xd000, 0, 9, 1),
        ]);
        let starts: Vec<Vec<u64>> = objects.iter().map(|o| o.iter().map(|m| m.view.start).collect()).collect();
        assert_eq!(starts, [vec![0x9000, 0x1000], vec![0xa000]]);
    }
}
