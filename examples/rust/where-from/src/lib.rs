//! A plugin with two halves: the in-process half writes into the image on which machine it was made; the restart half
//! reads that in `dmtcp_restart`, which says so if this is another machine, and in `dmtcp_inspect`.

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::restart::{Host, RestartHalf};
use dmtcp_plugin_api::{hook, plugin, proc_files, restart_half};
use serde::{Deserialize, Serialize};

/// What the image says. Later versions of this plugin add fields with `#[serde(default)]`.
#[derive(Serialize, Deserialize)]
struct Origin {
    host: String,
}

// The in-process half: raw system calls only.

plugin! {
    name: "where-from",
    priority: 0,
    requires: [],
    wrappers: [],
    init: |_| true,
}

hook!(PreCheckpoint, describe);

fn describe(core: Core) {
    match proc_files::read_file("/proc/sys/kernel/hostname") {
        Ok(name) => core.json("origin", &Origin { host: String::from_utf8_lossy(name.trim_ascii()).into_owned() }),
        Err(errno) => core.fail(&format!("the name of this machine cannot be read (errno {errno})")),
    }
}

// The restart half: an ordinary program.

restart_half!("where-from", Half);

#[derive(Default)]
struct Half;

impl Half {
    fn origin(host: &Host<'_>, index: u32) -> Result<Origin, String> {
        host.json(index, "origin")?.ok_or_else(|| "the image does not say where it was made".into())
    }
}

impl RestartHalf for Half {
    fn check(&self, host: &Host<'_>) -> Vec<String> {
        (0..host.process_count()).filter_map(|index| Self::origin(host, index).err()).collect()
    }

    fn create(&self, host: &Host<'_>) -> Result<(), String> {
        let here = std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(|e| e.to_string())?;
        for index in 0..host.process_count() {
            let there = Self::origin(host, index)?.host;
            if there != here.trim() {
                host.warn(&format!("process {index} was checkpointed on {there}; this is {}", here.trim()));
            }
        }
        Ok(())
    }

    fn place(&self, _: &Host<'_>, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn explain(&self, host: &Host<'_>, index: u32) -> String {
        match Self::origin(host, index) {
            Ok(origin) => format!("checkpointed on {}", origin.host),
            Err(reason) => reason,
        }
    }
}

#[cfg(test)]
mod tests;
