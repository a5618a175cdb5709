//! Functions that take paths and open nothing: what they pass on is the file system's name.

use crate::mapping::real;
use libc::{c_char, c_int, c_long, c_uint, c_void, dev_t, gid_t, mode_t, off_t, uid_t};

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// By the real name.
    fn stat(path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(path, status)) }
    /// By the real name.
    fn lstat(path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(path, status)) }
    /// By the real name.
    fn stat64(path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(path, status)) }
    /// By the real name.
    fn lstat64(path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(path, status)) }
    /// By the real name.
    fn fstatat(at: c_int, path: *const c_char, status: *mut c_void, flags: c_int) -> c_int { real(path, |path| next(at, path, status, flags)) }
    /// By the real name.
    fn fstatat64(at: c_int, path: *const c_char, status: *mut c_void, flags: c_int) -> c_int { real(path, |path| next(at, path, status, flags)) }
    /// By the real name.
    fn statx(at: c_int, path: *const c_char, flags: c_int, mask: c_uint, status: *mut c_void) -> c_int { real(path, |path| next(at, path, flags, mask, status)) }
    /// By the real name; for programs linked with a libc before 2.33.
    #[version("GLIBC_2.2.5")]
    fn __xstat(version: c_int, path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(version, path, status)) }
    /// By the real name; for programs linked with a libc before 2.33.
    #[version("GLIBC_2.2.5")]
    fn __lxstat(version: c_int, path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(version, path, status)) }
    /// By the real name; for programs linked with a libc before 2.33.
    #[version("GLIBC_2.2.5")]
    fn __xstat64(version: c_int, path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(version, path, status)) }
    /// By the real name; for programs linked with a libc before 2.33.
    #[version("GLIBC_2.2.5")]
    fn __lxstat64(version: c_int, path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(version, path, status)) }
    /// As __xstat.
    #[version("GLIBC_2.4")]
    fn __fxstatat(version: c_int, at: c_int, path: *const c_char, status: *mut c_void, flags: c_int) -> c_int { real(path, |path| next(version, at, path, status, flags)) }
    /// As __xstat.
    #[version("GLIBC_2.4")]
    fn __fxstatat64(version: c_int, at: c_int, path: *const c_char, status: *mut c_void, flags: c_int) -> c_int { real(path, |path| next(version, at, path, status, flags)) }
    /// By the real name.
    fn access(path: *const c_char, mode: c_int) -> c_int { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn euidaccess(path: *const c_char, mode: c_int) -> c_int { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn eaccess(path: *const c_char, mode: c_int) -> c_int { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn faccessat(at: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int { real(path, |path| next(at, path, mode, flags)) }
    /// By the real name.
    fn statfs(path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(path, status)) }
    /// By the real name.
    fn statfs64(path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(path, status)) }
    /// By the real name.
    fn statvfs(path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(path, status)) }
    /// By the real name.
    fn statvfs64(path: *const c_char, status: *mut c_void) -> c_int { real(path, |path| next(path, status)) }
    /// By the real name.
    fn pathconf(path: *const c_char, name: c_int) -> c_long { real(path, |path| next(path, name)) }
    /// By the real name.
    fn truncate(path: *const c_char, length: off_t) -> c_int { real(path, |path| next(path, length)) }
    /// By the real name.
    fn truncate64(path: *const c_char, length: off_t) -> c_int { real(path, |path| next(path, length)) }
    /// By the real name.
    fn rename(old: *const c_char, new: *const c_char) -> c_int { real(old, |old| real(new, |new| next(old, new))) }
    /// By the real name.
    fn renameat(old_at: c_int, old: *const c_char, new_at: c_int, new: *const c_char) -> c_int { real(old, |old| real(new, |new| next(old_at, old, new_at, new))) }
    /// By the real name.
    fn renameat2(old_at: c_int, old: *const c_char, new_at: c_int, new: *const c_char, flags: c_uint) -> c_int { real(old, |old| real(new, |new| next(old_at, old, new_at, new, flags))) }
    /// By the real name.
    fn link(old: *const c_char, new: *const c_char) -> c_int { real(old, |old| real(new, |new| next(old, new))) }
    /// By the real name.
    fn linkat(old_at: c_int, old: *const c_char, new_at: c_int, new: *const c_char, flags: c_int) -> c_int { real(old, |old| real(new, |new| next(old_at, old, new_at, new, flags))) }
    /// By the real name; the link leads to one, too: the kernel follows it.
    fn symlink(text: *const c_char, link: *const c_char) -> c_int { real(text, |text| real(link, |link| next(text, link))) }
    /// As symlink.
    fn symlinkat(text: *const c_char, at: c_int, link: *const c_char) -> c_int { real(text, |text| real(link, |link| next(text, at, link))) }
    /// By the real name.
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn mkdirat(at: c_int, path: *const c_char, mode: mode_t) -> c_int { real(path, |path| next(at, path, mode)) }
    /// By the real name.
    fn mkfifo(path: *const c_char, mode: mode_t) -> c_int { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn mknod(path: *const c_char, mode: mode_t, device: dev_t) -> c_int { real(path, |path| next(path, mode, device)) }
    /// By the real name.
    fn rmdir(path: *const c_char) -> c_int { real(path, next) }
    /// By the real name.
    fn unlink(path: *const c_char) -> c_int { real(path, next) }
    /// By the real name.
    fn remove(path: *const c_char) -> c_int { real(path, next) }
    /// By the real name.
    fn chdir(path: *const c_char) -> c_int { real(path, next) }
    /// By the real name.
    fn unlinkat(at: c_int, path: *const c_char, flags: c_int) -> c_int { real(path, |path| next(at, path, flags)) }
    /// By the real name.
    fn chmod(path: *const c_char, mode: mode_t) -> c_int { real(path, |path| next(path, mode)) }
    /// By the real name.
    fn fchmodat(at: c_int, path: *const c_char, mode: mode_t, flags: c_int) -> c_int { real(path, |path| next(at, path, mode, flags)) }
    /// By the real name.
    fn chown(path: *const c_char, user: uid_t, group: gid_t) -> c_int { real(path, |path| next(path, user, group)) }
    /// By the real name.
    fn lchown(path: *const c_char, user: uid_t, group: gid_t) -> c_int { real(path, |path| next(path, user, group)) }
    /// By the real name.
    fn fchownat(at: c_int, path: *const c_char, user: uid_t, group: gid_t, flags: c_int) -> c_int { real(path, |path| next(at, path, user, group, flags)) }
    /// By the real name.
    fn utime(path: *const c_char, times: *const c_void) -> c_int { real(path, |path| next(path, times)) }
    /// By the real name.
    fn utimes(path: *const c_char, times: *const c_void) -> c_int { real(path, |path| next(path, times)) }
    /// By the real name.
    fn lutimes(path: *const c_char, times: *const c_void) -> c_int { real(path, |path| next(path, times)) }
    /// By the real name.
    fn utimensat(at: c_int, path: *const c_char, times: *const c_void, flags: c_int) -> c_int { real(path, |path| next(at, path, times, flags)) }
    /// By the real name.
    fn inotify_add_watch(inotify: c_int, path: *const c_char, mask: c_uint) -> c_int { real(path, |path| next(inotify, path, mask)) }
}
