//! One round of claims: which open file descriptions are this plugin's, and what it notes of each.

use crate::state::{Events, Kind, Object};
use crate::{epoll, eventfd, timerfd};
use dmtcp_plugin_api::core::{Core, core};
use dmtcp_plugin_api::descriptors::{Claimer, Descriptor};
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{ids, proc_files, sys};

/// Nobody else knows these objects, so its place among the claimers does not matter.
pub static CLAIMER: Claimer = Claimer { name: c"event".as_ptr(), priority: 0, begin, claim, describe };

static EVENTS: Round<Events> = Round::new(Events { objects: Vec::new() });

extern "C" fn begin() {
    drop(EVENTS.take());
}

extern "C" fn claim(d: &Descriptor) -> bool {
    let Some(core) = core() else { return false };
    let Some(looked) = look(core, d) else { return false };
    match looked {
        Ok(kind) => {
            let object = Object { object: d.object, numbers: d.numbers().to_vec(), flags: d.flags, kind };
            EVENTS.with(|events| events.objects.push(object)).is_some()
        }
        Err(sentence) => {
            core.unsupported(&format!("fd {} -> {}: {sentence}", d.number, String::from_utf8_lossy(d.link())));
            false
        }
    }
}

extern "C" fn describe() {
    let Some(core) = core() else { return };
    let events = EVENTS.take();
    timerfd::remember(&events.objects);
    core.json(Events::SECTION, &events);
}

/// What a descriptor is, if it is ours. The error completes a sentence.
fn look(core: Core, d: &Descriptor) -> Option<Result<Kind, String>> {
    let unreadable = |e: i32| format!("its state cannot be read: error {e}");
    Some(match d.link() {
        b"anon_inode:[eventfd]" => eventfd::look(d).map_err(unreadable),
        b"anon_inode:[timerfd]" => timerfd::look(d.copy).map_err(unreadable),
        b"anon_inode:[signalfd]" => {
            let mask = d.info_field("sigmask").and_then(|m| u64::from_str_radix(m, 16).ok());
            mask.map(Kind::Signals).ok_or_else(|| unreadable(libc::EPROTO))
        }
        b"anon_inode:[eventpoll]" => {
            let task = core.application_task();
            let numbers = proc_files::numbers_in(&proc_files::task_path(task, "fd")).unwrap_or_default();
            epoll::look(d.info(), &numbers, |n, added, which| epoll::same_target(task, d.number, n, added, which))
        }
        link if is_pidfd(link) => {
            let pid = d.info_field("Pid").and_then(|pid| pid.parse::<i32>().ok());
            pid.map(|pid| process(core, pid)).ok_or_else(|| unreadable(libc::EPROTO))
        }
        _ => return None,
    })
}

/// Since Linux 6.9 they are files of a file system of their own.
fn is_pidfd(link: &[u8]) -> bool {
    link == b"anon_inode:[pidfd]" || link.starts_with(b"pidfd:[")
}

/// Whom a pidfd is of; the kernel says -1 of one that is no more.
fn process(core: Core, pid: i32) -> Kind {
    if pid == sys::pid() { Kind::Itself } else { Kind::Process(ids::to_virtual(core, pid.max(0))) }
}
