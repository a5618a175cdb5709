//! Reading /proc without libc. `/proc/thread-self/..`-style paths only: `/proc/self` is empty once the main thread has ended.

use crate::sys::{self, Fd};

/// The whole text of a file; grows as needed. The error is an errno.
pub fn read_file(path: &str) -> Result<Vec<u8>, i32> {
    let file = sys::open(path.as_bytes(), libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    read_all(&file)
}

/// Everything from a descriptor's position to its end.
pub fn read_all(file: &Fd) -> Result<Vec<u8>, i32> {
    let mut out = vec![0; 4096];
    let mut filled = 0;
    loop {
        // Files of /proc give a page at a time, however much room there is.
        match sys::read(file.number(), &mut out[filled..])? {
            0 => {
                out.truncate(filled);
                return Ok(out);
            }
            count => filled += count,
        }
        if filled == out.len() {
            out.resize(filled * 2, 0);
        }
    }
}

/// The fields of proc(5)'s `stat` of a process or task from the third one, the state, on. The name before that may hold
/// anything, and is left out.
pub fn stat_fields(stat: &[u8]) -> impl Iterator<Item = &str> {
    let behind = stat.iter().rposition(|&b| b == b')').map_or(&[][..], |at| &stat[at + 1..]);
    std::str::from_utf8(behind).unwrap_or_default().split_ascii_whitespace()
}

/// The state letter in such a text.
pub fn state_in(stat: &[u8]) -> Option<u8> {
    stat_fields(stat).next()?.bytes().next()
}

/// The target of a symbolic link.
pub fn read_link(path: &str) -> Result<Vec<u8>, i32> {
    let mut out = vec![0; 4096];
    let count = sys::readlink(path.as_bytes(), &mut out)?;
    out.truncate(count);
    Ok(out)
}

/// The entries of a directory that are numbers, in no order.
pub fn numbers_in(path: &str) -> Result<Vec<i32>, i32> {
    let directory = sys::open(path.as_bytes(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?;
    let mut out = Vec::new();
    let mut buffer = vec![0u8; 32 << 10];
    loop {
        let filled = sys::getdents(directory.number(), &mut buffer)?;
        if filled == 0 {
            return Ok(out);
        }
        let mut at = 0;
        while at + 19 <= filled {
            let length = u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]) as usize;
            let name = &buffer[at + 19..(at + length).min(filled)];
            let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
            if let Some(number) = std::str::from_utf8(&name[..end]).ok().and_then(|n| n.parse().ok()) {
                out.push(number);
            }
            at += length.max(19);
        }
    }
}

/// The directory in /proc of a thread of this process.
pub fn task_path(tid: i32, file: &str) -> String {
    format!("/proc/thread-self/../{tid}/{file}")
}

/// The link in /proc to one of the calling thread's own descriptors; opening it makes a new description of the same file.
pub fn descriptor_path(number: i32) -> String {
    format!("/proc/thread-self/fd/{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_do_not_shift_fields() {
        let stat = b"17 (a) S (b\xff) T 4 5 -1\n";
        assert_eq!((state_in(stat), stat_fields(stat).nth(3)), (Some(b'T'), Some("-1")));
        assert_eq!((state_in(b""), state_in(b"17 (a"), state_in(b"17 (a)")), (None, None, None));
    }
}
