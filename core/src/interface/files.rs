//! Names of directories, images and the program, as the C interface gives them: texts that stay valid for ever.
//!
//! A name that changes is published anew and the old text leaked. Whoever makes one on a thread of the program does so
//! under a hold, so that no thread is ever stopped inside our allocator by a checkpoint whose hooks need it.

use super::{NOT_PRESENT, PRESENT, hold, news, text};
use crate::life::{self, checkpoint, restore};
use crate::{config, log};
use dmtcp_plugin_api::{proc_files, sys};
use std::ffi::{CString, c_char, c_int};
use std::sync::atomic::{AtomicPtr, Ordering};

const EMPTY: *const c_char = c"".as_ptr();

/// A text that is read at any time and replaced now and then.
pub struct Name(AtomicPtr<CString>);

impl Name {
    /// No text yet.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    fn get(&self) -> Option<&'static CString> {
        // SAFETY: null or leaked by `publish`.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    fn pointer(&self) -> *const c_char {
        self.get().map_or(EMPTY, |name| name.as_ptr())
    }

    fn publish(&self, value: Vec<u8>) {
        if self.get().is_none_or(|old| old.as_bytes() != value) {
            self.0.store(Box::leak(Box::new(CString::new(value).unwrap_or_default())), Ordering::Release);
        }
    }
}

static DIRECTORY: Name = Name::new();
static IMAGE: Name = Name::new();
static SUBDIRECTORY: Name = Name::new();
static TMPDIR: Name = Name::new();
static EXECUTABLE: Name = Name::new();

/// Where the next image goes; `None` before the process has joined.
pub fn directory() -> Option<&'static CString> {
    DIRECTORY.get()
}

/// Lets the program know where images go.
pub fn publish_directory(directory: &str) {
    DIRECTORY.publish(directory.into());
}

/// Takes a directory for the next images; created if it is not there. False: it cannot be, and the user has been told.
pub fn choose_directory(path: &[u8]) -> bool {
    let chosen = try_directory(path);
    if let Err(reason) = &chosen {
        let name = String::from_utf8_lossy(path);
        log::tell(&format!(
            "the checkpoint directory {name} cannot be used: {reason}; images go where they went before"
        ));
    }
    chosen.is_ok()
}

fn try_directory(path: &[u8]) -> Result<(), String> {
    let path = String::from_utf8(path.to_vec()).map_err(|_| "its name is not UTF-8".to_owned())?;
    let absolute = if path.starts_with('/') {
        path
    } else {
        let here = proc_files::read_link("/proc/thread-self/cwd").unwrap_or_default();
        format!("{}/{path}", String::from_utf8_lossy(&here))
    };
    for (end, _) in absolute.match_indices('/').skip(1).chain([(absolute.len(), "")]) {
        match sys::make_directory(&absolute.as_bytes()[..end], 0o777) {
            Ok(()) | Err(libc::EEXIST | libc::EACCES | libc::EROFS) => {}
            Err(e) => return Err(format!("it cannot be created (errno {e})")),
        }
    }
    DIRECTORY.publish(absolute.into());
    Ok(())
}

/// Makes a name on a thread of the program; see the module.
pub fn made(name: &'static Name, make: impl FnOnce() -> Vec<u8>) -> *const c_char {
    hold::hold();
    name.publish(make());
    hold::release();
    name.pointer()
}

/// Directory of the next image.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_ckpt_dir() -> *const c_char {
    DIRECTORY.pointer()
}

/// Chooses the directory of the next images. 4: done.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_set_ckpt_dir(path: *const c_char) -> c_int {
    let Some(path) = text(path).filter(|p| !p.is_empty()) else { return NOT_PRESENT };
    if !life::is_member() {
        return NOT_PRESENT;
    }
    hold::hold();
    let chosen = choose_directory(path);
    hold::release();
    if chosen { PRESENT } else { NOT_PRESENT }
}

/// Path of the image that the next checkpoint writes.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_ckpt_filename() -> *const c_char {
    let Some(standing) = news::standing() else { return EMPTY };
    made(&IMAGE, || {
        let mut path = DIRECTORY.get().map_or(Vec::new(), |d| d.as_bytes().to_vec());
        path.push(b'/');
        path.extend_from_slice(checkpoint::image_name(standing.process).as_bytes());
        path
    })
}

/// A directory beside the image that files belonging to it may be put into; nobody creates it for the caller.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_ckpt_files_subdir() -> *const c_char {
    let image = dmtcp_get_ckpt_filename();
    let Some(image) = text(image).and_then(|image| image.strip_suffix(b".dmtcp")) else { return EMPTY };
    made(&SUBDIRECTORY, || [image, b"_files"].concat())
}

/// Scratch directory of the computation.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_tmpdir() -> *const c_char {
    if !life::is_member() {
        return EMPTY;
    }
    made(&TMPDIR, || match restore::scratch_directory() {
        Some(directory) => directory.into(),
        None => config::variable(dmtcp_protocol::env::TMPDIR).unwrap_or_else(|| "/tmp".into()).into_bytes(),
    })
}

/// Path of the program.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_get_executable_path() -> *const c_char {
    if !life::is_member() {
        return EMPTY;
    }
    made(&EXECUTABLE, || {
        let mut path = proc_files::read_link("/proc/thread-self/../../exe").unwrap_or_default();
        if path.ends_with(b" (deleted)") {
            path.truncate(path.len() - b" (deleted)".len());
        }
        path
    })
}
