//! A look into a plugin's file before a program is started with it: a file that the loader or the core would stumble
//! over is refused with one sentence, instead of a program that half works.

use object::read::elf::{ElfFile64, FileHeader};
use object::{Architecture, Endianness, Object, ObjectKind, ObjectSymbol, elf};
use std::io;
use std::path::{Path, PathBuf};

/// Export of a plugin made with the plugin interface of this project.
const STUB: &str = "dmtcp_plugin_v1";
/// Export of a plugin made with the original's C interface.
const C_INTERFACE: &str = "dmtcp_initialize_plugin";

/// The machine that this program is made for.
pub(crate) const MACHINE: Architecture = Architecture::X86_64;

/// Which interface a plugin is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// This project's.
    Stub,
    /// The original's C interface.
    C,
}

/// Why a file is not a plugin.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It cannot be read.
    #[error("cannot read the plugin {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It is something else.
    #[error("the plugin {} is not a shared library for this machine ({what}); compile it with -shared -fPIC", .path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// It is a library that knows nothing of us.
    #[error(
        "{} is no plugin: it exports neither {STUB} (declare it with plugin!) nor {C_INTERFACE} (DMTCP_DECL_PLUGIN)",
        .0.display()
    )]
    NoInterface(PathBuf),
}

/// Whether a plugin's file exports a symbol: a plugin exports what it wraps.
pub fn exports(path: &Path, symbol: &str) -> Result<bool, PluginError> {
    let data = std::fs::read(path).map_err(|error| PluginError::Read { path: path.into(), error })?;
    let file: ElfFile64<Endianness> = ElfFile64::parse(&*data)
        .map_err(|error| PluginError::NotALibrary { path: path.into(), what: error.to_string() })?;
    Ok(defines(&file, symbol))
}

fn defines(file: &ElfFile64<Endianness>, name: &str) -> bool {
    file.dynamic_symbols().any(|symbol| symbol.is_definition() && symbol.name_bytes() == Ok(name.as_bytes()))
}

/// Which interface the plugin in a file is made with.
pub fn examine(path: &Path) -> Result<Interface, PluginError> {
    let data = std::fs::read(path).map_err(|error| PluginError::Read { path: path.into(), error })?;
    let other = |what: String| PluginError::NotALibrary { path: path.into(), what };
    if data.starts_with(&elf::ELFMAG) && data.get(4) == Some(&elf::ELFCLASS32) {
        return Err(other("it is a 32-bit ELF file".into()));
    }
    let file: ElfFile64<Endianness> = ElfFile64::parse(&*data).map_err(|error| other(error.to_string()))?;
    if file.architecture() != MACHINE {
        let machine = file.elf_header().e_machine(file.endian());
        return Err(other(format!("it is made for machine {machine}")));
    }
    if file.kind() != ObjectKind::Dynamic {
        return Err(other("it is not a shared object".into()));
    }
    if defines(&file, STUB) {
        Ok(Interface::Stub)
    } else if defines(&file, C_INTERFACE) {
        Ok(Interface::C)
    } else {
        Err(PluginError::NoInterface(path.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plugin_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.so");
        assert!(matches!(examine(&missing), Err(PluginError::Read { .. })));
        let text = directory.path().join("text.so");
        std::fs::write(&text, "text").unwrap();
        assert!(matches!(examine(&text), Err(PluginError::NotALibrary { .. })));
        let narrow = directory.path().join("narrow.so");
        std::fs::write(&narrow, b"\x7fELF\x01\x01\x01").unwrap();
        assert!(examine(&narrow).unwrap_err().to_string().contains("32-bit"));
        // The C library is a shared object for this machine, and knows nothing of us.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so"));
        assert!(matches!(examine(Path::new(libc.unwrap())), Err(PluginError::NoInterface(_))));
    }
}
