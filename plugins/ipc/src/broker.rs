//! The descriptor broker: lists the application's descriptors, offers each open file description to those who can save
//! it, writes the table of numbers.
//!
//! ```text
//!   /proc/.../fd, fdinfo -> entries -> groups -> Descriptor -> claimer, by priority -> describe()
//!                                                   `- nobody: reported by name, at restart /dev/null keeps its number
//! ```
//! The hook runs on a thread that has a descriptor table of its own: whatever is opened here is not seen by the
//! application, and closing a copy drops none of its locks.

use crate::group::{Entry, Group, cannot_copy, group};
use crate::state::{Descriptors, Object};
use crate::{pipes, signals};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::descriptors::{Broker, Claimer, Descriptor, SERVICE};
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{proc_files, sys};
use std::collections::BTreeMap;
use std::ffi::CStr;

static BROKER: Broker = Broker { size: size_of::<Broker>(), register };
static CLAIMERS: Round<Vec<&'static Claimer>> = Round::new(Vec::new());

/// An open file description with what fstat(2) says about it.
#[derive(Debug, Clone)]
pub struct Description {
    /// Its numbers and what /proc says.
    pub group: Group,
    /// Its object number.
    pub object: u64,
    /// F_GETFL.
    pub flags: i32,
    /// fstat(2).
    pub stat: libc::stat,
}

impl Description {
    /// Device and inode.
    pub fn identity(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }
}

/// Makes the service known; the plugin's `init`.
pub fn offer(core: Core) -> bool {
    register(&pipes::CLAIMER);
    core.offer_service(SERVICE, &BROKER)
}

extern "C" fn register(claimer: &'static Claimer) {
    CLAIMERS.with(|claimers| {
        claimers.push(claimer);
        claimers.sort_by_key(|c| c.priority);
    });
}

/// The hook: one round of claims.
pub fn run(core: Core) {
    let task = core.application_task();
    if task == 0 {
        return;
    }
    // Claimers call into this plugin again (object numbers, sections), never to register.
    let claimers = CLAIMERS.with(|c| c.clone()).unwrap_or_default();
    match describe(core, task, &claimers) {
        Ok(section) => core.json(Descriptors::SECTION, &section),
        Err(sentence) => core.fail(&sentence),
    }
}

fn describe(core: Core, task: i32, claimers: &[&'static Claimer]) -> Result<Descriptors, String> {
    let entries = list(task)?;
    let close_on_exec: BTreeMap<i32, bool> = entries.iter().map(|e| (e.number, e.close_on_exec())).collect();
    let descriptions = group(core, &entries)?.into_iter().map(|g| look(core, g)).collect::<Result<Vec<_>, _>>()?;
    pipes::begin_round(&descriptions);
    signals::begin_round();
    for claimer in claimers {
        (claimer.begin)();
    }
    let mut section = Descriptors::default();
    for description in &descriptions {
        let owner = offer_one(core, description, claimers)?;
        section.numbers.extend(description.group.numbers(description.object, &close_on_exec));
        section.objects.push(Object {
            object: description.object,
            link: description.group.entry.link.as_slice().into(),
            owner,
        });
    }
    section.numbers.sort_by_key(|n| n.number);
    for claimer in claimers {
        (claimer.describe)();
    }
    Ok(section)
}

/// Everything in the application's table.
fn list(task: i32) -> Result<Vec<Entry>, String> {
    let unreadable = |e| format!("the application's descriptors cannot be listed: error {e} reading /proc");
    let mut numbers = proc_files::numbers_in(&proc_files::task_path(task, "fd")).map_err(unreadable)?;
    numbers.sort_unstable();
    let entry = |number: i32| {
        let link = proc_files::read_link(&proc_files::task_path(task, &format!("fd/{number}")));
        let info = proc_files::read_file(&proc_files::task_path(task, &format!("fdinfo/{number}")));
        match (link, info) {
            (Ok(link), Ok(info)) => Ok(Entry { number, link, info }),
            (Err(e), _) | (_, Err(e)) => Err(format!("fd {number}: error {e} reading what it is from /proc")),
        }
    };
    numbers.into_iter().map(entry).collect()
}

fn look(core: Core, group: Group) -> Result<Description, String> {
    let copy = core.copy_descriptor(group.entry.number).map_err(|e| cannot_copy(&group.entry, e))?;
    let stat = sys::fstat(copy.number()).map_err(|e| cannot_copy(&group.entry, e))?;
    let flags = sys::fcntl(copy.number(), libc::F_GETFL, 0).map_err(|e| cannot_copy(&group.entry, e))?;
    Ok(Description { group, object: core.new_object(), flags: flags as i32, stat })
}

/// Offers one description; the name of the plugin that takes it.
fn offer_one(core: Core, d: &Description, claimers: &[&'static Claimer]) -> Result<Option<String>, String> {
    let entry = &d.group.entry;
    let copy = core.copy_descriptor(entry.number).map_err(|e| cannot_copy(entry, e))?;
    signals::look(core, entry.number, copy.number(), d.flags);
    let offered = Descriptor {
        object: d.object,
        number: entry.number,
        copy: copy.number(),
        flags: d.flags,
        mode: d.stat.st_mode,
        device: d.stat.st_dev,
        inode: d.stat.st_ino,
        links: d.stat.st_nlink,
        size: d.stat.st_size,
        special: d.stat.st_rdev,
        link: entry.link.as_ptr(),
        link_length: entry.link.len(),
        info: entry.info.as_ptr(),
        info_length: entry.info.len(),
        numbers: d.group.numbers.as_ptr(),
        number_count: d.group.numbers.len(),
    };
    for claimer in claimers {
        if (claimer.claim)(&offered) {
            // SAFETY: the names of claimers are zero-terminated statics.
            let name = unsafe { CStr::from_ptr(claimer.name) };
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    core.unsupported(&format!(
        "fd {} -> {}: no plugin supports it; after a restart this number is open on /dev/null",
        entry.number,
        String::from_utf8_lossy(&entry.link)
    ));
    Ok(None)
}
