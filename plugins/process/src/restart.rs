//! The restart half: working directory and umask.

use crate::limits::NAMES;
use crate::state::{Place, State};
use dmtcp_plugin_api::restart::{Host, RestartHalf};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{env, fs};

/// The restart half.
#[derive(Debug, Default)]
pub struct Half;

/// The section of a process, or nothing: the process may have been without application threads.
fn section(host: &Host<'_>, index: u32) -> Result<Option<State>, String> {
    host.json(index, State::SECTION).map_err(|e| format!("plugin {}: {e}", crate::NAME))
}

impl RestartHalf for Half {
    fn check(&self, host: &Host<'_>) -> Vec<String> {
        (0..host.process_count()).filter_map(|index| section(host, index).err()).collect()
    }

    fn create(&self, host: &Host<'_>) -> Result<(), String> {
        for index in 0..host.process_count() {
            let filters = section(host, index)?.map_or(0, |state| state.filters);
            if filters > 0 {
                host.warn(&format!(
                    "process {index} goes on without the filters of seccomp(2) that it had made ({filters})"
                ));
            }
        }
        Ok(())
    }

    fn place(&self, host: &Host<'_>, index: u32) -> Result<(), String> {
        let Some(state) = section(host, index)? else { return Ok(()) };
        let path = host.path(state.place.directory.bytes());
        if let Err(e) = enter(Path::new(OsStr::from_bytes(&path)), state.place.removed) {
            let stay = env::current_dir().map_or_else(|_| "?".into(), |d| d.display().to_string());
            host.warn(&format!("working directory {}: {e}; the process goes on in {stay}", state.place.directory));
        }
        // SAFETY: no memory is passed; it cannot fail.
        unsafe { libc::umask(state.place.umask) };
        Ok(())
    }

    fn explain(&self, host: &Host<'_>, index: u32) -> String {
        section(host, index).ok().flatten().map(|state| explain(&state)).unwrap_or_default()
    }
}

/// Makes a directory the working directory; one that had been removed is made for the purpose.
fn enter(path: &Path, removed: bool) -> io::Result<()> {
    let made = removed && fs::create_dir(path).is_ok();
    if removed && !made {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".dmtcp-{}", std::process::id()));
        fs::create_dir(&beside)?;
        let entered = env::set_current_dir(&beside);
        fs::remove_dir(&beside)?;
        return entered;
    }
    let entered = env::set_current_dir(path);
    if made {
        fs::remove_dir(path)?;
    }
    entered
}

fn explain(state: &State) -> String {
    let Place { directory, removed, umask } = &state.place;
    let removed = if *removed { " (removed)" } else { "" };
    let mut out = format!("  working directory {directory}{removed}, umask {umask:04o}\n");
    let text = |value: u64| if value == u64::MAX { "unlimited".into() } else { value.to_string() };
    let limited = state.limits.iter().filter(|l| l.limit[0] != u64::MAX);
    let limits: Vec<String> = limited
        .map(|l| format!("{} {}", NAMES.get(l.resource as usize).copied().unwrap_or("?"), text(l.limit[0])))
        .collect();
    out += &format!("  limits: {}\n", limits.join(", "));
    let odd = state.threads.iter().filter(|t| t.policy != 0 || t.nice != 0 || t.processors.is_some()).count();
    if odd > 0 {
        out += &format!("  {odd} of {} threads are not scheduled by default\n", state.threads.len());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_directory_is_entered_and_gone() {
        let parent = tempfile::tempdir().unwrap();
        let before = env::current_dir().unwrap();
        let path = parent.path().join("gone");
        for taken in [false, true] {
            if taken {
                fs::create_dir(&path).unwrap();
            }
            enter(&path, true).unwrap();
            let link = fs::read_link("/proc/self/cwd").unwrap();
            assert!(link.to_str().unwrap().ends_with(" (deleted)"), "{}", link.display());
            assert_eq!(path.exists(), taken);
        }
        env::set_current_dir(before).unwrap();
    }
}
