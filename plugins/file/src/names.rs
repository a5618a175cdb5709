//! Whether a path still leads to a file.
//!
//! The kernel's " (deleted)" after a name proves nothing: a file may be called so, and a file that is still reachable by
//! another name carries it. Device and inode decide.

use dmtcp_plugin_api::sys;

/// Device and inode.
pub type Identity = (u64, u64);

/// Whether the path leads to this file.
pub fn leads_to(path: &[u8], file: Identity) -> bool {
    sys::stat(path).is_ok_and(|s| (s.st_dev, s.st_ino) == file)
}

/// A link text without what the kernel adds when the name is gone.
pub fn without_mark(link: &[u8]) -> &[u8] {
    link.strip_suffix(b" (deleted)").unwrap_or(link)
}

/// The directory part of a path, without the slash; `/` for what lies in the root.
pub fn directory_of(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) | None => b"/",
        Some(slash) => &path[..slash],
    }
}

/// Another name of the file in the directory of its old one: a file that was linked to its final name and then unlinked
/// under its first.
pub fn in_same_directory(old: &[u8], file: Identity) -> Option<Vec<u8>> {
    let directory = directory_of(old);
    let open = sys::open(directory, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0).ok()?;
    let mut buffer = vec![0u8; 32 << 10];
    loop {
        let filled = sys::getdents(open.number(), &mut buffer).ok()?;
        if filled == 0 {
            return None;
        }
        let mut rest = buffer.get(..filled)?;
        while let Some((inode, name, after)) = entry(rest) {
            rest = after;
            if inode == file.1 {
                let path = [directory, b"/", name].concat();
                if leads_to(&path, file) {
                    return Some(path);
                }
            }
        }
    }
}

/// The first entry of a getdents64 buffer: inode, name, what follows.
fn entry(buffer: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let inode = u64::from_ne_bytes(buffer.get(..8)?.try_into().ok()?);
    let length = usize::from(u16::from_ne_bytes(buffer.get(16..18)?.try_into().ok()?));
    let name = buffer.get(19..length)?.split(|b| *b == 0).next()?;
    Some((inode, name, buffer.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn directories_of_paths() {
        assert_eq!(directory_of(b"/a/b"), b"/a");
        assert_eq!(directory_of(b"/a"), b"/");
        assert_eq!(without_mark(b"/a (deleted)"), b"/a");
    }

    #[test]
    fn a_second_name_is_found_and_a_file_called_deleted_is_not_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let path = |n: &str| directory.path().join(n);
        std::fs::write(path("first"), "x").unwrap();
        std::fs::write(path("zz (deleted)"), "y").unwrap();
        std::fs::hard_link(path("first"), path("second")).unwrap();
        std::fs::remove_file(path("first")).unwrap();
        let identity = |n: &str| std::fs::metadata(path(n)).map(|m| (m.dev(), m.ino())).unwrap();
        let first = path("first");
        let found = in_same_directory(first.as_os_str().as_bytes(), identity("second")).unwrap();
        assert_eq!(found, path("second").as_os_str().as_bytes());
        assert!(leads_to(path("zz (deleted)").as_os_str().as_bytes(), identity("zz (deleted)")));
        assert!(!leads_to(path("second").as_os_str().as_bytes(), identity("zz (deleted)")));
        assert_eq!(in_same_directory(first.as_os_str().as_bytes(), (1, 1)), None);
    }
}
