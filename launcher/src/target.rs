//! The program that is to be launched: where it is, and whether it can be under control.
//!
//! A library gets into a program through the loader, so a program without one (static), or one whose loader ignores
//! `LD_PRELOAD` (it runs with more rights than its user), runs outside of control; what it starts may be under control
//! again. A program for another machine cannot be served at all.

use crate::plugin_file::MACHINE;
use nix::unistd::{AccessFlags, Gid, Uid, access};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Architecture, Endianness, elf};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many bytes of a program say what it is.
const BEGINNING: usize = 4096;
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
    if machine != elf_machine(MACHINE) {
        return Err(foreign(format!("ELF machine {machine}")));
    }
    // Tables that lie further on, or are broken, are the kernel's to judge.
    let Ok(segments) = header.program_headers(endian, beginning) else { return Ok(None) };
    let has_loader = segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP);
    Ok((!has_loader).then_some("is statically linked"))
}

fn elf_machine(machine: Architecture) -> u16 {
    match machine {
        Architecture::Aarch64 => elf::EM_AARCH64,
        _ => elf::EM_X86_64,
    }
}
