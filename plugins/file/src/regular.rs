//! Regular files, directories, memfds, files of /proc.

use crate::claim::State;
use crate::names;
use crate::state::{Named, Nameless, Origin, What};
use dmtcp_plugin_api::content::Content;
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::descriptors::Descriptor;
use dmtcp_plugin_api::{ids, sys};

const PROC: u64 = 0x9fa0;
const NFS: u64 = 0x6969;
const HUGETLBFS: u64 = 0x9584_58f6;
const F_GET_SEALS: i32 = 1034;
/// __O_TMPFILE: what O_TMPFILE is without O_DIRECTORY.
const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

fn identity(d: &Descriptor) -> names::Identity {
    (d.device, d.inode)
}

fn as_named(d: &Descriptor, path: &[u8]) -> Named {
    Named { path: path.into(), mode: d.mode, size: d.size.max(0) as u64 }
}

/// Something that its link leads to, of whatever type.
pub fn named(d: &Descriptor) -> Option<What> {
    let link_itself = d.mode & libc::S_IFMT == libc::S_IFLNK;
    let reachable = link_itself || names::leads_to(d.link(), identity(d));
    (d.link().starts_with(b"/") && reachable).then(|| What::Named(as_named(d, d.link())))
}

/// A directory.
pub fn directory(core: Core, d: &Descriptor) -> Option<What> {
    of_a_process(core, d).or_else(|| named(d)).or_else(|| {
        (d.links == 0 && d.link().starts_with(b"/"))
            .then(|| What::RemovedDirectory(as_named(d, names::without_mark(d.link()))))
    })
}

/// A regular file.
pub fn regular(core: Core, state: &mut State, d: &Descriptor) -> Option<What> {
    // Message queues and namespaces are regular files for fstat(2), too, but have no path.
    if !d.link().starts_with(b"/") {
        return None;
    }
    let filesystem = sys::filesystem(d.copy).unwrap_or(0);
    if filesystem == PROC {
        // Not compared with what the path leads to: each pid namespace has a /proc with inodes of its own.
        return Some(of_a_process(core, d).unwrap_or_else(|| What::Named(as_named(d, d.link()))));
    }
    if filesystem != NFS || !is_silly_rename(d.link()) {
        if let Some(what) = named(d) {
            return Some(what);
        }
        if d.links > 0
            && let Some(path) = names::in_same_directory(d.link(), identity(d))
        {
            return Some(What::Named(as_named(d, &path)));
        }
    }
    if filesystem == HUGETLBFS || d.link().starts_with(b"/secretmem") {
        return None;
    }
    if d.links > 0 {
        core.log(
            Level::Warning,
            &format!(
                "fd {} -> {}: the file has another name somewhere; a restart makes a file of its own from the bytes",
                d.number,
                String::from_utf8_lossy(d.link())
            ),
        );
    }
    nameless(core, state, d)
}

/// The path below /proc/PID, if it is this process's.
fn proc_file(link: &[u8], pid: i32) -> Option<&[u8]> {
    link.strip_prefix(b"/proc/")?.strip_prefix(pid.to_string().as_bytes())?.strip_prefix(b"/")
}

/// The pid in a path below /proc, and what follows it.
pub fn process_and_rest(link: &[u8]) -> Option<(i32, &[u8])> {
    let below = link.strip_prefix(b"/proc/")?;
    let digits = below.iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some((std::str::from_utf8(&below[..digits]).ok()?.parse().ok()?, &below[digits..]))
}

/// What /proc has of a process: this one, or another one, which the image names as the application does.
fn of_a_process(core: Core, d: &Descriptor) -> Option<What> {
    let (pid, rest) = process_and_rest(d.link())?;
    if sys::filesystem(d.copy) != Ok(PROC) {
        return None;
    }
    let other = || [format!("/proc/{}", ids::to_virtual(core, pid)).as_bytes(), rest].concat();
    Some(What::OwnProc(proc_file(d.link(), sys::pid()).map_or_else(other, <[u8]>::to_vec).as_slice().into()))
}

/// NFS renames an unlinked file that is open; the name goes with the process.
fn is_silly_rename(path: &[u8]) -> bool {
    path.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(b".nfs"))
}

/// A file that no name leads to: its bytes go into the image, once.
fn nameless(core: Core, state: &mut State, d: &Descriptor) -> Option<What> {
    if let Some((_, object)) = state.nameless.iter().find(|(file, _)| *file == identity(d)) {
        return Some(What::Nameless(*object));
    }
    match Content::of_file(core, d.copy) {
        Ok(content) => {
            let object = content.object;
            let origin = origin(d.link(), d.flags, d.copy);
            state.files.nameless.push(Nameless { identity: identity(d), content, origin, mode: d.mode & 0o7777 });
            state.nameless.push((identity(d), object));
            Some(What::Nameless(object))
        }
        Err(error) => {
            core.unsupported(&format!(
                "fd {} -> {}: the bytes of this unlinked file cannot be read: error {error}; after a restart this number \
                 is open on /dev/null",
                d.number,
                String::from_utf8_lossy(d.link())
            ));
            None
        }
    }
}

/// What a nameless file is, from one of its descriptors.
fn origin(link: &[u8], flags: i32, copy: i32) -> Origin {
    if let Some(name) = memfd_name(link) {
        let seals = sys::fcntl(copy, F_GET_SEALS, 0).unwrap_or(0);
        return Origin::Memfd(name.into(), seals as i32);
    }
    if flags & TMPFILE != 0 {
        return Origin::Temporary(names::directory_of(link).into());
    }
    Origin::Unlinked(names::without_mark(link).into())
}

/// The name in the link of a memfd.
pub fn memfd_name(link: &[u8]) -> Option<&[u8]> {
    link.strip_prefix(b"/memfd:")?.strip_suffix(b" (deleted)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_files_of_proc_move_with_us() {
        assert_eq!(proc_file(b"/proc/12/status", 12), Some(&b"status"[..]));
        assert_eq!(proc_file(b"/proc/12/task/12/comm", 12), Some(&b"task/12/comm"[..]));
        assert_eq!(proc_file(b"/proc/123/status", 12), None);
        assert_eq!(proc_file(b"/proc/meminfo", 12), None);
    }

    #[test]
    fn a_memfd_keeps_even_a_misleading_name() {
        assert_eq!(memfd_name(b"/memfd:a name (deleted)"), Some(&b"a name"[..]));
        assert_eq!(memfd_name(b"/memfd:x (deleted) (deleted)"), Some(&b"x (deleted)"[..]));
        assert_eq!(memfd_name(b"/tmp/memfd:x (deleted)"), None);
    }

    #[test]
    fn what_nfs_leaves_behind_is_known_by_its_name() {
        assert!(is_silly_rename(b"/home/u/.nfs000000000012"));
        assert!(!is_silly_rename(b"/home/.nfs/file"));
    }
}
