//! Settings of the process as a whole that one of its threads can read and make for all.

use crate::state::Settings;
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::{proc_files, sys};

const PR_GET_CHILD_SUBREAPER: i32 = 37;
const PR_SET_CHILD_SUBREAPER: i32 = 36;
const PR_SET_DUMPABLE: i32 = 4;

const PR_SET_THP_DISABLE: i32 = 41;

/// Commands of prctl(2) that read and set a value. Dumpability comes last: without it a process may not look at itself.
const CONTROLS: [(i32, i32); 5] = [
    // PR_*_THP_DISABLE
    (42, PR_SET_THP_DISABLE),
    // PR_*_MEMORY_MERGE
    (68, 67),
    // PR_*_MDWE: from then on no writable memory becomes executable.
    (66, 65),
    (PR_GET_CHILD_SUBREAPER, PR_SET_CHILD_SUBREAPER),
    // PR_*_DUMPABLE
    (3, PR_SET_DUMPABLE),
];

/// Files of /proc/PID that can be written back as they were read.
const FILES: [&str; 2] = ["oom_score_adj", "coredump_filter"];

const MEMBARRIER_GET_REGISTRATIONS: i32 = 1 << 9;
/// What is registered if the kernel (before 6.3) does not tell: harmless if the process never asked for it.
const LIKELY_BARRIERS: u32 = 1 << 4 | 1 << 6;

fn read_control(get: i32) -> Option<u64> {
    if get != PR_GET_CHILD_SUBREAPER {
        return sys::prctl(get, 0, 0, 0, 0).ok().map(|v| v as u64);
    }
    let mut value = 0i32;
    sys::prctl(get, sys::argument(&raw mut value), 0, 0, 0).ok()?;
    Some(value as u64)
}

fn path(name: &str) -> String {
    format!("/proc/thread-self/../../{name}")
}

fn read_text(name: &str) -> Option<String> {
    String::from_utf8(proc_files::read_file(&path(name)).ok()?).ok().map(|t| t.trim().to_owned())
}

/// Looks at all of them.
pub fn look() -> Settings {
    let registered = sys::memory_barrier(MEMBARRIER_GET_REGISTRATIONS);
    Settings {
        controls: CONTROLS.into_iter().filter_map(|(get, set)| Some((set, read_control(get)?))).collect(),
        barriers: registered.map_or(LIKELY_BARRIERS, |r| r as u32),
        barriers_known: registered.is_ok(),
        files: FILES.into_iter().filter_map(|name| Some((name.to_owned(), read_text(name)?))).collect(),
    }
}

/// Puts them back.
pub fn restore(core: Core, settings: &Settings) {
    for (name, wanted) in &settings.files {
        if read_text(name).as_ref() != Some(wanted)
            && let Err(error) = write_text(name, wanted)
        {
            core.log(Level::Warning, &format!("{name} cannot be set to {wanted} again: error {error}"));
        }
    }
    for command in (0..u32::BITS).map(|bit| 1u32 << bit).filter(|command| settings.barriers & command != 0) {
        let done = sys::memory_barrier(command as i32);
        if let (Err(error), true) = (done, settings.barriers_known) {
            core.log(
                Level::Warning,
                &format!("membarrier command {command:#x} cannot be registered again: error {error}"),
            );
        }
    }
    for (set, wanted) in &settings.controls {
        let get = CONTROLS.into_iter().find(|(_, s)| s == set).map(|(get, _)| get);
        if get.and_then(read_control) == Some(*wanted) {
            continue;
        }
        // That one is read with its flags (Linux 6.18) above its value, and is set with them beside it.
        let flags = if *set == PR_SET_THP_DISABLE { *wanted as usize & !1 } else { 0 };
        if let Err(error) = sys::prctl(*set, *wanted as usize & !flags, flags, 0, 0) {
            core.log(Level::Warning, &format!("prctl {set} cannot be set to {wanted} again: error {error}"));
        }
    }
}

fn write_text(name: &str, text: &str) -> Result<(), i32> {
    // The kernel reads the filter as a C number, but shows it in hexadecimal without a mark.
    let text = if name == "coredump_filter" { format!("0x{text}") } else { text.to_owned() };
    let file = sys::open(path(name).as_bytes(), libc::O_WRONLY | libc::O_CLOEXEC, 0)?;
    sys::write(file.number(), text.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_can_be_written_back() {
        for name in FILES {
            let before = read_text(name).unwrap();
            write_text(name, &before).unwrap();
            assert_eq!(read_text(name).unwrap(), before);
        }
    }

    #[test]
    fn settings_are_seen() {
        sys::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).unwrap();
        let settings = look();
        assert!(settings.controls.contains(&(PR_SET_CHILD_SUBREAPER, 1)), "{settings:?}");
        assert!(settings.controls.iter().any(|(set, value)| *set == PR_SET_DUMPABLE && *value <= 2));
    }
}
