//! One process, from a fresh child of the restarter to the stub.
//!
//! ```text
//!   spawn:  clone3(pid) -> child: session, stub, tasks ('T') -> place -> close -> stage -> lay out -> stub (pipe closes)
//!                          \- an id is taken or may not be chosen ('X' errno): the caller tries a namespace
//! ```
//! All tasks exist before anything is placed: while the child still can only fail, and before threads that stage
//! memory could take one of the ids.

use crate::descriptors::Handle;
use crate::gaps::{self, Gaps};
use crate::kernel;
use crate::layout::{self, Layout, Placement, Source, Vdso};
use crate::plugins::{PluginError, Plugins};
use crate::report;
use crate::staging::{Stage, StageError};
use crate::stub::Stub;
use crate::vdso;
use dmtcp_image::read::Image;
use dmtcp_image::record::{Region, kind};
use dmtcp_launcher::failure;
use dmtcp_protocol::handoff::{self, RestartInfo};
use nix::sys::wait::waitpid;
use nix::unistd::{self, Pid};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Everything that a process is brought back from. The caller and the child see the same.
pub struct Restoration<'a> {
    /// The images, descriptors and plugins.
    pub plugins: &'a Plugins,
    /// Which process.
    pub index: usize,
    /// What the restored core is told.
    pub info: RestartInfo,
    /// Whether memory is mapped from the image.
    pub lazy: bool,
    /// Limits of descriptors to go on with.
    pub descriptor_limit: [u64; 2],
    /// The terminal, if dmtcp_restart is in its foreground.
    pub terminal: Option<Handle>,
    /// Whether capabilities come from a namespace and are to be given up.
    pub drop_capabilities: bool,
}

/// A process that has its ids and is on its way.
#[derive(Debug)]
pub struct Child {
    /// Its pid, as the caller sees it.
    pub pid: Pid,
    /// Ends when the process stands in its own memory, or is gone.
    pub under_way: OwnedFd,
}

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// An id is taken, or may not be chosen.
    #[error("cannot make tasks with the ids that they had: {0}")]
    Ids(io::Error),
    /// The kernel makes no process.
    #[error("cannot make a process: {0}")]
    Kernel(io::Error),
    /// It has said itself what was wrong.
    #[error("the process could not be made")]
    Said,
}

/// Why a process does not come to life.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("cannot read the list of mappings (/proc/self/maps): {0}")]
    Maps(io::Error),
    #[error("cannot make memory for the last steps: {0}")]
    Stub(io::Error),
    #[error("cannot make a thread of the process: {0}")]
    Task(io::Error),
    #[error(transparent)]
    Plugin(#[from] PluginError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(
        "the kernel's vdso is where the program's memory was, and cannot be moved: try again, it lies elsewhere each time"
    )]
    VdsoInTheWay,
}

const MADE: u8 = b'T';
const NO_IDS: u8 = b'X';
const NT_AUXV: u32 = 6;

impl Restoration<'_> {
    fn image(&self) -> &Image {
        &self.plugins.images()[self.index]
    }

    /// Makes the process; with `ids`, its tasks have their old ids or there is no process.
    pub fn spawn(&self, ids: Option<&[i32]>) -> Result<Child, SpawnError> {
        let (reader, writer) = io::pipe().map_err(SpawnError::Kernel)?;
        // SAFETY: the restarter has one thread here; those of staging come in the child.
        let pid = match unsafe { kernel::fork(0, ids.map(|ids| ids[0])) } {
            Ok(0) => {
                drop(reader);
                self.child(writer.into(), ids)
            }
            Ok(pid) => Pid::from_raw(pid),
            Err(error) if ids.is_some() => return Err(SpawnError::Ids(error)),
            Err(error) => return Err(SpawnError::Kernel(error)),
        };
        drop(writer);
        let mut reader = File::from(OwnedFd::from(reader));
        let mut first = [0u8; 1];
        let failure = match reader.read_exact(&mut first) {
            Ok(()) if first[0] == MADE => return Ok(Child { pid, under_way: reader.into() }),
            Ok(()) => {
                let mut errno = [0u8; 4];
                let errno = reader.read_exact(&mut errno).map(|()| i32::from_le_bytes(errno)).unwrap_or(libc::EIO);
                SpawnError::Ids(io::Error::from_raw_os_error(errno))
            }
            Err(_) => SpawnError::Said,
        };
        let _ = waitpid(pid, None);
        Err(failure)
    }

    fn child(&self, status: OwnedFd, ids: Option<&[i32]>) -> ! {
        let number = status.as_raw_fd();
        let status = self.plugins.descriptors().adopt(status);
        match self.bring_back(status, ids) {
            Ok(never) => match never {},
            Err(ProcessError::Task(error)) if ids.is_some() => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO).to_le_bytes();
                // SAFETY: nothing is placed yet, so the descriptor has its first number.
                let pipe = unsafe { BorrowedFd::borrow_raw(number) };
                let _ = unistd::write(pipe, &[&[NO_IDS][..], &errno].concat());
                // SAFETY: ends the process without running what the restarter has registered for its own end.
                unsafe { libc::_exit(failure::code()) }
            }
            Err(error) => report::die(self.plugins.stderr(), error),
        }
    }

    fn bring_back(&self, status: Handle, ids: Option<&[i32]>) -> Result<Infallible, ProcessError> {
        let image = self.image();
        let descriptors = self.plugins.descriptors();
        kernel::block_signals();
        // Nobody is left behind half-made; the stub takes it back.
        let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        self.join_session();

        let maps = gaps::current().map_err(ProcessError::Maps)?;
        let taken = maps.iter().map(gaps::with_stack_room).chain(image.regions.iter().map(|r| r.start..r.end));
        let mut gaps = Gaps::new(taken);
        let auxv = image.debugger.iter().find(|note| note.0 == "CORE" && note.1 == NT_AUXV);
        let auxv = auxv.map_or(&[][..], |note| &note.2);
        let info = RestartInfo { same_ids: ids.is_some(), ..self.info.clone() };
        let info = postcard::to_allocvec(&info).unwrap_or_default();
        let mut stub = self.map_stub(&mut gaps, info.len() + auxv.len()).map_err(ProcessError::Stub)?;
        let first = self.make_tasks(&mut stub, ids).map_err(ProcessError::Task)?;
        report::write(descriptors.number(status), "T");

        self.plugins.place(self.index as u32)?;
        descriptors.close_strangers();
        let image_handle = self.plugins.image_handle(self.index);
        let stage =
            Stage { image, file: descriptors.number(image_handle), lazy: self.lazy, objects: descriptors.objects() };
        let mut placements = stage.all(&mut gaps)?;
        let current = vdso::Current::among(&maps);
        let vdso = self.vdso(&stage, current.as_ref(), &mut gaps, &mut placements)?;

        let exe = File::open(&image.identity.exe).ok().filter(|_| !kernel::forbidden("mm_exe"));
        let exe = exe.map(|file| descriptors.adopt(file.into()));
        let stderr = self.plugins.inherited().into_iter().find(|h| descriptors.number(*h) == self.plugins.stderr());
        let mut keep: Vec<Handle> = [exe, stderr].into_iter().flatten().collect();
        if self.lazy {
            keep.push(image_handle);
        }
        keep.push(status);
        descriptors.close_all_but(&keep);
        let number = |handle: Option<Handle>| handle.map_or(-1, |handle| descriptors.number(handle));
        let close: Vec<_> = keep.iter().map(|handle| descriptors.number(*handle)).collect();
        let layout = Layout {
            stub: stub.range(),
            placements: &placements,
            current_vdso: current,
            vdso,
            restore: &image.restore,
            auxv,
            exe: number(exe),
            image: descriptors.number(image_handle),
            close: &close,
            descriptor_limit: self.descriptor_limit,
        };
        self.arm(&mut stub, layout, &info, number(stderr));
        kernel::unregister_rseq();
        // SAFETY: staging's threads have ended, the other tasks wait inside the stub, all signals are blocked, rseq is
        // unregistered, and the table was just completed; what it points at lies in the table.
        unsafe { stub.enter(first) }
    }

    /// The session and process group that the process had the lead of; the terminal's foreground if it is to be had.
    fn join_session(&self) {
        let identity = &self.image().identity;
        if identity.sid == identity.pid {
            // A fresh child leads no group, so that this cannot fail.
            let _ = unistd::setsid();
        } else if identity.pgid == identity.pid {
            let _ = unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
            if let Some(terminal) = self.terminal {
                let number = self.plugins.descriptors().number(terminal);
                // SAFETY: the list keeps it open.
                let _ = unistd::tcsetpgrp(unsafe { BorrowedFd::borrow_raw(number) }, unistd::getpid());
            }
        }
    }

    fn map_stub(&self, gaps: &mut Gaps, extra: usize) -> io::Result<Stub> {
        let image = self.image();
        let tasks = image.threads.len().max(1);
        let room = layout::room(image.regions.len(), image.extents.len(), extra);
        let at = gaps.take(Stub::length(tasks, room) as u64, 0, dmtcp_image::PAGE);
        Stub::map(at.ok_or(io::ErrorKind::OutOfMemory)?, tasks, room)
    }

    /// Makes all tasks but the calling one, and tells the slot of that; none if the first thread had ended.
    fn make_tasks(&self, stub: &mut Stub, ids: Option<&[i32]>) -> io::Result<Option<u64>> {
        const ENDED: u32 = 2;
        let image = self.image();
        let first = image.threads.iter().find(|thread| thread.tid == image.identity.pid && thread.role != ENDED);
        let others = || image.threads.iter().filter(|thread| thread.tid != image.identity.pid);
        let tasks = others().count() + usize::from(first.is_some());
        let control = stub.control();
        control.handoff.tasks = tasks as u32;
        control.hold = u32::from(first.is_none());
        for (index, thread) in others().enumerate() {
            let tid = ids.and_then(|ids| ids.iter().copied().find(|id| *id == thread.tid));
            stub.add_task(index + 1, thread.slot, tid)?;
        }
        Ok(first.map(|thread| thread.slot))
    }

    /// Decides what becomes of the vdso; the old one may become a placement.
    fn vdso(
        &self,
        stage: &Stage<'_>,
        current: Option<&vdso::Current>,
        gaps: &mut Gaps,
        placements: &mut Vec<Placement>,
    ) -> Result<Vdso, ProcessError> {
        let image = self.image();
        let Some(current) = current else { return Ok(Vdso::Stay) };
        let span = current.span();
        let restore = &image.restore;
        let overlaps = |region: &Region| region.start < span.end && span.start < region.end;
        let in_the_way = image.regions.iter().any(overlaps);
        let saved = image.regions.iter().find(|region| region.kind == kind::VDSO);
        let bytes = saved.map(|region| stage.bytes(region)).transpose()?;
        let same = bytes.as_deref() == Some(current.bytes())
            && restore.vvar_length == current.vdso.start - span.start
            && !kernel::forbidden("vdso_move");
        let free = if same || in_the_way { gaps.take(span.end - span.start, 0, dmtcp_image::PAGE) } else { None };
        let free = free.filter(|free| current.can_move(*free));
        if let (true, Some(free), Some(saved)) = (same, free, saved) {
            return Ok(Vdso::Move { to: saved.start, free });
        }
        let (decision, base) = match free {
            Some(free) if in_the_way => (Vdso::Aside { free }, free + (current.vdso.start - span.start)),
            None if in_the_way => return Err(ProcessError::VdsoInTheWay),
            _ => (Vdso::Stay, current.vdso.start),
        };
        if let (Some(region), Some(mut bytes)) = (saved, bytes) {
            vdso::redirect(&mut bytes, current.bytes(), base);
            let at = stage.bring(region, &bytes, gaps)?;
            placements.push(Placement { region: *region, anon_name: None, source: Source::Staged(at) });
        }
        Ok(decision)
    }

    /// Puts the finished table into the stub.
    fn arm(&self, stub: &mut Stub, layout: Layout<'_>, info: &[u8], stderr: i32) {
        let image = self.image();
        let (address, _) = stub.table();
        let table = layout.table();
        let ops = (table.len() * size_of::<crate::stub::Op>()) as u64;
        let mut bytes = table.at(address);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let info_at = address + bytes.len() as u64;
        bytes.extend_from_slice(info);
        stub.fill(&bytes);
        let range = stub.range();
        let drop_capabilities = u64::from(self.drop_capabilities);
        let control = stub.control();
        control.handoff.magic = handoff::MAGIC;
        control.handoff.version = handoff::VERSION;
        control.handoff.info = info_at;
        control.handoff.info_length = info.len() as u64;
        control.handoff.stub_start = range.start;
        control.handoff.stub_length = range.end - range.start;
        control.failure = failure::code() as u32;
        control.ops = address;
        control.ops_end = address + ops;
        control.enter_process = image.restore.enter_process;
        control.enter_task = image.restore.enter_task;
        control.report = stderr as u64;
        control.drop_capabilities = drop_capabilities;
    }
}
