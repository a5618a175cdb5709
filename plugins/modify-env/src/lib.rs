//! Plugin `modify-env`: changes the environment of a restarted program as a file in the checkpoint directory says.
//!
//! | module | owns |
//! |---|---|
//! | [`file`] | the language of the file |
//! | [`environment`] | `environ`, edited while all threads are stopped |
//!
//! The file is `dmtcp_env.txt`, or what `DMTCP_ENV_FILE` names (in the environment of the restart, else in the program's),
//! relative to the checkpoint directory. It is read at every restart, never at a checkpoint.
//!
//! What can go wrong: a program that keeps a copy of its environment (Python's `os.environ`) does not see the change. A
//! thread that was stopped inside setenv(3) goes on with the old array: its own change is then lost, not ours.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

mod environment;
mod file;

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::{hook, plugin, proc_files, sys};
use std::ffi::CString;

const DEFAULT_FILE: &[u8] = b"dmtcp_env.txt";
const FILE_VARIABLE: &[u8] = b"DMTCP_ENV_FILE";

plugin! {
    name: "modify-env",
    priority: -1000,
    requires: [],
    wrappers: [],
    init: |_| true,
}

hook!(Restart, |core| {
    if let Err(reason) = modify(core) {
        core.tell(&format!("{reason}; the environment is as it was"));
    }
});

fn restart_variable(core: Core, name: &[u8]) -> Option<Vec<u8>> {
    core.restart_environment(&CString::new(name).ok()?)
}

/// Where the file is.
fn path(core: Core) -> Vec<u8> {
    let named = restart_variable(core, FILE_VARIABLE).or_else(|| environment::variable(FILE_VARIABLE));
    let name = named.filter(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT_FILE.to_vec());
    if name.starts_with(b"/") {
        return name;
    }
    let mut path = core.checkpoint_directory().unwrap_or_else(|| b".".to_vec());
    path.push(b'/');
    path.extend_from_slice(&name);
    path
}

fn modify(core: Core) -> Result<(), String> {
    let path = path(core);
    let shown = String::from_utf8_lossy(&path).into_owned();
    let file = sys::open(&path, libc::O_RDONLY | libc::O_CLOEXEC, 0)
        .map_err(|errno| format!("{shown} cannot be opened (errno {errno})"))?;
    let text = proc_files::read_all(&file).map_err(|errno| format!("{shown} cannot be read (errno {errno})"))?;
    let changes = file::parse(&text, |name| restart_variable(core, name)).map_err(|e| format!("{shown}: {e}"))?;
    environment::change(&changes);
    Ok(())
}
