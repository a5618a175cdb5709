//! The golden plugin of interface version 1: one wrapper, hooks at all events, a section and a blob, and a restart half
//! that reads them. It asks everything of the core that it can ask, so that a function that is moved or changed is seen.

use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::restart::{Host, RestartHalf};
use dmtcp_plugin_api::{hook, plugin, restart_half, sys, wrappers};
use libc::c_uint;
use serde::{Deserialize, Serialize};

/// What the image says.
#[derive(Serialize, Deserialize)]
struct Section {
    word: String,
    generation: u64,
}

/// Memory that goes into the image once more, as a blob.
static BLOB: [u8; 8192] = [0x5a; 8192];

wrappers! { static WRAPPERS;
    /// Says when the program sleeps.
    fn sleep(seconds: c_uint) -> c_uint {
        let _ = sys::write(libc::STDERR_FILENO, b"golden: before\n");
        next(seconds)
    }
}

plugin! {
    name: "golden",
    priority: 7,
    requires: ["descriptors"],
    wrappers: [WRAPPERS],
    init: |_| true,
}

hook!(Init, |core| core.tell("INIT"));
hook!(PreSuspend, |core| core.tell("PRESUSPEND"));
hook!(PreCheckpoint, describe);
hook!(Resume, |core| core.tell("RESUME"));
hook!(Restart, restarted);
hook!(Running, |core| core.tell("RUNNING"));
hook!(Exit, |core| core.tell("EXIT"));

fn describe(core: Core) {
    core.tell("PRECHECKPOINT");
    core.log(Level::Trace, "the golden plugin describes");
    core.json("section", &Section { word: "gold".into(), generation: core.generation() });
    core.blob("blob", BLOB.as_ptr() as u64, BLOB.len() as u64);
    let here = BLOB.as_ptr() as u64;
    let answers = [
        ("new_object", core.new_object() != core.new_object()),
        ("mappings", core.mappings().iter().any(|m| (m.view.start..m.view.end).contains(&here) && m.name.ends_with(b".so"))),
        ("application_task", core.application_task() > 0),
        ("copy_descriptor", core.copy_descriptor(2).is_ok()),
        ("threads", core.threads().contains(&core.application_task())),
        ("neighbours", core.neighbours().contains(&sys::pid())),
        ("checkpoint_directory", core.checkpoint_directory().is_some_and(|path| path.starts_with(b"/"))),
        ("generation", core.generation() > 0),
    ];
    for (name, _) in answers.iter().filter(|(_, good)| !good) {
        core.fail(&format!("the core answers wrong to {name}"));
    }
}

fn restarted(core: Core) {
    let word = core.restart_environment(c"GOLDEN").unwrap_or_else(|| b"(nothing)".to_vec());
    core.tell(&format!("RESTART with {}", String::from_utf8_lossy(&word)));
}

restart_half!("golden", Half);

#[derive(Default)]
struct Half;

fn section(host: &Host<'_>, index: u32) -> Result<Section, String> {
    let section: Section = host.json(index, "section")?.ok_or("there is no section")?;
    let blob = host.blob(index, "blob").ok_or("there is no blob")?;
    let good = section.word == "gold" && section.generation > 0 && blob.length == BLOB.len() as u64;
    if good { Ok(section) } else { Err("the section is not what was described".into()) }
}

impl RestartHalf for Half {
    fn check(&self, host: &Host<'_>) -> Vec<String> {
        (0..host.process_count()).filter_map(|index| section(host, index).err()).collect()
    }

    fn create(&self, host: &Host<'_>) -> Result<(), String> {
        host.warn(&format!("golden: create for {} processes", host.process_count()));
        Ok(())
    }

    fn place(&self, host: &Host<'_>, index: u32) -> Result<(), String> {
        let process = host.process(index).ok_or("there is no such process")?;
        host.warn(&format!("golden: place in a process with pid {}", process.pid));
        Ok(())
    }

    fn explain(&self, host: &Host<'_>, index: u32) -> String {
        section(host, index).map_or_else(|reason| reason, |s| format!("golden: {} of generation {}", s.word, s.generation))
    }
}
