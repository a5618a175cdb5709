//! A computation of one process without a coordinator (`dmtcp_launch --no-coordinator`).
//!
//! ```text
//!   dmtcp_checkpoint() or the interval --> checkpoint thread: claim a number, stop, look, write, release, fsync
//!                                          --> MANIFEST by rename, public name, older generations removed
//! ```
//! Every barrier is passed at once: nobody else is there. The process commits its generation itself, by the same steps and
//! with the same files as a coordinator does (docs/protocol.md). A restart puts the process under the coordinator of
//! dmtcp_restart.

use super::worker::{Worker, host_name, program};
use crate::{config, ids, interface, log};
use dmtcp_plugin_api::sys;
use dmtcp_protocol::manifest::{self, Image, Manifest};
use dmtcp_protocol::message::{FromCoordinator, Written};
use dmtcp_protocol::script;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Whether this process has no coordinator.
static ALONE: AtomicBool = AtomicBool::new(false);
/// Futex word: how many checkpoints were asked for.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Whether this process has no coordinator.
pub fn is_alone() -> bool {
    ALONE.load(Ordering::Acquire)
}

/// From the constructor of a process that is launched so; or after a restart, which brings a coordinator.
pub fn set(alone: bool) {
    ALONE.store(alone, Ordering::Release);
}

/// Asks the checkpoint thread for a checkpoint.
pub fn ask() {
    ASKED.fetch_add(1, Ordering::AcqRel);
    sys::futex_wake(ASKED.as_ptr());
}

/// Waits until a checkpoint is asked for or due; the number of its generation.
pub fn next_generation(worker: &Worker, served: &mut u32) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let interval = config::config().map_or(0, |c| u64::from(c.interval)) * SECOND;
    let due = sys::clock(libc::CLOCK_MONOTONIC) + interval;
    loop {
        let asked = ASKED.load(Ordering::Acquire);
        if asked != *served {
            *served = asked;
            break;
        }
        let now = sys::clock(libc::CLOCK_MONOTONIC);
        if interval > 0 && now >= due {
            break;
        }
        let _ = sys::futex_wait(ASKED.as_ptr(), asked, (interval > 0).then(|| due - now));
    }
    let taken = |number| {
        let directory = manifest::generation_directory(&worker.checkpoint_dir, worker.computation, number);
        sys::stat(directory.as_bytes()).is_ok()
    };
    (worker.generation + 1..).find(|number| !taken(*number)).unwrap_or(u64::MAX)
}

/// The generation is not to be.
pub fn give_up(generation: u64, reason: &str) {
    interface::news::heard(&FromCoordinator::Abort { generation, reason: reason.into() });
}

/// Makes a synced image the newest generation.
pub fn commit(worker: &Worker, written: &Written) -> Result<(), String> {
    let generation = written.generation;
    let directory = manifest::generation_directory(&worker.checkpoint_dir, worker.computation, generation);
    let told = Manifest {
        format: manifest::VERSION,
        computation: worker.computation.to_string(),
        generation,
        decided_in: directory.clone(),
        images: vec![Image {
            path: written.path.clone(),
            public_path: written.public_path.clone(),
            program: program().to_owned(),
            virtual_pid: ids::to_virtual(sys::pid()),
            host: host_name(),
            bytes: sys::stat(written.path.as_bytes()).map_or(written.bytes, |s| s.st_blocks as u64 * 512),
        }],
    };
    let text = serde_json::to_vec(&told).map_err(|e| format!("the manifest has no text: {e}"))?;
    let path = format!("{directory}/{}", manifest::NAME);
    let temporary = format!("{directory}/.{}.tmp", manifest::NAME);
    write_synced(&temporary, &text)
        .and_then(|()| sys::rename(temporary.as_bytes(), path.as_bytes()))
        .and_then(|()| sync_directory(&directory))
        .and_then(|()| sync_directory(&manifest::computation_directory(&worker.checkpoint_dir, worker.computation)))
        .map_err(|e| format!("{path} cannot be written (errno {e}): {}", super::checkpoint::cause(e)))?;
    // The generation counts from here on.
    let name = format!("{}.tmp-{generation}", written.public_path);
    let _ = sys::unlink(name.as_bytes());
    let flipped = sys::link(written.path.as_bytes(), name.as_bytes())
        .and_then(|()| sys::rename(name.as_bytes(), written.public_path.as_bytes()));
    if let Err(e) = flipped {
        log::tell(&format!(
            "the checkpoint is complete, but {} still names the older image (errno {e}); dmtcp_restart will see to it",
            written.public_path
        ));
    }
    if let Err((path, e)) = write_script(worker, written) {
        log::tell(&format!("the checkpoint is complete, but the restart script {path} cannot be written (errno {e})"));
    }
    remove_older(worker, generation);
    interface::news::heard(&FromCoordinator::Committed { generation, exit: false });
    Ok(())
}

/// Writes the restart script and lets the well-known name mean it. An error comes with the file that it is about.
fn write_script(worker: &Worker, written: &Written) -> Result<(), (String, i32)> {
    // Launched by something that knows of no dmtcp_restart: no script.
    let Some(program) = config::config().map(|c| c.restart_program.as_str()).filter(|p| !p.is_empty()) else {
        return Ok(());
    };
    let text = script::render(&script::Script {
        program,
        computation: worker.computation,
        generation: written.generation,
        images: &[&written.public_path],
        port: 0,
        interval: config::config().map_or(0, |c| c.interval),
    });
    let directory = &worker.checkpoint_dir;
    let name = script::file_name(worker.computation);
    let (path, temporary) = (format!("{directory}/{name}"), format!("{directory}/.{name}.tmp"));
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    let _ = sys::unlink(temporary.as_bytes());
    sys::open(temporary.as_bytes(), flags, 0o700)
        .and_then(|file| sys::write_all_at(file.number(), text.as_bytes(), 0))
        .and_then(|()| sys::rename(temporary.as_bytes(), path.as_bytes()))
        .map_err(|e| (path, e))?;
    let newest = format!("{directory}/{}", script::NEWEST);
    let link = format!("{directory}/.{}.tmp-{}", script::NEWEST, worker.computation);
    let _ = sys::unlink(link.as_bytes());
    sys::symlink(name.as_bytes(), link.as_bytes())
        .and_then(|()| sys::rename(link.as_bytes(), newest.as_bytes()))
        .map_err(|e| (newest, e))
}

fn write_synced(path: &str, bytes: &[u8]) -> Result<(), i32> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    let file = sys::open(path.as_bytes(), flags, 0o600)?;
    sys::write_all_at(file.number(), bytes, 0)?;
    sys::sync(file.number())
}

fn sync_directory(path: &str) -> Result<(), i32> {
    let directory = sys::open(path.as_bytes(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?;
    sys::sync(directory.number())
}

/// Removes older generations of this process but for those that are to be kept. What cannot be removed is found again.
fn remove_older(worker: &Worker, generation: u64) {
    let keep = config::config().map_or(1, |c| u64::from(c.keep.max(1)));
    for number in (1..=generation.saturating_sub(keep)).rev() {
        let directory = manifest::generation_directory(&worker.checkpoint_dir, worker.computation, number);
        if sys::stat(directory.as_bytes()).is_err() {
            return;
        }
        for name in [super::checkpoint::image_name(worker.process), manifest::NAME.into()] {
            let _ = sys::unlink(format!("{directory}/{name}").as_bytes());
        }
        let _ = sys::remove_directory(directory.as_bytes());
    }
}
