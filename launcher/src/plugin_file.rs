//! A look into a plugin's file before a program is started with it: a file that the loader or the core would stumble
//! over is refused with one sentence, instead of a program that half works. Nothing of the file is run here, and of a file
//! that is mostly debug information only headers and exports are read.

use dmtcp_plugin_api::abi::{PLUGIN_SYMBOL, PLUGIN_SYMBOL_PREFIX};
use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::{Endianness, ReadCache, ReadRef, elf};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Export of a plugin made with the original's C interface.
const C_INTERFACE: &str = "dmtcp_initialize_plugin";

/// The machine that this program is made for.
pub(crate) const MACHINE: u16 = elf::EM_X86_64;

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
    let unreadable = |error| PluginError::Read { path: path.into(), error };
    let mut file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(other("it is a directory".into()));
    }
    let mut start = Vec::new();
    file.by_ref().take(elf::ELFMAG.len() as u64 + 1).read_to_end(&mut start).map_err(unreadable)?;
    if !start.starts_with(&elf::ELFMAG) {
        return Err(other("it is no ELF file".into()));
    }
    if start.get(4) == Some(&elf::ELFCLASS32) {
        return Err(other("it is a 32-bit ELF file".into()));
    }
    // What is asked for is read, and nothing else.
    let cache = ReadCache::new(file);
    let broken = |error: object::Error| other(error.to_string());
    let header = elf::FileHeader64::<Endianness>::parse(&cache).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    let machine = header.e_machine(endian);
    if machine != MACHINE {
        return Err(other(format!("it is made for machine {machine}")));
    }
    if header.e_type(endian) != elf::ET_DYN {
        return Err(other("it is not a shared object".into()));
    }
    let exports = exports(header, endian, &cache).map_err(broken)?;
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

/// Names of the symbols that a shared object defines for others.
fn exports<'data>(
    header: &elf::FileHeader64<Endianness>,
    endian: Endianness,
    data: impl ReadRef<'data>,
) -> object::Result<Vec<&'data [u8]>> {
    let sections = header.sections(endian, data)?;
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
    if symbols.is_empty() {
        return Ok(Vec::new());
    }
    // All names at once: one after the other, each would be a read of its own.
    let names = sections.section(symbols.string_section())?.data(endian, data)?;
    let defined = symbols.iter().filter(|symbol| !symbol.is_undefined(endian));
    let rest = defined.filter_map(|symbol| names.get(symbol.st_name(endian) as usize..));
    Ok(rest.filter_map(|rest| rest.split(|&byte| byte == 0).next()).collect())
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
        let cut = directory.path().join("cut.so");
        std::fs::write(&cut, b"\x7fELF\x02\x01\x01").unwrap();
        assert!(matches!(examine(&cut), Err(PluginError::NotALibrary { .. })));
        assert!(examine(directory.path()).unwrap_err().to_string().contains("it is a directory"));
        // The C library is a shared object for this machine, and knows nothing of us.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so"));
        assert!(matches!(examine(Path::new(libc.unwrap())), Err(PluginError::NoInterface(_))));
    }
}
