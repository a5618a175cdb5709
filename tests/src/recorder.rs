//! A library that stands in front of libc and records which of its functions our libraries call.
//!
//! `programs/recorder.c` does the work; here its stubs are made, one for each function that this machine's libc exports
//! in its default version. The stubs know the functions by their offsets in
//! libc: the library fits the libc of this machine and no other.

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A variable of libc that programs do not copy into themselves.
const ANCHOR: &str = "obstack_alloc_failed_handler";

/// The libc that programs of this machine use.
fn libc() -> Result<String> {
    let output = Command::new("gcc").arg("-print-file-name=libc.so.6").output().context("cannot run gcc")?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(fs::canonicalize(&path).with_context(|| format!("no {path}"))?.display().to_string())
}

/// Name, kind as nm(1) has it, offset: of all that libc exports in its default version.
fn exports(libc: &str) -> Result<Vec<(String, char, u32)>> {
    let output = Command::new("nm").args(["-D", "--defined-only", libc]).output().context("cannot run nm")?;
    let mut out = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [offset, kind, name] = words[..] else { continue };
        let Some((name, _)) = name.split_once("@@") else { continue };
        out.push((name.to_owned(), kind.chars().next().unwrap_or(' '), u32::from_str_radix(offset, 16)?));
    }
    Ok(out)
}

/// The stubs and tables that `recorder.c` asks for.
fn stubs(exports: &[(String, char, u32)]) -> Result<String> {
    let anchor = exports.iter().find(|x| x.0 == ANCHOR).with_context(|| format!("libc has no {ANCHOR}"))?;
    let functions: Vec<_> = exports.iter().filter(|x| "TWi".contains(x.1)).collect();
    ensure!(functions.len() > 1000, "libc exports only {} functions", functions.len());
    ensure!(functions.len() < 4096, "libc exports {} functions: make ROOM in recorder.c larger", functions.len());
    let (mut text, mut offsets, mut names) = (String::new(), String::new(), String::new());
    for (index, (name, kind, offset)) in functions.iter().enumerate() {
        writeln!(text, ".globl {name}\n.type {name}, @function\n{name}: movl ${index}, %r11d; jmp recorder_enter")?;
        writeln!(offsets, ".long {}", offset | u32::from(*kind == 'i'))?;
        writeln!(names, ".asciz \"{name}\"")?;
    }
    let table = |name: &str, rows: &str| format!(".balign 8\n.globl {name}\n.hidden {name}\n{name}:\n{rows}\n");
    Ok(format!(
        ".text\n{text}\n.section .rodata\n{}{}{}{}\n.section .data.rel.ro,\"aw\"\n{}.section .note.GNU-stack,\"\"\n",
        table("recorder_offsets", &offsets),
        table("recorder_names", &names),
        table("recorder_count", &format!(".long {}", functions.len())),
        table("recorder_anchor_offset", &format!(".long {}", anchor.2)),
        table("recorder_anchor_at", &format!(".quad {ANCHOR}")),
    ))
}

/// Builds the library in a directory; returns its path.
pub fn build(directory: &Path) -> Result<PathBuf> {
    let libc = libc()?;
    let assembly = directory.join("stubs.s");
    fs::write(&assembly, stubs(&exports(&libc)?)?)?;
    let library = directory.join("recorder.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/recorder.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-O1", "-fno-stack-protector", "-fno-builtin", "-Wall", "-Werror", "-Wl,-z,now"]);
    let made = gcc.args([&source, &assembly]).arg("-o").arg(&library).output().context("cannot run gcc")?;
    ensure!(made.status.success(), "{gcc:?}: {}", String::from_utf8_lossy(&made.stderr));
    fs::remove_file(assembly)?;
    Ok(library)
}
