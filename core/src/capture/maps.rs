//! The mappings of the process, from /proc/PID/smaps: the only place that tells how a mapping was advised (VmFlags).

use dmtcp_image::record::flag;
use dmtcp_plugin_api::{proc_files, sys};

const SMAPS: &str = "/proc/thread-self/smaps";
const MAPS: &str = "/proc/thread-self/maps";

/// One mapping.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// PROT_* bits.
    pub prot: u32,
    /// MAP_SHARED.
    pub shared: bool,
    /// Offset into the file.
    pub offset: u64,
    /// Device.
    pub dev_major: u32,
    /// Device.
    pub dev_minor: u32,
    /// Inode, 0: none.
    pub inode: u64,
    /// Name, escapes undone.
    pub name: Vec<u8>,
    /// Bits of the image's `record::flag`.
    pub flags: u64,
    /// The protection key that stands before it, 0: none.
    pub key: u32,
    /// Pages in memory, in KiB.
    pub resident: u32,
    /// Pages that are swapped out, in KiB.
    pub swapped: u32,
}

/// The text of smaps.
pub fn text() -> Result<Vec<u8>, i32> {
    proc_files::read_file(SMAPS)
}

/// The mappings now.
pub fn read() -> Result<Vec<Mapping>, i32> {
    Ok(parse(&text()?))
}

/// Where the kernel's vdso is, if there is one.
pub fn vdso() -> Result<Option<(u64, u64)>, i32> {
    let text = proc_files::read_file(MAPS)?;
    let mut lines = text.split(|&b| b == b'\n').filter(|line| line.ends_with(b" [vdso]"));
    Ok(lines.find_map(header).map(|mapping| (mapping.start, mapping.end)))
}

/// Whether the mappings are still those of this smaps text: same addresses, protection, files.
pub fn same_layout(smaps: &[u8]) -> Result<bool, String> {
    let fail = |e| format!("{MAPS} cannot be read (errno {e})");
    // All the room that is needed, before the first byte is read: an allocation in between could add a mapping unseen.
    // The same lines without their details are shorter.
    let mut now = vec![0u8; smaps.len()];
    let mut filled = 0;
    let file = sys::open(MAPS.as_bytes(), libc::O_RDONLY | libc::O_CLOEXEC, 0).map_err(fail)?;
    loop {
        match sys::read(file.number(), &mut now[filled..]).map_err(fail)? {
            0 => break,
            count => filled += count,
        }
    }
    let mut before = smaps.split(|&b| b == b'\n').filter(|l| is_header(l));
    let mut after = now[..filled].split(|&b| b == b'\n').filter(|l| !l.is_empty());
    loop {
        match (before.next(), after.next()) {
            (None, None) => return Ok(true),
            (a, b) if a == b => {}
            _ => return Ok(false),
        }
    }
}

/// A line of smaps that starts a mapping: `start-end rwxp ...`, where the others start `Name:`.
fn is_header(line: &[u8]) -> bool {
    line.first().is_some_and(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
        && line.iter().position(|&b| b == b'-').is_some_and(|dash| line[..dash].iter().all(u8::is_ascii_hexdigit))
}

/// Parses smaps(5) text.
pub fn parse(text: &[u8]) -> Vec<Mapping> {
    let mut out: Vec<Mapping> = Vec::new();
    for line in text.split(|&b| b == b'\n') {
        if is_header(line) {
            out.extend(header(line));
        } else if let Some(flags) = line.strip_prefix(b"VmFlags:")
            && let Some(last) = out.last_mut()
        {
            last.flags |= flags.split(|&b| b == b' ').filter_map(flag_bit).fold(0, |all, bit| all | bit);
        } else if let Some(size) = line.strip_prefix(b"KernelPageSize:")
            && let Some(last) = out.last_mut()
        {
            last.flags |= if number(size) > 2048 { flag::GIGANTIC } else { 0 };
        } else if let Some(size) = line.strip_prefix(b"Rss:")
            && let Some(last) = out.last_mut()
        {
            last.resident = number(size);
        } else if let Some(size) = line.strip_prefix(b"Swap:")
            && let Some(last) = out.last_mut()
        {
            last.swapped = number(size);
        } else if let Some(key) = line.strip_prefix(b"ProtectionKey:")
            && let Some(last) = out.last_mut()
        {
            last.key = number(key);
        }
    }
    out
}

/// The first number of a line's rest.
fn number(text: &[u8]) -> u32 {
    let digits = text.iter().skip_while(|b| !b.is_ascii_digit()).take_while(|b| b.is_ascii_digit());
    digits.fold(0, |n, digit| n.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
}

fn flag_bit(name: &[u8]) -> Option<u64> {
    Some(match name {
        b"gd" => flag::GROWSDOWN,
        b"nr" => flag::NORESERVE,
        b"dd" => flag::DONTDUMP,
        b"dc" => flag::DONTFORK,
        b"wf" => flag::WIPEONFORK,
        b"hg" => flag::HUGEPAGE,
        b"nh" => flag::NOHUGEPAGE,
        b"lo" => flag::LOCKED,
        b"mg" => flag::MERGEABLE,
        b"rr" => flag::RANDOM,
        b"sr" => flag::SEQUENTIAL,
        b"dp" => flag::DROPPABLE,
        b"sl" => flag::SEALED,
        b"ht" => flag::HUGETLB,
        b"ac" => flag::ACCOUNTED,
        b"sh" => flag::SHARED,
        b"mw" => flag::MAYWRITE,
        b"gu" => flag::GUARDS,
        b"um" | b"uw" => flag::USERFAULT,
        b"lf" => flag::LOCKONFAULT,
        b"ss" => flag::SHADOWSTACK,
        _ => return None,
    })
}

fn header(line: &[u8]) -> Option<Mapping> {
    // start-end perms offset major:minor inode        name
    let mut rest = line;
    let mut word = || {
        let start = rest.iter().position(|&b| b != b' ')?;
        let end = rest[start..].iter().position(|&b| b == b' ').map_or(rest.len(), |n| start + n);
        let word = std::str::from_utf8(&rest[start..end]).ok()?;
        rest = &rest[end..];
        Some(word)
    };
    let hex = |s: &str| u64::from_str_radix(s, 16).ok();
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?.as_bytes();
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let inode = word()?.parse().ok()?;
    let bit = |index: usize, letter: u8, value: u32| if permissions.get(index) == Some(&letter) { value } else { 0 };
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        prot: bit(0, b'r', 1) | bit(1, b'w', 2) | bit(2, b'x', 4),
        shared: permissions.get(3) == Some(&b's'),
        offset,
        dev_major: hex(major)? as u32,
        dev_minor: hex(minor)? as u32,
        inode,
        name: unescape(rest.trim_ascii_start()),
        ..Mapping::default()
    })
}

/// The kernel writes a newline in a name as `\012`.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut at = 0;
    while at < name.len() {
        if name[at..].starts_with(b"\\012") {
            out.push(b'\n');
            at += 4;
        } else {
            out.push(name[at]);
            at += 1;
        }
    }
    out
}
