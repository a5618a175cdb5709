//! The list of names: the first entry that is the path, or a directory above it, counts.

use crate::told;
use dmtcp_plugin_api::abi::Event;
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Where the list comes from.
pub const VARIABLE: &CStr = c"DMTCP_PATH_MAPPING";
/// Longest path, its zero included.
pub const LONGEST: usize = libc::PATH_MAX as usize;

/// A list of names.
#[derive(Debug, Default)]
pub struct Mapping(Vec<(Vec<u8>, Vec<u8>)>);

/// The list in use; null until somebody asks. Lists are leaked: a wrapper may be reading the one before.
static CURRENT: AtomicPtr<Mapping> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// The list in use; `None` if it is empty.
#[inline]
pub fn current() -> Option<&'static Mapping> {
    // SAFETY: null, or leaked.
    let mapping = unsafe { CURRENT.load(Ordering::Acquire).as_ref() }.unwrap_or_else(first);
    (!mapping.0.is_empty()).then_some(mapping)
}

/// The list as the program was started with it: wrappers are called before any initialisation of ours.
#[cold]
fn first() -> &'static Mapping {
    let mut text: &[u8] = &[];
    // SAFETY: libc keeps `environ` null or a null-terminated array of zero-terminated texts.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let variable = CStr::from_ptr(*entry).to_bytes();
            if let Some(value) = variable.strip_prefix(VARIABLE.to_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
                text = value;
            }
            entry = entry.add(1);
        }
    }
    replace(text)
}

/// Takes a list into use.
pub fn replace(text: &[u8]) -> &'static Mapping {
    let mapping = Box::leak(Box::new(Mapping::parse(text)));
    CURRENT.store(mapping, Ordering::Release);
    mapping
}

/// What is left of a path behind a directory above it, or the path itself.
fn behind<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(directory)?;
    (rest.is_empty() || rest[0] == b'/').then_some(rest)
}

/// Another name for a path, with its zero.
fn join(name: &[u8], rest: &[u8], into: &mut [u8; LONGEST]) -> Option<usize> {
    let length = name.len() + rest.len();
    into.get_mut(..name.len())?.copy_from_slice(name);
    into.get_mut(name.len()..length)?.copy_from_slice(rest);
    *into.get_mut(length)? = 0;
    Some(length)
}

impl Mapping {
    fn parse(text: &[u8]) -> Self {
        let trim = |name: &[u8]| {
            let end = name.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
            name[..end].to_vec()
        };
        let pairs = text.split(|&b| b == b';').filter_map(|pair| {
            let colon = pair.iter().position(|&b| b == b':')?;
            Some((trim(&pair[..colon]), trim(&pair[colon + 1..])))
        });
        Self(pairs.filter(|(old, _)| !old.is_empty()).collect())
    }

    /// The file system's name of a path; its length. `None`: it is the program's.
    pub fn to_real(&self, path: &[u8], into: &mut [u8; LONGEST]) -> Option<usize> {
        self.0
            .iter()
            .find_map(|(old, new)| Some((new, behind(path, old)?)))
            .and_then(|(new, rest)| join(new, rest, into))
    }

    /// The program's name of a path; its length. `None`: it is the file system's.
    pub fn to_virtual(&self, path: &[u8], into: &mut [u8; LONGEST]) -> Option<usize> {
        self.0
            .iter()
            .find_map(|(old, new)| Some((old, behind(path, new)?)))
            .and_then(|(old, rest)| join(old, rest, into))
    }
}

/// Calls a function with the file system's name of a path.
#[inline]
pub fn real<R>(path: *const c_char, function: impl FnOnce(*const c_char) -> R) -> R {
    match current() {
        _ if path.is_null() => function(path),
        mapping if told::wanted(Event::VirtualToRealPath) => told::real(path, |path| match mapping {
            Some(mapping) => translated(mapping, path, function),
            None => function(path),
        }),
        Some(mapping) => translated(mapping, path, function),
        None => function(path),
    }
}

/// Apart, so that a program without a list does not pay for the buffer.
#[inline(never)]
fn translated<R>(mapping: &Mapping, path: *const c_char, function: impl FnOnce(*const c_char) -> R) -> R {
    let mut buffer = [0u8; LONGEST];
    // SAFETY: the program passes a zero-terminated path, as the wrapped function demands.
    let name = unsafe { CStr::from_ptr(path) }.to_bytes();
    match mapping.to_real(name, &mut buffer) {
        Some(_) => function(buffer.as_ptr().cast()),
        None => function(path),
    }
}

/// The program's name of a path that the file system has named; its length. `None`: they are the same.
pub fn own(path: &[u8], into: &mut [u8; LONGEST]) -> Option<usize> {
    let mapped = current().and_then(|mapping| mapping.to_virtual(path, into));
    if !told::wanted(Event::RealToVirtualPath) {
        return mapped;
    }
    if mapped.is_none() {
        join(path, b"", into)?;
    }
    Some(told::own(into))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(list: &str, path: &str) -> (String, String) {
        let mapping = Mapping::parse(list.as_bytes());
        let mut buffer = [0u8; LONGEST];
        let text = |buffer: &[u8], length: Option<usize>| {
            length.map_or(path.to_owned(), |n| String::from_utf8(buffer[..n].to_vec()).unwrap())
        };
        let real = mapping.to_real(path.as_bytes(), &mut buffer);
        let real = text(&buffer, real);
        let own = mapping.to_virtual(path.as_bytes(), &mut buffer);
        (real, text(&buffer, own))
    }

    #[test]
    fn names_change_at_borders_of_components() {
        let list = "/old:/new/place;/a/b/:/c";
        assert_eq!(both(list, "/old/x").0, "/new/place/x");
        assert_eq!(both(list, "/old").0, "/new/place");
        assert_eq!(both(list, "/older/x").0, "/older/x");
        assert_eq!(both(list, "/a/b/c/d").0, "/c/c/d");
        assert_eq!(both(list, "old/x").0, "old/x");
        assert_eq!(both(list, "/new/place/x").1, "/old/x");
        assert_eq!(both(list, "/new/places").1, "/new/places");
    }

    #[test]
    fn the_first_entry_counts_and_broken_ones_do_not() {
        assert_eq!(both("/a:/1;/a/b:/2", "/a/b").0, "/1/b");
        assert_eq!(both("nonsense;:/x;/a:/1;", "/a/b").0, "/1/b");
        assert_eq!(both("", "/a").0, "/a");
    }

    #[test]
    fn a_name_that_becomes_too_long_stays() {
        let path = format!("/a/{}", "x".repeat(4090));
        assert_eq!(both("/a:/much/longer", &path).0, path);
    }
}
