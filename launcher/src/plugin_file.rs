//! A look into a plugin's file before a program is started with it: a file that the loader or the core would stumble
//! over is refused with one sentence, instead of a program that half works. Nothing of the file is run here.

use dmtcp_plugin_api::abi::{PLUGIN_SYMBOL, PLUGIN_SYMBOL_PREFIX};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Architecture, Endianness, Object, ObjectKind, ObjectSymbol, elf};
use std::io;
use std::path::{Path, PathBuf};

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
    #[error("cannot read the plugin {}: {error}; name a shared library that is there (--with-plugin, DMTCP_PLUGIN)", .path.display())]
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
        "{} is no plugin: it exports neither {PLUGIN_SYMBOL} (declare it with plugin!) nor {C_INTERFACE} (DMTCP_DECL_PLUGIN)",
        .0.display()
    )]
    NoInterface(PathBuf),
    /// It is a plugin of another age.
    #[error(
        "the plugin {} is made for another plugin interface: it exports {symbol}, and this DMTCP looks for {PLUGIN_SYMBOL}; \
         build it against this version of dmtcp-plugin-api",
        .path.display()
    )]
    OtherInterface {
        /// The file.
        path: PathBuf,
        /// What it exports.
        symbol: String,
    },
}

/// Which interface the plugin in a file is made with.
pub fn examine(path: &Path) -> Result<Interface, PluginError> {
    let other = |what: String| PluginError::NotALibrary { path: path.into(), what };
    if path.is_dir() {
        return Err(other("it is a directory".into()));
    }
    let data = std::fs::read(path).map_err(|error| PluginError::Read { path: path.into(), error })?;
    if !data.starts_with(&elf::ELFMAG) {
        return Err(other("it is no ELF file".into()));
    }
    if data.get(4) == Some(&elf::ELFCLASS32) {
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
    let exports: Vec<&[u8]> = file
        .dynamic_symbols()
        .filter(ObjectSymbol::is_definition)
        .filter_map(|symbol| symbol.name_bytes().ok())
        .collect();
    if exports.contains(&PLUGIN_SYMBOL.as_bytes()) {
        Ok(Interface::Stub)
    } else if exports.contains(&C_INTERFACE.as_bytes()) {
        Ok(Interface::C)
    } else if let Some(symbol) = exports.iter().find(|name| name.starts_with(PLUGIN_SYMBOL_PREFIX.as_bytes())) {
        let symbol = String::from_utf8_lossy(symbol).into_owned();
        Err(PluginError::OtherInterface { path: path.into(), symbol })
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
