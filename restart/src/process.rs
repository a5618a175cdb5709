//! One process of the family, from a fresh child of its parent to the stub.
//!
//! ```text
//!   prepare (stub, tasks) -> [gates: all exist, all groups stand] -> place -> stage -> [gate: all are ready] -> stub
//!                                                                 \- or exec the original program: `inject`
//! ```
//! All tasks exist before anything is placed: while everything can still only fail, and before threads that stage memory
//! could take one of the ids.

use crate::clock::Shift;
use crate::descriptors::Handle;
use crate::family::{Gate, Link};
use crate::gaps::{self, Gaps, Mapping};
use crate::inject::{Crossing, InjectError};
use crate::kernel;
use crate::layout::{self, Layout, Placement, Source, Vdso};
use crate::mm::Way;
use crate::pause::Pause;
use crate::plugins::{PluginError, Plugins};
use crate::progress::Progress;
use crate::reports::Kind;
use crate::staging::{Stage, StageError};
use crate::stub::{Control, Op, Place, Stub};
use crate::vdso;
use dmtcp_image::read::Image;
use dmtcp_image::record::Thread;
use dmtcp_launcher::failure;
use dmtcp_plugin_api::ids::Table;
use dmtcp_protocol::handoff::{self, RestartInfo};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Everything that a process is brought back from. All processes of a family see the same but for the index.
#[derive(Clone)]
pub struct Restoration<'a> {
    /// The images, descriptors and plugins.
    pub plugins: &'a Plugins,
    /// Which process.
    pub index: usize,
    /// What the restored core is told.
    pub info: RestartInfo,
    /// Whether memory is mapped from the image.
    pub lazy: bool,
    /// How much memory is in its place.
    pub progress: Progress,
    /// Limits of descriptors to go on with.
    pub descriptor_limit: [u64; 2],
    /// The terminal, if dmtcp_restart is in its foreground.
    pub terminal: Option<Handle>,
    /// What the processes' clocks are shifted by.
    pub shift: Shift,
    /// Whether capabilities come from a namespace and are to be given up.
    pub drop_capabilities: bool,
    /// Where it waits for a debugger.
    pub pause: Pause,
    /// By what ids are translated, if they are.
    pub translation: Option<Table>,
}

/// A process that has its ids and nothing else yet.
pub struct Prepared {
    maps: Vec<Mapping>,
    gaps: Gaps,
    info: Vec<u8>,
    stub: Stub,
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
    /// It execs the original program, and cannot be followed.
    #[error(transparent)]
    Inject(InjectError),
    /// It has ended, and nobody knows why.
    #[error("{0} ended while it was brought back (a signal, or too little memory): see the kernel's log")]
    Ended(String),
    /// It has said itself what was wrong.
    #[error("the process could not be made")]
    Said,
}

/// Why a process does not come to life.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Its own mappings are unknown.
    #[error("cannot read the list of mappings (/proc/self/maps): {0}")]
    Maps(io::Error),
    /// The stub has no memory.
    #[error("cannot make memory for the last steps: {0}")]
    Stub(io::Error),
    /// A child or a thread is refused.
    #[error("cannot make a child or a thread of the process: {0}")]
    Task(io::Error),
    /// It cannot lead its session or group.
    #[error("the process cannot lead its session or process group: {0}")]
    Lead(io::Error),
    /// The original program cannot be executed.
    #[error("cannot become the original program ({what}): {error}")]
    Exec {
        /// The step.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// A duty failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// Its memory cannot be brought.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The vdso is in the way.
    #[error(
        "the kernel's vdso is where the program's memory was, and cannot be moved: try again, it lies elsewhere each time"
    )]
    VdsoInTheWay,
}

/// Role of a thread that had ended when the image was taken.
const ENDED: u32 = 2;
const NT_AUXV: u32 = 6;

impl Restoration<'_> {
    /// The image of the process.
    pub fn image(&self) -> &Image {
        &self.plugins.images()[self.index]
    }

    /// The auxiliary vector of the process.
    pub fn auxv(&self) -> &[u8] {
        let note = self.image().debugger.iter().find(|note| note.0 == "CORE" && note.1 == NT_AUXV);
        note.map_or(&[], |note| &note.2)
    }

    /// What the restored core is told, as it stands in memory.
    pub fn info(&self) -> Vec<u8> {
        postcard::to_allocvec(&self.info).unwrap_or_default()
    }

    /// The slot of the first thread; none if that had ended.
    pub fn first(&self) -> Option<u64> {
        let image = self.image();
        let first = image.threads.iter().find(|thread| thread.tid == image.identity.pid && thread.role != ENDED);
        first.map(|thread| thread.slot)
    }

    /// All threads but the first.
    pub fn others(&self) -> impl Iterator<Item = &Thread> {
        let image = self.image();
        image.threads.iter().filter(|thread| thread.tid != image.identity.pid)
    }

    /// The id that a thread shall have.
    pub fn id_of(thread: &Thread, ids: Option<&[i32]>) -> Option<i32> {
        ids?.iter().copied().find(|id| *id == thread.tid)
    }

    /// Makes everything that takes ids. A process that will exec the original program gets its tasks behind that.
    /// `exit_signal` is what its parent is sent at its end.
    pub fn prepare(&self, ids: Option<&[i32]>, exit_signal: i32) -> Result<Option<Prepared>, ProcessError> {
        if self.must_exec(exit_signal) {
            return Ok(None);
        }
        let image = self.image();
        let maps = gaps::current().map_err(ProcessError::Maps)?;
        let future = image.regions.iter().map(|r| r.start..r.end);
        let mut gaps = Gaps::new(maps.iter().map(gaps::with_stack_room), future);
        let info = self.info();
        let stub = self.map_stub(&mut gaps, info.len() + self.auxv().len()).map_err(ProcessError::Stub)?;
        for (index, thread) in self.others().enumerate() {
            stub.add_task(index + 1, thread.slot, Self::id_of(thread, ids)).map_err(ProcessError::Task)?;
        }
        Ok(Some(Prepared { maps, gaps, info, stub }))
    }

    /// Becomes the process.
    pub fn bring_back(&self, link: Link<'_>, prepared: Option<Prepared>) -> Result<Infallible, ProcessError> {
        self.pause.at(2, self.plugins.stderr());
        let Some(Prepared { maps, mut gaps, info, mut stub }) = prepared else { return self.exec_original(link) };
        let image = self.image();
        let descriptors = self.plugins.descriptors();
        self.plugins.place(self.index as u32)?;
        descriptors.close_strangers();
        let image_handle = self.plugins.image_handle(self.index);
        let stage = Stage::new(
            image,
            descriptors.number(image_handle),
            self.plugins.stderr(),
            self.lazy,
            descriptors.objects(),
        );
        let mut placements = stage.all(&mut gaps, self.progress)?;
        let current = vdso::Current::among(&maps);
        let vdso = self.vdso(&stage, current.as_ref(), &mut gaps, &mut placements)?;

        self.pause.at(3, self.plugins.stderr());
        link.report(Kind::Ready, 0);
        link.wait(Gate::Ready);
        let exe = File::open(&image.identity.exe).ok().map(|file| descriptors.adopt(file.into()));
        let stderr = self.plugins.stderr_handle();
        let mut keep: Vec<Handle> = [exe, stderr].into_iter().flatten().collect();
        if stage.lazy {
            keep.push(image_handle);
        }
        keep.push(link.reports());
        descriptors.close_all_but(&keep);
        let number = |handle: Option<Handle>| handle.map_or(-1, |handle| descriptors.number(handle));
        let close: Vec<_> = keep.iter().map(|handle| descriptors.number(*handle)).collect();
        let layout = Layout {
            stub: stub.place().range(),
            placements: &placements,
            current_vdso: current,
            vdso,
            restore: &image.restore,
            auxv: self.auxv(),
            memory: Way::here(),
            exe: number(exe),
            image: descriptors.number(image_handle),
            close: &close,
            tasks: Vec::new(),
            close_on_exec: &[],
            descriptor_limit: self.descriptor_limit,
        };
        let place = stub.place();
        let table = self.arm(place, &layout, &info, number(stderr), stub.control());
        stub.fill(&table);
        kernel::unregister_rseq();
        // SAFETY: staging's threads have ended, the other tasks wait inside the stub, all signals are blocked, rseq is
        // unregistered, and the table was just completed; what it points at lies in the table.
        unsafe { stub.enter(self.first()) }
    }

    /// Whether the kernel will not let us name the executable, and the original one can be executed. An exec makes SIGCHLD
    /// the exit signal, and nothing can change that again; then the parent's waits with __WCLONE would not find the process,
    /// and its other waits would. One with another exit signal keeps that rather than the name of its executable.
    fn must_exec(&self, exit_signal: i32) -> bool {
        let exe = self.image().identity.exe.as_str();
        exit_signal == libc::SIGCHLD
            && !Way::here().names_executable()
            && unistd::access(exe, unistd::AccessFlags::X_OK).is_ok()
    }

    /// Becomes the original program, which the maker of the family then turns into the restored process.
    fn exec_original(&self, link: Link<'_>) -> Result<Infallible, ProcessError> {
        let image = self.image();
        let descriptors = self.plugins.descriptors();
        self.plugins.place(self.index as u32)?;
        descriptors.close_strangers();
        let image_handle = self.plugins.image_handle(self.index);
        let mut keep = vec![image_handle, link.reports()];
        keep.extend(self.plugins.stderr_handle());
        keep.extend(descriptors.object_handles());
        let mut crossing = Crossing {
            image: descriptors.number(image_handle),
            stderr: self.plugins.stderr(),
            objects: descriptors.objects(),
            close: keep.iter().map(|handle| descriptors.number(*handle)).collect(),
            close_on_exec: Vec::new(),
        };
        for number in descriptors.announced().into_iter().chain(crossing.close.iter().copied()) {
            // SAFETY: only borrowed for the calls; one that is not open gives EBADF.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            let flags = fcntl(descriptor, FcntlArg::F_GETFD).map_or(FdFlag::empty(), FdFlag::from_bits_retain);
            if flags.contains(FdFlag::FD_CLOEXEC) {
                let _ = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()));
                if !crossing.close.contains(&number) {
                    crossing.close_on_exec.push(number);
                }
            }
        }
        let failed = |what| move |error: nix::Error| ProcessError::Exec { what, error: error.into() };
        let exe = CString::new(image.identity.exe.as_str()).unwrap_or_default();
        let args: Vec<CString> = image.identity.args.iter().filter_map(|arg| CString::new(arg.as_str()).ok()).collect();
        kernel::keep_capability_over_exec(40);
        let file = crossing.write().map_err(|error| ProcessError::Exec { what: "memfd", error })?;
        self.pause.at(3, self.plugins.stderr());
        link.report(Kind::Crossing, file.as_raw_fd());
        link.wait(Gate::Cross);
        // What is not kept closes by itself.
        unistd::execve(&exe, &args, &[] as &[CString]).map_err(failed("execve"))
    }

    /// Takes the foreground of the terminal for the process' own group, if dmtcp_restart had it.
    pub fn take_foreground(&self) {
        if let Some(terminal) = self.terminal {
            let number = self.plugins.descriptors().number(terminal);
            // SAFETY: the list keeps it open.
            let _ = unistd::tcsetpgrp(unsafe { BorrowedFd::borrow_raw(number) }, unistd::getpgrp());
        }
    }

    fn map_stub(&self, gaps: &mut Gaps, extra: usize) -> io::Result<Stub> {
        let image = self.image();
        let tasks = image.threads.len().max(1);
        let room = layout::room(image.regions.len(), image.extents.len(), extra);
        let at = gaps.take(Place::length_for(tasks, room), 0, dmtcp_image::PAGE);
        Stub::map(at.ok_or(io::ErrorKind::OutOfMemory)?, tasks, room)
    }

    /// Decides what becomes of the vdso; the old one may become placements.
    fn vdso(
        &self,
        stage: &Stage<'_>,
        current: Option<&vdso::Current>,
        gaps: &mut Gaps,
        placements: &mut Vec<Placement>,
    ) -> Result<Vdso, ProcessError> {
        let Some(current) = current else { return Ok(Vdso::Stay) };
        let plan = vdso::plan(self.image(), stage.vdso_bytes()?, current, current, gaps);
        let plan = plan.ok_or(ProcessError::VdsoInTheWay)?;
        for (region, bytes) in plan.memory {
            let at = stage.bring(&region, &bytes, gaps)?;
            placements.push(Placement { region, anon_name: None, source: Source::Staged(at) });
        }
        Ok(plan.decision)
    }

    /// The finished table for a stub at this place; the control block is filled in.
    pub fn arm(&self, place: Place, layout: &Layout<'_>, info: &[u8], stderr: RawFd, control: &mut Control) -> Vec<u8> {
        let address = place.table();
        let table = layout.table();
        let ops = (table.len() * size_of::<Op>()) as u64;
        let mut bytes = table.at(address);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let range = place.range();
        let others = self.others().count() as u32;
        control.handoff.magic = handoff::MAGIC;
        control.handoff.version = handoff::VERSION;
        control.handoff.tasks = others + u32::from(self.first().is_some());
        control.handoff.info = address + bytes.len() as u64;
        control.handoff.info_length = info.len() as u64;
        control.handoff.stub_start = range.start;
        control.handoff.stub_length = range.end - range.start;
        control.hold = u32::from(self.first().is_none());
        control.failure = failure::code() as u32;
        control.ops = address;
        control.ops_end = address + ops;
        control.enter_process = self.image().restore.enter_process;
        control.enter_task = self.image().restore.enter_task;
        control.report = stderr as u64;
        control.drop_capabilities = u64::from(self.drop_capabilities);
        bytes.extend_from_slice(info);
        bytes
    }
}
