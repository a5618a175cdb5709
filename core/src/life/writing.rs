//! Writing the image: by the checkpoint thread while everybody waits, or by a child in the background.
//!
//! ```text
//!   inline      header, extents, trailer                                   -> the caller syncs
//!   background  header, shared extents | clone -> child: the rest, fsync, exit
//!                                      | the process goes on; the child is waited for after the release
//! ```
//! **Compression** allocates while the memory that it allocates from would be written. So it gets memory of its own, in
//! the buffer that no image contains (`arena::with_scratch`). A forked child would not need that, but a fork of a large
//! process costs more than small images take, and can be refused; one way that is always sound is better than two.
//!
//! **The child** is a raw clone without an exit signal: no SIGCHLD, no fork handlers, not seen by wait(2); only
//! `__WCLONE` finds it. It has the checkpoint thread's copy of all private memory as it is now. Memory that it does not
//! have to itself (shared, MADV_DONTFORK, MADV_WIPEONFORK, plugins' blobs) is written before. It dies with the process.

use super::worker::Worker;
use super::{alone, exit};
use crate::capture::FileSink;
use dmtcp_image::codec::Method;
use dmtcp_image::plan::Plan;
use dmtcp_image::write::{self, Part, Pass};
use dmtcp_plugin_api::arena;
use dmtcp_plugin_api::headroom::Raised;
use dmtcp_plugin_api::sys::{self, Fd};
use dmtcp_protocol::message::FromCoordinator;
use std::ffi::c_void;

/// What [`write_image`] works on.
pub struct Writing<'a> {
    /// The plan.
    pub plan: &'a mut Plan,
    /// The file.
    pub file: Option<Fd>,
    /// The worker's buffer.
    pub buffer: (u64, u64),
    /// Ranges that change meanwhile.
    pub volatile: Vec<(u64, u64)>,
    /// Who writes.
    pub worker: &'a Worker,
    /// Whether a child is to write.
    pub background: bool,
    /// The child, if one writes.
    pub child: Option<Child>,
    /// Bytes that are needed and bytes that are free, if it does not fit.
    pub lacking: Option<(u64, u64)>,
}

/// Writes the image, or has a child write it; 0 or an errno. The argument is a [`Writing`].
pub extern "C" fn write_image(argument: *mut c_void) -> i64 {
    // SAFETY: the argument is the `Writing` that the caller passed, alive until this returns.
    let writing = unsafe { &mut *argument.cast::<Writing<'_>>() };
    let Some(file) = writing.file.take() else { return i64::from(libc::EBADF) };
    let _raised = Raised::new(libc::RLIMIT_FSIZE);
    let total = writing.plan.bytes;
    let worker = writing.worker;
    let report = |done| {
        if let Some(link) = &worker.link {
            link.report_progress(done, total);
        }
    };
    let mut sink = FileSink::new(file, report);
    let (start, end) = writing.buffer;
    let used = write::buffer_length(writing.plan.method) as u64;
    // SAFETY: the buffer is a mapping of ours that is in no extent, and at least that long.
    let buffer = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, used as usize) };
    let scratch = start + used;
    let mut all = || {
        let plan = &mut *writing.plan;
        let volatile = &writing.volatile[..];
        // How small a compressed image becomes is known afterwards only.
        if let (Some(room), Method::None) = (sink.room(), plan.method)
            && plan.bytes > room
        {
            // Zero pages take no room: look at all before saying no.
            // SAFETY: as below.
            let needed =
                unsafe { write::stored(plan, &mut sink, buffer) } + (plan.header.len() + plan.trailer.len()) as u64;
            if needed > room {
                writing.lacking = Some((needed, room));
                return Err(libc::ENOSPC);
            }
        }
        let mut pass = Pass::begin(plan, &mut sink)?;
        let mut child = None;
        let mut part = Part::All;
        if writing.background {
            // SAFETY: all threads of the application are parked; what changes all the same is in `volatile`.
            unsafe { pass.extents(plan, &mut sink, buffer, volatile, Part::Shared) }?;
            part = Part::Own;
            match Child::make() {
                Ok(Some(made)) => child = Some(made),
                // The child.
                Ok(None) => {
                    sink.after_fork();
                    // SAFETY: as above; and nobody else runs in this copy.
                    let result = unsafe { pass.extents(plan, &mut sink, buffer, volatile, part) }
                        .and_then(|()| pass.end(plan, &mut sink))
                        .and_then(|()| sink.sync());
                    exit(result.err().unwrap_or(0));
                }
                // No memory for a child, or too many processes: nobody goes on before the image is written.
                Err(_) => {}
            }
        }
        if child.is_none() {
            // SAFETY: as above.
            unsafe { pass.extents(plan, &mut sink, buffer, volatile, part) }?;
            pass.end(plan, &mut sink)?;
        }
        Ok(child)
    };
    let result: Result<Option<Child>, i32> = if scratch < end {
        // SAFETY: the rest of the buffer is nobody's; the compressor does not outlive the call.
        unsafe { arena::with_scratch(scratch, end, all) }
    } else {
        all()
    };
    writing.file = Some(sink.into_file());
    match result {
        Ok(child) => {
            writing.child = child;
            0
        }
        Err(error) => i64::from(error.max(1)),
    }
}

/// A child that writes.
#[derive(Debug)]
pub struct Child {
    pid: i32,
}

impl Child {
    /// Splits; `None` in the child.
    fn make() -> Result<Option<Self>, i32> {
        // SAFETY: without CLONE_VM the child has a copy of this stack and goes on in it; no other argument is looked at.
        let pid = unsafe { sys::call(libc::SYS_clone as i32, [0; 6]) }? as i32;
        if pid != 0 {
            return Ok(Some(Self { pid }));
        }
        let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0, 0, 0);
        Ok(None)
    }

    /// Its end, if it has come; an errno, 0: the image is written and synced.
    fn ended(&self, flags: i32) -> Option<i32> {
        let mut status = 0i32;
        loop {
            let options = (libc::__WCLONE | flags) as usize;
            let status_at = (&raw mut status) as usize;
            // SAFETY: the status is written to an int of ours.
            match unsafe { sys::call(libc::SYS_wait4 as i32, [self.pid as usize, status_at, options, 0, 0, 0]) } {
                Ok(0) => return None,
                Ok(_) if libc::WIFEXITED(status) => return Some(libc::WEXITSTATUS(status)),
                Ok(_) => return Some(libc::EINTR),
                Err(libc::EINTR) => {}
                Err(error) => return Some(error),
            }
        }
    }

    /// Ends it: the image is not wanted.
    pub fn kill(&self) {
        // SAFETY: no memory is passed. The pid is not free before `ended` has reaped it.
        let _ = unsafe { sys::call(libc::SYS_kill as i32, [self.pid as usize, libc::SIGKILL as usize, 0, 0, 0, 0]) };
        let _ = self.ended(0);
    }

    /// Waits until the image is written, with an ear for the coordinator. The error says why there will be none; the flag,
    /// whether the coordinator knows it already.
    pub fn wait(self, worker: &mut Worker, generation: u64) -> Result<(), (String, bool)> {
        /// How long a message may wait when the child cannot be polled, in milliseconds.
        const TURN: i32 = 20;
        // SAFETY: no memory is passed.
        let pidfd = unsafe { sys::call(libc::SYS_pidfd_open as i32, [self.pid as usize, 0, 0, 0, 0, 0]) }
            .map(|number| Fd::own(number as i32));
        loop {
            // Without a coordinator there is nobody to listen to meanwhile.
            if let Some(error) = self.ended(if alone::is_alone() { 0 } else { libc::WNOHANG }) {
                return match error {
                    0 => Ok(()),
                    error => Err((
                        format!("the image cannot be written in the background: {}", super::checkpoint::cause(error)),
                        false,
                    )),
                };
            }
            if let Some(link) = &worker.link {
                let _ = link.wait_beside(pidfd.as_ref().ok(), TURN);
            } else {
                self.kill();
                return Err(("the coordinator is gone".into(), true));
            }
            while let Ok(message) = worker.receive(1) {
                match message {
                    FromCoordinator::Abort { generation: g, reason } if g == generation => {
                        self.kill();
                        return Err((reason, true));
                    }
                    FromCoordinator::Kill => {
                        self.kill();
                        exit(0)
                    }
                    _ => {}
                }
            }
        }
    }
}
