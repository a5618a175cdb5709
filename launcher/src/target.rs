//! The program that is to be launched: where it is, and whether it can be under control.
//!
//! A library gets into a program through the loader, so a program without one (static), or one whose loader ignores
//! `LD_PRELOAD` (it runs with more rights than its user), runs outside of control; what it starts may be under control
//! again. A program for another machine cannot be served at all.

use crate::plugin_file::MACHINE;
use nix::unistd::{AccessFlags, Gid, Uid, access};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, elf};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How many bytes of a program say what it is.
const BEGINNING: usize = 4096;
/// How many bytes of a list of libraries and of their names are looked at.
const MOST_NAMES: u64 = 64 << 20;
/// How many interpreters the kernel follows.
const MOST_INTERPRETERS: usize = 5;

/// Why a program cannot be launched.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is none of that name.
    #[error("there is no program {0:?}{where_}", where_ = if .0.as_bytes().contains(&b'/') { "" } else { " in any directory of PATH" })]
    NotFound(OsString),
    /// It may not be executed.
    #[error("{} cannot be executed: {error}", .path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It may not be read, and neither could its memory be.
    #[error("cannot read the program {}: {error}; what cannot be read cannot be checkpointed", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It is made for another machine.
    #[error("{} is a program for another machine ({what}); this DMTCP serves 64-bit programs of this machine", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Class and machine.
        what: String,
    },
    /// The interpreter of a script is missing.
    #[error("the script {} names the interpreter {}, which cannot be read: {error}", .script.display(), .interpreter.display())]
    Interpreter {
        /// The script.
        script: PathBuf,
        /// What it names.
        interpreter: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Finds a program as the shell would.
pub fn find(name: &OsStr) -> Result<PathBuf, TargetError> {
    let executable = |path: &Path| match path.metadata() {
        Ok(meta) if meta.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(_) => access(path, AccessFlags::X_OK).map_err(io::Error::from),
        Err(error) => Err(error),
    };
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(TargetError::NotFound(name.into())),
            Err(error) => Err(TargetError::NotExecutable { path, error }),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut refused = None;
    for directory in path.as_bytes().split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate = Path::new(OsStr::from_bytes(directory)).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused.get_or_insert((candidate, error));
            }
            Err(_) => {}
        }
    }
    match refused {
        Some((path, error)) if path.exists() => Err(TargetError::NotExecutable { path, error }),
        _ => Err(TargetError::NotFound(name.into())),
    }
}

/// Looks at a program; the value says why it will run outside of control, if it will.
pub fn examine(program: &Path) -> Result<Option<String>, TargetError> {
    let mut path = program.to_path_buf();
    for _ in 0..MOST_INTERPRETERS {
        let mut buffer = [0u8; BEGINNING];
        let file = File::open(&path).and_then(|mut file| Ok((file.metadata()?, file.read(&mut buffer)?)));
        let (meta, length) = file.map_err(|error| {
            if path == program {
                TargetError::Unreadable { path: path.clone(), error }
            } else {
                TargetError::Interpreter { script: program.into(), interpreter: path.clone(), error }
            }
        })?;
        let beginning = &buffer[..length];
        match interpreter(beginning) {
            Some(next) => path = next,
            None if beginning.starts_with(&elf::ELFMAG) => {
                let outside = more_rights(&path, &meta).or(static_program(&path, beginning)?);
                return Ok(outside.map(|why| {
                    format!("{} {why}: it runs outside of control and is not checkpointed", path.display())
                }));
            }
            // Neither: the shell will try to read it.
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Whether the program needs AddressSanitizer's run time as a library. What cannot be read needs nothing.
pub fn needs_address_sanitizer(program: &Path) -> bool {
    File::open(program).is_ok_and(|file| needs_library(&file, b"libasan.so").unwrap_or(false))
}

/// Whether an ELF file needs a library whose name begins so; nothing if it has no list of them. Programs are large: only
/// the list and the names are read.
fn needs_library(file: &File, beginning: &[u8]) -> Option<bool> {
    let read = |offset: u64, length: u64| {
        let mut bytes = vec![0u8; usize::try_from(length.min(MOST_NAMES)).ok()?];
        let count = file.read_at(&mut bytes, offset).ok()?;
        bytes.truncate(count);
        Some(bytes)
    };
    let head = read(0, BEGINNING as u64)?;
    let header = elf::FileHeader64::<Endianness>::parse(&head[..]).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, &head[..]).ok()?;
    let list = segments.iter().find(|s| s.p_type(endian) == elf::PT_DYNAMIC)?;
    let bytes = read(list.p_offset(endian), list.p_filesz(endian))?;
    let (entries, _) = object::pod::slice_from_bytes::<elf::Dyn64<Endianness>>(&bytes, bytes.len() / 16).ok()?;
    let value = |tag: u32| entries.iter().find(|e| e.tag32(endian) == Some(tag)).map(|e| e.d_val(endian));
    let (address, length) = (value(elf::DT_STRTAB)?, value(elf::DT_STRSZ)?);
    let holds = |s: &&elf::ProgramHeader64<Endianness>| {
        s.p_type(endian) == elf::PT_LOAD
            && address.checked_sub(s.p_vaddr(endian)).is_some_and(|n| n < s.p_filesz(endian))
    };
    let segment = segments.iter().find(holds)?;
    let names = read(segment.p_offset(endian) + (address - segment.p_vaddr(endian)), length)?;
    let needed = entries.iter().filter(|e| e.tag32(endian) == Some(elf::DT_NEEDED));
    let is_it = |at: u64| names.get(usize::try_from(at).ok()?..).map(|name| name.starts_with(beginning));
    Some(needed.filter_map(|e| is_it(e.d_val(endian))).any(|is| is))
}

/// What the first line of a script names.
fn interpreter(beginning: &[u8]) -> Option<PathBuf> {
    let line = beginning.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.trim_ascii().split(|byte| matches!(byte, b' ' | b'\t')).next().filter(|word| !word.is_empty())?;
    Some(PathBuf::from(OsString::from_vec(word.to_vec())))
}

/// Why the loader will ignore `LD_PRELOAD`, if it will.
fn more_rights(path: &Path, meta: &std::fs::Metadata) -> Option<&'static str> {
    if meta.mode() & libc::S_ISUID != 0 && meta.uid() != Uid::effective().as_raw() {
        return Some("changes the user (setuid)");
    }
    if meta.mode() & libc::S_ISGID != 0 && meta.mode() & libc::S_IXGRP != 0 && meta.gid() != Gid::effective().as_raw() {
        return Some("changes the group (setgid)");
    }
    if Uid::effective().is_root() {
        return None;
    }
    let name = c"security.capability";
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: both strings end with a zero; a size of 0 asks for the length alone, so nothing is written.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    (length > 0).then_some("has capabilities of its own")
}

/// Whether an ELF program has no loader; an error if it is not for this machine.
fn static_program(path: &Path, beginning: &[u8]) -> Result<Option<&'static str>, TargetError> {
    let foreign = |what: String| TargetError::Foreign { path: path.into(), what };
    if beginning.get(4) != Some(&elf::ELFCLASS64) {
        return Err(foreign("a 32-bit one".into()));
    }
    let Ok(header) = elf::FileHeader64::<Endianness>::parse(beginning) else { return Ok(None) };
    let Ok(endian) = header.endian() else { return Ok(None) };
    let machine = header.e_machine(endian);
    if machine != MACHINE {
        return Err(foreign(format!("ELF machine {machine}")));
    }
    // Tables that lie further on, or are broken, are the kernel's to judge.
    let Ok(segments) = header.program_headers(endian, beginning) else { return Ok(None) };
    let has_loader = segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP);
    Ok((!has_loader).then_some("is statically linked"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn program(directory: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// An ELF header without segments: no loader.
    fn header(class: u8, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0u8; 64];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
        bytes[16] = 2;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn a_program_with_a_loader_is_under_control() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(examine(&own).unwrap(), None);
    }

    #[test]
    fn a_static_program_runs_outside_and_a_foreign_one_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let fixed = program(directory.path(), "fixed", &header(2, MACHINE), 0o700);
        assert!(examine(&fixed).unwrap().unwrap().contains("static"));
        for (class, machine) in [(1, elf::EM_386), (2, elf::EM_PPC64)] {
            let foreign = program(directory.path(), "foreign", &header(class, machine), 0o700);
            assert!(matches!(examine(&foreign), Err(TargetError::Foreign { .. })));
        }
    }

    #[test]
    fn needed_libraries_are_seen() {
        let own = File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(needs_library(&own, b"libc.so"), Some(true));
        assert_eq!(needs_library(&own, b"libasan.so"), Some(false));
        let directory = tempfile::tempdir().unwrap();
        let script = program(directory.path(), "script", b"#!/bin/sh", 0o700);
        assert_eq!(needs_library(&File::open(script).unwrap(), b"libc.so"), None);
    }

    #[test]
    fn broken_programs_are_left_to_the_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let mut cut = header(2, MACHINE);
        cut[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        cut[54] = 56;
        cut[56] = 9;
        for content in [&cut[..], &cut[..20], &cut[..5], b"", b"text"] {
            let path = program(directory.path(), "broken", content, 0o700);
            let _ = examine(&path);
        }
    }

    #[test]
    fn scripts_are_judged_by_their_interpreter() {
        let directory = tempfile::tempdir().unwrap();
        let fixed = program(directory.path(), "fixed", &header(2, MACHINE), 0o700);
        let script = format!("#! {} -x\n", fixed.display());
        let script = program(directory.path(), "script", script.as_bytes(), 0o700);
        assert!(examine(&script).unwrap().unwrap().contains("fixed is statically linked"));
        let orphan = program(directory.path(), "orphan", b"#!/nowhere/at/all\n", 0o700);
        assert!(matches!(examine(&orphan), Err(TargetError::Interpreter { .. })));
        let circle = program(directory.path(), "circle", b"", 0o700);
        std::fs::write(&circle, format!("#!{}\n", circle.display())).unwrap();
        assert_eq!(examine(&circle).unwrap(), None);
    }

    #[test]
    fn a_program_is_found_as_the_shell_does() {
        assert!(find(OsStr::new("sh")).unwrap().ends_with("sh"));
        assert!(matches!(find(OsStr::new("no-such-program")), Err(TargetError::NotFound(_))));
        assert!(matches!(find(OsStr::new("./no-such-program")), Err(TargetError::NotFound(_))));
        let directory = tempfile::tempdir().unwrap();
        let plain = program(directory.path(), "plain", b"", 0o600);
        assert!(matches!(find(plain.as_os_str()), Err(TargetError::NotExecutable { .. })));
        assert!(matches!(find(directory.path().as_os_str()), Err(TargetError::NotExecutable { .. })));
    }
}
