//! What stands in files of /proc about ids: `stat`, `status`, `children`, `locks`, `fdinfo`, `sysvipc`.
//!
//! Whoever opens such a file to read it gets a copy of it with virtual ids under the same number. What can go wrong: a
//! program that keeps the file open, and reads it again and again, sees what it was when it was opened.

use crate::table;
use crate::translate::shown;
use dmtcp_plugin_api::{proc_files, sys};
use libc::c_int;

/// Where the ids are in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// First, and behind the name in brackets: parent, group, session, and the group in the foreground.
    Stat,
    /// Behind the names of some lines.
    Status,
    /// All words.
    Children,
    /// In lines of locks.
    Locks,
    /// Behind names of lines, and in lines of locks.
    Descriptor,
    /// In two columns of a table with a head.
    Columns(usize),
}

/// The form of a file, by what follows /proc.
fn form(path: &[u8]) -> Option<Form> {
    let parts: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
    match parts[..] {
        [b"locks"] => Some(Form::Locks),
        [b"sysvipc", b"shm"] => Some(Form::Columns(4)),
        [b"sysvipc", b"msg"] => Some(Form::Columns(5)),
        [_, b"fdinfo", _] | [_, b"task", _, b"fdinfo", _] => Some(Form::Descriptor),
        [_, file] | [_, b"task", _, file] => match file {
            b"stat" => Some(Form::Stat),
            b"status" => Some(Form::Status),
            b"children" => Some(Form::Children),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a file of this name, as a program writes it, may be one of those: a first look, before the kernel is asked.
pub fn may_hold_ids(name: &[u8]) -> bool {
    let file = name.rsplit(|&b| b == b'/').next().unwrap_or(name);
    let known = [b"stat".as_slice(), b"status", b"children", b"locks", b"shm", b"msg"].contains(&file);
    known || file.first().is_some_and(u8::is_ascii_digit) && name.windows(7).any(|part| part == b"fdinfo/")
}

/// The text with every word replaced for which `ids` says that it is an id, by its place in the line and the line's words.
fn replace(text: &[u8], id_of: &dyn Fn(i32) -> i32, is_id: impl Fn(usize, &[&[u8]]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 32);
    for line in text.split_inclusive(|&b| b == b'\n') {
        let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        let mut index = 0;
        let mut at = 0;
        while at < line.len() {
            let end = line[at..].iter().position(u8::is_ascii_whitespace).map_or(line.len(), |length| at + length);
            if end == at {
                out.push(line[at]);
                at += 1;
                continue;
            }
            let word = &line[at..end];
            let number = str::from_utf8(word).ok().and_then(|word| word.parse::<i32>().ok());
            match number.filter(|_| is_id(index, &words)) {
                Some(id) => out.extend_from_slice(id_of(id).to_string().as_bytes()),
                None => out.extend_from_slice(word),
            }
            (index, at) = (index + 1, end);
        }
    }
    out
}

fn is_lock(index: usize, words: &[&[u8]]) -> bool {
    let waits = usize::from(words.contains(&b"->".as_slice()));
    index == 4 + waits
}

fn translated(form: Form, text: &[u8], id_of: &dyn Fn(i32) -> i32) -> Vec<u8> {
    const NAMES: [&[u8]; 8] =
        [b"Tgid:", b"Pid:", b"PPid:", b"TracerPid:", b"NStgid:", b"NSpid:", b"NSpgid:", b"NSsid:"];
    let named = |index: usize, words: &[&[u8]]| index == 1 && NAMES.contains(&words[0]);
    match form {
        Form::Stat => {
            let Some(end) = text.iter().rposition(|&b| b == b')') else { return text.to_vec() };
            let start = text.iter().position(|&b| b == b'(').unwrap_or(end);
            let mut out = replace(&text[..start], id_of, |_, _| true);
            out.extend_from_slice(&text[start..=end]);
            out.extend(replace(&text[end + 1..], id_of, |index, _| matches!(index, 1..=3 | 5)));
            out
        }
        Form::Status => replace(text, id_of, named),
        Form::Children => replace(text, id_of, |_, _| true),
        Form::Locks => replace(text, id_of, is_lock),
        Form::Descriptor => replace(text, id_of, |index, words| match words[0] {
            b"lock:" => index > 0 && is_lock(index - 1, &words[1..]),
            _ => named(index, words),
        }),
        Form::Columns(first) => replace(text, id_of, |index, _| index == first || index == first + 1),
    }
}

/// Puts a copy with virtual ids in the place of a file of /proc that is open to be read.
pub fn show_ids(number: c_int) {
    let own = proc_files::task_path(sys::tid(), &format!("fd/{number}"));
    let Ok(path) = proc_files::read_link(&own) else { return };
    let Some(form) = path.strip_prefix(b"/proc/").and_then(form) else { return };
    let flags = sys::fcntl(number, libc::F_GETFL, 0).unwrap_or(libc::O_WRONLY as usize);
    if flags & (libc::O_ACCMODE | libc::O_PATH) as usize != libc::O_RDONLY as usize {
        return;
    }
    let text = loop {
        let restarts = table::restarts();
        let Some(table) = table::current() else { return };
        let mut text = Vec::new();
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = sys::pread(number, &mut part, text.len() as u64) {
            text.extend_from_slice(&part[..length]);
        }
        let text = translated(form, &text, &|id| if id < 0 { id } else { shown(table, id) });
        // A restart in between: these are ids of before.
        if table::restarts() == restarts {
            break text;
        }
    };
    // Out of memory or descriptors: what is there can still be read.
    let _ = copy(&text).and_then(|file| {
        sys::seek(file.number(), sys::seek(number, 0, libc::SEEK_CUR)? as i64, libc::SEEK_SET)?;
        let closing = sys::fcntl(number, libc::F_GETFD, 0)? & libc::FD_CLOEXEC as usize != 0;
        sys::dup_to(file.number(), number, if closing { libc::O_CLOEXEC } else { 0 })
    });
}

/// At Placed, while the calling thread shares the program's descriptors: files that it has open show what they showed.
pub fn show_in_open_files() {
    if table::current().is_some() {
        proc_files::numbers_in("/proc/thread-self/fd").unwrap_or_default().into_iter().for_each(show_ids);
    }
}

/// A file in memory that can only be read.
fn copy(text: &[u8]) -> Result<sys::Fd, i32> {
    let arguments = [c"proc".as_ptr() as usize, libc::MFD_CLOEXEC as usize, 0, 0, 0, 0];
    // SAFETY: the name is zero-terminated.
    let number = unsafe { sys::call(libc::SYS_memfd_create as i32, arguments) }?;
    let file = sys::Fd::own(number as i32);
    sys::write_all_at(file.number(), text, 0)?;
    let path = proc_files::task_path(sys::tid(), &format!("fd/{}", file.number()));
    sys::open(path.as_bytes(), libc::O_RDONLY | libc::O_CLOEXEC, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str, text: &str) -> String {
        let id_of = |id: i32| if (100..200).contains(&id) { id + 9000 } else { id };
        String::from_utf8(translated(form(path.as_bytes()).unwrap(), text.as_bytes(), &id_of)).unwrap()
    }

    #[test]
    fn ids_and_nothing_else_become_virtual() {
        assert_eq!(
            shown("100/stat", "100 (a 101) b) S 102 103 104 105 106 107 108\n"),
            "9100 (a 101) b) S 9102 9103 9104 105 9106 107 108\n"
        );
        assert_eq!(
            shown("self/status", "Name:\t101\nPid:\t101\nNSpid:\t101\t102\nThreads:\t103\n"),
            "Name:\t101\nPid:\t9101\nNSpid:\t9101\t102\nThreads:\t103\n"
        );
        assert_eq!(shown("1/task/2/children", "101 102 "), "9101 9102 ");
        assert_eq!(
            shown(
                "locks",
                "101: POSIX  ADVISORY  WRITE 102 fe:00:103 0 EOF\n101: -> FLOCK  ADVISORY  READ 104 fe:00:3 0 9\n"
            ),
            "101: POSIX  ADVISORY  WRITE 9102 fe:00:103 0 EOF\n101: -> FLOCK  ADVISORY  READ 9104 fe:00:3 0 9\n"
        );
        assert_eq!(
            shown("1/fdinfo/3", "pos:\t101\nlock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:3 0 EOF\nPid:\t102\n"),
            "pos:\t101\nlock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:3 0 EOF\nPid:\t9102\n"
        );
        assert_eq!(
            shown("sysvipc/shm", "key shmid perms size cpid lpid\n 0 101 600 103 104 105 106\n"),
            "key shmid perms size cpid lpid\n 0 101 600 103 9104 9105 106\n"
        );
        assert_eq!((form(b"self/maps"), form(b"stat"), form(b"sys/kernel/pid_max")), (None, None, None));
    }
}
