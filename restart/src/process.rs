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
use crate::inject::{self, Crossing, InjectError};
use crate::kernel;
use crate::layout::{self, Layout, Placement, Source, Vdso};
use crate::plugins::{PluginError, Plugins};
use crate::report;
use crate::staging::{Stage, StageError};
use crate::stub::{Control, Op, Place, Stub};
use crate::vdso;
use dmtcp_image::read::Image;
use dmtcp_image::record::Thread;
use dmtcp_launcher::failure;
use dmtcp_protocol::handoff::{self, RestartInfo};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::wait::waitpid;
use nix::unistd::{self, Pid};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

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
    /// It execs the original program, and cannot be followed.
    #[error(transparent)]
    Inject(InjectError),
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
    #[error("cannot become the original program ({what}): {error}")]
    Exec { what: &'static str, error: io::Error },
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
const CROSSING: u8 = b'C';
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
    pub fn info(&self, ids: Option<&[i32]>) -> Vec<u8> {
        let info = RestartInfo { same_ids: ids.is_some(), ..self.info.clone() };
        postcard::to_allocvec(&info).unwrap_or_default()
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

    /// Makes the process; with `ids`, its tasks have their old ids or there is no process.
    pub fn spawn(&self, ids: Option<&[i32]>) -> Result<Child, SpawnError> {
        if ids.is_some() && kernel::forbidden("clone3_set_tid") {
            return Err(SpawnError::Ids(io::Error::from_raw_os_error(libc::EPERM)));
        }
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
            Ok(()) if first[0] == CROSSING => match self.cross(pid, &mut reader, ids) {
                Ok(()) => return Ok(Child { pid, under_way: reader.into() }),
                Err(error) => {
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                    if matches!(error, InjectError::Ended) { SpawnError::Said } else { SpawnError::Inject(error) }
                }
            },
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

    /// Takes a process over that execs the original program.
    fn cross(&self, pid: Pid, reader: &mut File, ids: Option<&[i32]>) -> Result<(), InjectError> {
        let mut length = [0u8; 4];
        reader.read_exact(&mut length).map_err(|_| InjectError::Ended)?;
        let mut text = vec![0; u32::from_le_bytes(length) as usize];
        reader.read_exact(&mut text).map_err(|_| InjectError::Ended)?;
        let crossing: Crossing = postcard::from_bytes(&text).map_err(|_| InjectError::Ended)?;
        inject::inject(self, pid, &crossing, ids)
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

        if self.must_exec() {
            return self.exec_original(status);
        }
        let maps = gaps::current().map_err(ProcessError::Maps)?;
        let taken = maps.iter().map(gaps::with_stack_room).chain(image.regions.iter().map(|r| r.start..r.end));
        let mut gaps = Gaps::new(taken);
        let (auxv, info) = (self.auxv(), self.info(ids));
        let mut stub = self.map_stub(&mut gaps, info.len() + auxv.len()).map_err(ProcessError::Stub)?;
        for (index, thread) in self.others().enumerate() {
            stub.add_task(index + 1, thread.slot, Self::id_of(thread, ids)).map_err(ProcessError::Task)?;
        }
        report::write(descriptors.number(status), str::from_utf8(&[MADE]).unwrap_or_default());

        self.plugins.place(self.index as u32)?;
        descriptors.close_strangers();
        let image_handle = self.plugins.image_handle(self.index);
        let stage = Stage::new(image, descriptors.number(image_handle), self.lazy, descriptors.objects());
        let mut placements = stage.all(&mut gaps)?;
        let current = vdso::Current::among(&maps);
        let vdso = self.vdso(&stage, current.as_ref(), &mut gaps, &mut placements)?;

        let exe = File::open(&image.identity.exe).ok().map(|file| descriptors.adopt(file.into()));
        let stderr = self.plugins.stderr_handle();
        let mut keep: Vec<Handle> = [exe, stderr].into_iter().flatten().collect();
        if stage.lazy {
            keep.push(image_handle);
        }
        keep.push(status);
        descriptors.close_all_but(&keep);
        let number = |handle: Option<Handle>| handle.map_or(-1, |handle| descriptors.number(handle));
        let close: Vec<_> = keep.iter().map(|handle| descriptors.number(*handle)).collect();
        let layout = Layout {
            stub: stub.place().range(),
            placements: &placements,
            current_vdso: current,
            vdso,
            restore: &image.restore,
            auxv,
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

    /// Whether the kernel will not let us name the executable, and the original one can be executed.
    fn must_exec(&self) -> bool {
        const CAP_SYS_ADMIN: u32 = 21;
        const CAP_CHECKPOINT_RESTORE: u32 = 40;
        let allowed = kernel::has_capability(CAP_CHECKPOINT_RESTORE) || kernel::has_capability(CAP_SYS_ADMIN);
        let exe = self.image().identity.exe.as_str();
        (!allowed || kernel::forbidden("mm_exe")) && unistd::access(exe, unistd::AccessFlags::X_OK).is_ok()
    }

    /// Becomes the original program, which the parent then turns into the restored process.
    fn exec_original(&self, status: Handle) -> Result<Infallible, ProcessError> {
        let image = self.image();
        let descriptors = self.plugins.descriptors();
        self.plugins.place(self.index as u32)?;
        descriptors.close_strangers();
        let image_handle = self.plugins.image_handle(self.index);
        let mut keep = vec![image_handle, status];
        keep.extend(self.plugins.stderr_handle());
        keep.extend(descriptors.object_handles());
        descriptors.close_all_but(&keep);
        let close: Vec<RawFd> = keep.iter().map(|handle| descriptors.number(*handle)).collect();
        let mut close_on_exec = Vec::new();
        for number in descriptors.announced().into_iter().chain(close.iter().copied()) {
            // SAFETY: only borrowed for the calls; one that is not open gives EBADF.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            let flags = fcntl(descriptor, FcntlArg::F_GETFD).map_or(FdFlag::empty(), FdFlag::from_bits_retain);
            if flags.contains(FdFlag::FD_CLOEXEC) {
                let _ = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()));
                if !close.contains(&number) {
                    close_on_exec.push(number);
                }
            }
        }
        let crossing = Crossing {
            image: descriptors.number(image_handle),
            stderr: self.plugins.stderr(),
            objects: descriptors.objects(),
            close,
            close_on_exec,
        };
        let failed = |what| move |error: nix::Error| ProcessError::Exec { what, error: error.into() };
        let exe = CString::new(image.identity.exe.as_str()).unwrap_or_default();
        let args: Vec<CString> = image.identity.args.iter().filter_map(|arg| CString::new(arg.as_str()).ok()).collect();
        kernel::keep_capability_over_exec(40);
        let text = postcard::to_allocvec(&crossing).unwrap_or_default();
        let message = [&[CROSSING][..], &(text.len() as u32).to_le_bytes(), &text].concat();
        // SAFETY: the list keeps it open.
        let pipe = unsafe { BorrowedFd::borrow_raw(descriptors.number(status)) };
        unistd::write(pipe, &message).map_err(failed("pipe"))?;
        nix::sys::ptrace::traceme().map_err(failed("ptrace"))?;
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).map_err(failed("stop"))?;
        unistd::execve(&exe, &args, &[] as &[CString]).map_err(failed("execve"))
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
        let at = gaps.take(Place::length_for(tasks, room), 0, dmtcp_image::PAGE);
        Stub::map(at.ok_or(io::ErrorKind::OutOfMemory)?, tasks, room)
    }

    /// Decides what becomes of the vdso; the old one may become a placement.
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
        if let Some((region, bytes)) = plan.redirected {
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
