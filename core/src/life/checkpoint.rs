//! One checkpoint of this process, from the coordinator's request to the synced image.
//!
//! ```text
//!   PRESUSPEND -> stop -> barriers Suspended, Counted -> PRECHECKPOINT (claim, look, describe) -> plan -> [capture: write]
//!      -> barrier Written -> RESUME -> release -> fsync -> Synced
//! ```
//! Whatever goes wrong on the way: RESUME hooks run if PRECHECKPOINT hooks did, the threads go on, the half-written file
//! is removed, the coordinator is told what and why.

use super::alone;
use super::birth;
use super::context::{self, Context, RESTARTED};
use super::orphans;
use super::restore;
use super::room;
use super::worker::{Worker, host_name, program};
use super::writing::{self, Child, Writing};
use crate::capture::{self, Facts, OwnMemory};
use crate::host::{self, description};
use crate::{config, ids, interface, log, signal, threads};
use dmtcp_image::record::{Identity, Plugin};
use dmtcp_plugin_api::abi::Event;
use dmtcp_plugin_api::{arena, proc_files, sys};
use dmtcp_protocol::message::{Barrier, FromClient, Written};
use sys::Fd;

/// How long the other processes may take to come to a barrier, in milliseconds.
const BARRIER_LIMIT: i32 = 600_000;

/// Which memory the caller of [`checkpoint`] is in now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The process goes on.
    Resumed,
    /// The process has come back from its image.
    Restarted,
}

/// Where the checkpoint thread comes back to.
static mut CONTEXT: Context = Context::new();

/// Address of the context, for [`restore`].
pub fn context() -> *mut Context {
    &raw mut CONTEXT
}

/// Takes part in a generation.
pub fn checkpoint(worker: &mut Worker, generation: u64) -> Outcome {
    interface::news::asked();
    worker.underway = generation;
    log::note(&format!("generation {generation} is asked for"));
    description::begin();
    if let Err(reason) = room::look() {
        give_up(worker, generation, reason);
        go_on(worker, false);
        return Outcome::Resumed;
    }
    if let Err(reason) = worker.event(Event::PreSuspend) {
        give_up(worker, generation, reason);
        go_on(worker, false);
        return Outcome::Resumed;
    }
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    if let Err(reason) = interface::hold::close(worker, generation) {
        go_on(worker, false);
        log::note(&format!("generation {generation} is given up: {reason}"));
        return Outcome::Resumed;
    }
    let signal = config::config().map_or(0, |c| c.signal);
    if let Err(reason) = interface::hooks::stop(signal) {
        give_up(worker, generation, reason);
        go_on(worker, false);
        return Outcome::Resumed;
    }
    interface::news::captured(generation);
    let stopped = sys::clock(libc::CLOCK_MONOTONIC);
    log::note(&format!("all threads have stopped after {} us", (stopped - start) / 1000));
    let outside = match find_children(worker, generation) {
        Ok(outside) => outside,
        Err(reason) => {
            go_on(worker, false);
            log::note(&format!("generation {generation} is given up: {reason}"));
            return Outcome::Resumed;
        }
    };
    threads::take_signals();
    let outside = outside.into_iter().filter_map(|o| o.sentence).collect();
    let written = describe_and_write(worker, generation, stopped - start, outside);
    if let Ok(Step::Restarted) = written {
        return Outcome::Restarted;
    }
    let passed = match written {
        Ok(Step::Written { file, message, child }) => {
            let path = message.path.clone();
            log::note(&format!("{path} is written: {} bytes", message.bytes));
            threads::put_back_signals();
            worker.send(&FromClient::Written(message.clone()));
            match worker.pass(generation, Barrier::Written, BARRIER_LIMIT) {
                Ok(()) => Ok((file, message, child)),
                Err(reason) => {
                    if let Some(child) = child {
                        child.kill();
                    }
                    Err((reason, path, true))
                }
            }
        }
        Err((reason, path)) => Err((reason, path, false)),
        Ok(Step::Restarted) => return Outcome::Restarted,
    };
    let passed_at = sys::clock(libc::CLOCK_MONOTONIC);
    if passed.is_err() {
        // The others are told afterwards, or know; nobody comes to a barrier any more.
        worker.underway = 0;
    }
    worker.event_or_tell(Event::Resume);
    let written = passed.is_ok();
    // One that is to stand still again does so when the generation is decided on: until then it has something to do. One
    // that is to end then does nothing behind its image, and sees no relative of its end.
    let stays_stopped = worker.continued || written && worker.ends;
    if !stays_stopped {
        go_on(worker, written);
    }
    let resumed = sys::clock(libc::CLOCK_MONOTONIC);
    if !stays_stopped {
        worker.event_or_tell(Event::Running);
    }
    worker.underway = 0;
    let synced = passed.and_then(|(file, message, child)| {
        let last = if child.is_some() { "background" } else { "sync" };
        let result = match child {
            Some(child) => child.wait(worker, generation),
            None => sys::sync(file.number())
                .map_err(|e| (format!("the image does not reach the disk (errno {e}): {}", cause(e)), false)),
        };
        let result = result.and_then(|()| match alone::is_alone() {
            true => alone::commit(worker, &message).map_err(|reason| (reason, false)),
            false => Ok(()),
        });
        result.map_err(|(reason, known)| (reason, message.path, known)).map(|()| last)
    });
    match synced {
        Ok(last) => {
            worker.generation = generation;
            log::note(&format!("generation {generation}: the image is on the disk"));
            let stages = [
                ("resume", resumed - passed_at),
                (last, sys::clock(libc::CLOCK_MONOTONIC) - resumed),
                ("pause", resumed - start),
            ];
            let stages = stages.map(|(name, time)| (name.to_owned(), time / 1000)).to_vec();
            worker.send(&FromClient::Synced { generation, stages });
        }
        Err((reason, path, known)) => {
            // Without a word of the coordinator a written image may be part of a generation that it has decided on.
            if !(known && worker.link.is_none()) {
                let _ = sys::unlink(path.as_bytes());
            }
            if known {
                log::note(&format!("generation {generation} is given up: {reason}"));
            } else {
                give_up(worker, generation, reason);
            }
        }
    }
    if stays_stopped {
        worker.await_decision(generation);
        go_on(worker, written);
        worker.event_or_tell(Event::Running);
    }
    Outcome::Resumed
}

/// Waits until all have stopped and each has found its children among those who have; returns those that are no members.
/// Whoever was in the middle of an exec joins meanwhile, and is stopped: the others stay stopped, so it comes to an end.
fn find_children(worker: &mut Worker, generation: u64) -> Result<Vec<birth::Outsider>, String> {
    let mut outside = birth::await_children(&[]);
    let mut running = birth::running_children();
    worker.send(&FromClient::Reached { generation, barrier: Barrier::Suspended });
    loop {
        if worker.pass_one_of(generation, &[Barrier::Suspended, Barrier::Counted], BARRIER_LIMIT)? == Barrier::Counted {
            return Ok(outside);
        }
        let mut strays = worker.strays.clone();
        if !strays.is_empty() {
            strays.extend(orphans::on_their_way());
            strays.retain(|pid| !orphans::is_of_another(*pid));
        }
        if birth::misses_somebody(host::description::neighbours(), &outside, &running, &strays) {
            log::note(&format!(
                "generation {generation}: a process executes a program, or is an orphan, and is waited for"
            ));
            outside = birth::await_children(&strays);
            running = birth::running_children();
            worker.send(&FromClient::Again { generation });
        } else {
            worker.send(&FromClient::Reached { generation, barrier: Barrier::Counted });
        }
    }
}

/// Lets the program go on in the memory that it had; if it stood still before, when it is continued.
fn go_on(worker: &mut Worker, written: bool) {
    worker.stand_still_again();
    interface::news::resumed(written);
    interface::hold::open();
    threads::release();
}

fn give_up(worker: &mut Worker, generation: u64, reason: String) {
    log::line(dmtcp_plugin_api::core::Level::Error, "core", &reason);
    if alone::is_alone() {
        log::tell(&format!("there is no checkpoint: {reason}"));
        alone::give_up(generation, &reason);
    }
    let recent = log::recent();
    worker.send(&FromClient::Failed { generation, reason, recent });
}

/// What an errno of writing means, and what to do.
pub fn cause(error: i32) -> &'static str {
    match error {
        libc::ENOSPC => "the file system is full: free some space, or use --ckptdir",
        libc::EDQUOT => "the disk quota is used up: free some space, or use --ckptdir",
        libc::EFBIG => "the file size limit is too low: raise ulimit -f",
        libc::EACCES | libc::EPERM => "permission denied: use --ckptdir with a directory of your own",
        libc::EROFS => "the file system is read-only: use --ckptdir",
        libc::ENOENT => "the directory is gone: make it again, or use --ckptdir",
        _ => "see errno(3)",
    }
}

enum Step {
    Written { file: Fd, message: Written, child: Option<Child> },
    Restarted,
}

fn describe_and_write(
    worker: &mut Worker,
    generation: u64,
    stop_time: u64,
    outside: Vec<String>,
) -> Result<Step, (String, String)> {
    let start = sys::clock(libc::CLOCK_MONOTONIC);
    description::begin();
    description::with(|d| d.unsupported = outside);
    let outcome = worker.event(Event::PreCheckpoint);
    let mut described = description::finish();
    if let Some(directory) = interface::files::directory() {
        worker.checkpoint_dir = directory.to_string_lossy().into_owned();
    }
    let name = image_name(worker.process);
    let computation = worker.computation;
    let directory = format!("{}/.dmtcp-{computation}/{generation}", worker.checkpoint_dir);
    let path = format!("{directory}/{name}");
    let fail = |reason: String| (reason, path.clone());
    outcome.map_err(&fail)?;
    threads::leaderless::look(signal::bit()).map_err(&fail)?;
    threads::save_thread(
        // SAFETY: the slot is this thread's own.
        unsafe { worker.slot.saved() },
    );
    restore::note_process_state();
    threads::note_known(worker.slot);
    interface::hooks::note_known();
    let own = OwnMemory { stack: worker.stack, buffer: worker.buffer };
    let facts = Facts {
        identity: serde_json::to_vec(&identity(worker, generation, &name)).unwrap_or_default(),
        enter_process: restore::enter_process_address(),
        checkpoint_slot: worker.slot,
    };
    let file = create(&worker.checkpoint_dir, &directory, &path).map_err(&fail)?;
    let volatile = capture::volatile(&own);
    threads::settle().map_err(&fail)?;
    crate::ARENAS.settle();
    let mut plan = capture::plan(&mut described, &facts, &own).map_err(&fail)?;
    if config::config().is_some_and(|c| c.fail_on_unsupported)
        && let Some(first) = described.unsupported.first()
    {
        return Err(fail(format!("{first} (--on-unsupported=fail)")));
    }
    let background = config::config().is_some_and(|c| c.background);
    let planned = sys::clock(libc::CLOCK_MONOTONIC);
    // Nothing is logged from here until the image is written: nobody may allocate.
    let bytes = plan.length;
    let mut writing = Writing {
        plan: &mut plan,
        file: Some(file),
        buffer: worker.buffer,
        volatile,
        worker,
        background,
        child: None,
        lacking: None,
    };
    // SAFETY: the context is a static; the argument outlives the call.
    let result = unsafe { context::capture(context(), writing::write_image, (&raw mut writing).cast()) };
    if result == RESTARTED {
        arena::forget_scratch();
        // Descriptors of before do not exist here: forget them without closing what now has their numbers.
        if let Some(stale) = writing.file.take() {
            stale.leak();
        }
        return Ok(Step::Restarted);
    }
    if result != 0 {
        let error = result as i32;
        if let Some((needed, free)) = writing.lacking {
            return Err(fail(format!(
                "the image {path} needs {} MiB, and {} MiB are free: free some space, or use --ckptdir or --compress",
                needed.div_ceil(1 << 20),
                free >> 20
            )));
        }
        return Err(fail(format!("the image {path} cannot be written (errno {error}): {}", cause(error))));
    }
    let child = writing.child.take();
    let Some(file) = writing.file.take() else { return Err(fail("the image was not opened".into())) };
    let end = sys::clock(libc::CLOCK_MONOTONIC);
    let microseconds = |n: u64| n / 1000;
    let message = Written {
        generation,
        public_path: format!("{}/{name}", worker.checkpoint_dir),
        path,
        bytes: sys::fstat(file.number()).map_or(bytes, |s| s.st_blocks as u64 * 512),
        background: child.is_some(),
        unsupported: described.unsupported,
        stages: vec![
            ("stop".into(), microseconds(stop_time)),
            ("look".into(), microseconds(planned - start)),
            ("write".into(), microseconds(end - planned)),
        ],
    };
    Ok(Step::Written { file, message, child })
}

/// What tells this process from all others, for people.
pub fn process_name(process: u128) -> String {
    format!("{:016x}", (process >> 64) as u64)
}

/// File name of the process's image.
pub fn image_name(process: u128) -> String {
    format!("ckpt_{}_{}.dmtcp", safe(program()), process_name(process))
}

/// A program's name as part of a file name.
fn safe(program: &str) -> String {
    program.chars().map(|c| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '_' }).collect()
}

fn create(checkpoint_dir: &str, directory: &str, path: &str) -> Result<Fd, String> {
    let upper = &directory[..directory.rfind('/').unwrap_or(directory.len())];
    for directory in [upper, directory] {
        match sys::make_directory(directory.as_bytes(), 0o700) {
            Ok(()) | Err(libc::EEXIST) => {}
            Err(e) => {
                return Err(format!(
                    "the checkpoint directory {checkpoint_dir} cannot be used (errno {e}): {}",
                    cause(e)
                ));
            }
        }
    }
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    sys::open(path.as_bytes(), flags, 0o600)
        .map_err(|e| format!("the image {path} cannot be created (errno {e}): {}", cause(e)))
}

fn identity(worker: &Worker, generation: u64, name: &str) -> Identity {
    let text = |path: &str| {
        let link = proc_files::read_link(path).unwrap_or_default();
        String::from_utf8_lossy(&link).into_owned()
    };
    let stat = proc_files::read_file("/proc/thread-self/../../stat").unwrap_or_default();
    let numbers: Vec<i32> = proc_files::stat_fields(&stat).skip(1).take(3).filter_map(|w| w.parse().ok()).collect();
    let family = |at: usize| numbers.get(at).map_or(0, |real| ids::to_virtual(*real));
    let arguments = proc_files::read_file("/proc/thread-self/../../cmdline").unwrap_or_default();
    // SAFETY: the calls take no arguments.
    let id = |number: i64| unsafe { sys::call(number as i32, [0; 6]) }.unwrap_or(0) as u32;
    let release = proc_files::read_file("/proc/sys/kernel/osrelease").unwrap_or_default();
    Identity {
        computation: worker.computation.to_string(),
        generation,
        processes: worker.peers,
        process: format!("{:032x}", worker.process),
        host: host_name(),
        kernel: String::from_utf8_lossy(release.trim_ascii()).into_owned(),
        pid: threads::known_process(),
        ppid: family(0),
        pgid: family(1),
        sid: family(2),
        uid: id(libc::SYS_geteuid),
        gid: id(libc::SYS_getegid),
        program: program().to_owned(),
        exe: text("/proc/thread-self/../../exe"),
        args: arguments
            .strip_suffix(b"\0")
            .unwrap_or(&arguments)
            .split(|&b| b == 0)
            .map(|a| String::from_utf8_lossy(a).into_owned())
            .collect(),
        cwd: text("/proc/thread-self/../../cwd"),
        checkpoint_dir: worker.checkpoint_dir.clone(),
        image_name: name.to_owned(),
        taken: sys::clock(libc::CLOCK_REALTIME) / 1_000_000_000,
        monotonic: sys::clock(libc::CLOCK_MONOTONIC),
        boottime: sys::clock(libc::CLOCK_BOOTTIME),
        clock_is_real: config::config().is_some_and(|c| c.clock_is_real),
        core_version: env!("CARGO_PKG_VERSION").into(),
        plugins: host::plugins()
            .iter()
            .map(|l| Plugin {
                name: host::text(l.plugin.name).into(),
                version: host::text(l.plugin.version).into(),
                path: l.path.into(),
            })
            .collect(),
        cpu_features: dmtcp_image::processor::features(),
        cpu_state: capture::cpu::note_layout(),
    }
}
