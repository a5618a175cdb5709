//! The way round a kernel that does not let us name the executable: the process execs the original program, and is
//! turned into the restored one before the first instruction of that runs.
//!
//! ```text
//!   child                                          tracer (the maker of the family)
//!     place, report its descriptors  ------------>   reads them, seizes the process
//!     wait at the gate               <-----------    opens it
//!     execve(original program): /proc/PID/exe is right, its loader is mapped, nothing has run
//!                                    <-----------    maps memory by system calls made in its name, writes the checked
//!                                                    bytes, the stub and its table; when all processes
//!                                                    are ready: detach with the stub as next
//!     stub: tasks, unmap, move, ... as ever
//! ```
//! Placed descriptors cross the exec because their close-on-exec flags are set last, by the stub. Memory does not, so
//! it is filled after it, by the tracer.

use crate::gaps::{self, Gaps};
use crate::layout::{self, Layout, Placement, Source, Vdso};
use crate::mm::Way;
use crate::original::{self, Original};
use crate::process::Restoration;
use crate::progress::Shown;
use crate::staging::{Stage, StageError};
use crate::stub::{self, Control, Place};
use crate::vdso;
use dmtcp_image::record::{Region, flag, kind};
use dmtcp_image::{CHUNK, PAGE, sum};
use libc::user_regs_struct;
use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::RawFd;

/// What the child tells its tracer before the exec: descriptors by their numbers in the child.
#[derive(Debug, Serialize, Deserialize, Default)]
pub struct Crossing {
    /// The image.
    pub image: RawFd,
    /// Where failures are told.
    pub stderr: RawFd,
    /// Objects that memory is shared with.
    pub objects: BTreeMap<u64, RawFd>,
    /// Descriptors that are to be closed when memory stands.
    pub close: Vec<RawFd>,
    /// Descriptors that had their close-on-exec flag.
    pub close_on_exec: Vec<RawFd>,
}

/// Why a process cannot be turned into the restored one.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The kernel does not let us follow it.
    #[error(
        "cannot follow the process over its exec ({what}: {error}); allow ptrace of children (kernel.yama.ptrace_scope)"
    )]
    Trace {
        /// The step.
        what: &'static str,
        /// What the kernel said.
        error: nix::Error,
    },
    /// It ended instead; it has said why.
    #[error("the process ended before it could be restored")]
    Ended,
    /// A system call in its name failed.
    #[error("cannot make memory in the process ({what}): {error}")]
    Call {
        /// The step.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// Its mappings cannot be read.
    #[error("cannot read the process' mappings: {0}")]
    Maps(io::Error),
    /// Its memory cannot be brought.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Its vdso is in the way.
    #[error("the kernel's vdso is where the program's memory was: try again, it lies elsewhere each time")]
    VdsoInTheWay,
}

fn trace<T>(what: &'static str) -> impl FnOnce(Result<T, nix::Error>) -> Result<T, InjectError> {
    move |result| result.map_err(|error| InjectError::Trace { what, error })
}

/// What a system call in the process' name gave, `None` if the kernel refused it.
fn done<T>(result: Result<T, InjectError>) -> Result<Option<T>, InjectError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(InjectError::Call { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Crossing {
    /// As a file, to be read by the tracer.
    pub fn write(&self) -> io::Result<File> {
        let file = nix::sys::memfd::memfd_create(c"crossing", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
        let mut file = File::from(file);
        file.write_all(&postcard::to_allocvec(self).unwrap_or_default())?;
        Ok(file)
    }

    /// Reads such a file.
    pub fn read(mut file: File) -> io::Result<Self> {
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        postcard::from_bytes(&text).map_err(io::Error::other)
    }
}

/// A process that is followed over its exec, and then stands before its first instruction.
#[derive(Debug)]
pub struct Remote {
    pid: Pid,
    regs: user_regs_struct,
    /// A page of it for what system calls in its name point at; the stub unmaps it.
    scratch: u64,
}

impl Remote {
    /// Follows a process that has not exec'd yet.
    pub fn seize(pid: Pid) -> Result<Self, InjectError> {
        let options = ptrace::Options::PTRACE_O_EXITKILL
            | ptrace::Options::PTRACE_O_TRACEEXEC
            | ptrace::Options::PTRACE_O_TRACESYSGOOD;
        trace("seize")(ptrace::seize(pid, options))?;
        // SAFETY: all fields are numbers.
        Ok(Self { pid, regs: unsafe { std::mem::zeroed() }, scratch: 0 })
    }

    /// Waits for the exec.
    fn stand(&mut self) -> Result<(), InjectError> {
        let pid = self.pid;
        let next = || trace("waitpid")(waitpid(pid, None));
        let WaitStatus::PtraceEvent(..) = next()? else { return Err(InjectError::Ended) };
        // To the end of execve, where registers can be set.
        trace("syscall")(ptrace::syscall(pid, None))?;
        let WaitStatus::PtraceSyscall(_) = next()? else { return Err(InjectError::Ended) };
        let regs = trace("getregs")(ptrace::getregs(pid))?;
        // The loader's first instruction becomes `syscall`; it will never run as what it was.
        const SYSCALL: i64 = 0x050f;
        trace("write")(ptrace::write(pid, regs.rip as ptrace::AddressType, SYSCALL))?;
        self.regs = regs;
        Ok(())
    }

    /// Lets the process go, into the stub.
    pub fn release(self) -> Result<(), InjectError> {
        trace("detach")(ptrace::detach(self.pid, None))
    }

    /// Makes a system call in the process' name.
    fn call(&self, what: &'static str, number: libc::c_long, args: [u64; 6]) -> Result<u64, InjectError> {
        let [rdi, rsi, rdx, r10, r8, r9] = args;
        let regs = user_regs_struct { rax: number as u64, orig_rax: u64::MAX, rdi, rsi, rdx, r10, r8, r9, ..self.regs };
        trace("setregs")(ptrace::setregs(self.pid, regs))?;
        for _ in ["entry", "exit"] {
            trace("syscall")(ptrace::syscall(self.pid, None))?;
            let WaitStatus::PtraceSyscall(_) = trace("waitpid")(waitpid(self.pid, None))? else {
                return Err(InjectError::Ended);
            };
        }
        let result = trace("getregs")(ptrace::getregs(self.pid))?.rax as i64;
        match result {
            -4095..=-1 => Err(InjectError::Call { what, error: io::Error::from_raw_os_error(-result as i32) }),
            _ => Ok(result as u64),
        }
    }

    fn map(&self, at: u64, length: u64, prot: i32, flags: i32, file: RawFd, offset: u64) -> Result<(), InjectError> {
        let flags = flags | libc::MAP_FIXED_NOREPLACE;
        let args = [at, length, prot as u64, flags as u64, file as i64 as u64, offset];
        self.call("mmap", libc::SYS_mmap, args).map(drop)
    }

    fn map_anonymous(&self, at: u64, length: u64, flags: i32) -> Result<(), InjectError> {
        let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        self.map(at, length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    }

    fn protect(&self, at: u64, length: u64, prot: u64) -> Result<(), InjectError> {
        self.call("mprotect", libc::SYS_mprotect, [at, length, prot, 0, 0, 0]).map(drop)
    }

    fn write(&self, mut at: u64, mut bytes: &[u8]) -> Result<(), InjectError> {
        while !bytes.is_empty() {
            let to = RemoteIoVec { base: at as usize, len: bytes.len() };
            let count = trace("process_vm_writev")(process_vm_writev(self.pid, &[IoSlice::new(bytes)], &[to]))?;
            bytes = &bytes[count..];
            at += count as u64;
        }
        Ok(())
    }

    /// Writes those pages that are not there yet.
    fn write_what_differs(&self, at: u64, new: &[u8]) -> Result<(), InjectError> {
        let mut old = vec![0; new.len()];
        let from = RemoteIoVec { base: at as usize, len: old.len() };
        trace("process_vm_readv")(process_vm_readv(self.pid, &mut [IoSliceMut::new(&mut old)], &[from]))?;
        for (index, (old, new)) in old.chunks(PAGE as usize).zip(new.chunks(PAGE as usize)).enumerate() {
            if old != new {
                self.write(at + index as u64 * PAGE, new)?;
            }
        }
        Ok(())
    }

    /// Maps the file that a region was a private mapping of; false: it cannot be had there. What the process maps is not
    /// trusted to be what was opened here: its bytes are compared.
    fn map_original(
        &self,
        stage: &Stage<'_>,
        region: &Region,
        original: &Original,
        at: u64,
    ) -> Result<bool, InjectError> {
        let mut name = stage.image.name(region).as_bytes().to_vec();
        name.push(0);
        if name.len() as u64 > PAGE {
            return Ok(false);
        }
        self.write(self.scratch, &name)?;
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
        let args = [libc::AT_FDCWD as u64, self.scratch, flags, 0, 0, 0];
        let Some(file) = done(self.call("openat", libc::SYS_openat, args))? else { return Ok(false) };
        let prot = original::prot(region);
        let length = region.end - region.start;
        let mapped = done(self.map(at, length, prot, libc::MAP_PRIVATE, file as RawFd, region.offset))?;
        self.call("close", libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
        if mapped.is_none() {
            return Ok(false);
        }
        for zeros in &original.zeros {
            for start in (zeros.start..zeros.end).step_by(CHUNK as usize) {
                let length = CHUNK.min(zeros.end - start) as usize;
                self.write_what_differs(at + (start - region.start), &vec![0; length])?;
            }
        }
        Ok(true)
    }

    /// Advises memory as its flags say.
    fn advise(&self, at: u64, length: u64, flags: u64) {
        for advice in layout::advice(flags) {
            let _ = self.call("madvise", libc::SYS_madvise, [at, length, advice as u64, 0, 0, 0]);
        }
    }

    /// Brings the bytes of one region.
    fn stage(
        &self,
        stage: &Stage<'_>,
        region: &Region,
        gaps: &mut Gaps,
        progress: &Shown,
    ) -> Result<Source, InjectError> {
        let length = region.end - region.start;
        if region.kind == kind::OBJECT {
            let at = stage.room(region, gaps)?;
            self.map(at, length, region.prot as i32, libc::MAP_SHARED, stage.object(region)?, region.offset)?;
            self.advise(at, length, region.flags & !flag::HUGETLB);
            return Ok(Source::Staged(at));
        }
        let original = stage.original(region);
        if original.is_none() && stage.is_fresh(region) {
            return Ok(Source::Fresh(stage.runs(region)));
        }
        let at = stage.room(region, gaps)?;
        let backed = match &original {
            Some(original) => self.map_original(stage, region, original, at)?,
            None => false,
        };
        if !backed {
            if stage.is_fresh(region) {
                return Ok(Source::Fresh(Vec::new()));
            }
            stage.map_pages(region, |flags| self.map_anonymous(at, length, flags))?;
        }
        self.advise(at, length, region.flags);
        let home = |address: u64| at + (address - region.start);
        stage.each_chunk(region, |address, chunk| {
            let write = |offset: usize, run: &[u8]| self.write(home(address) + offset as u64, run);
            let done =
                if backed { self.write_what_differs(home(address), chunk) } else { sum::for_each_run(chunk, write) };
            progress.add(chunk.len());
            done
        })?;
        self.protect(at, length, u64::from(region.prot))?;
        Ok(Source::Staged(at))
    }

    /// Decides about the vdso; the old one may become placements.
    fn vdso(
        &self,
        stage: &Stage<'_>,
        current: Option<&vdso::Current>,
        gaps: &mut Gaps,
        placements: &mut Vec<Placement>,
    ) -> Result<Vdso, InjectError> {
        let Some(current) = current else { return Ok(Vdso::Stay) };
        // The same kernel maps the same vdso into every process: ours can be read and tried.
        let own = gaps::current().map_err(InjectError::Maps)?;
        let own = vdso::Current::among(&own).ok_or(InjectError::VdsoInTheWay)?;
        let plan =
            vdso::plan(stage.image, stage.vdso_bytes()?, &own, current, gaps).ok_or(InjectError::VdsoInTheWay)?;
        for (region, bytes) in plan.memory {
            let at = stage.room(&region, gaps)?;
            self.map_anonymous(at, region.end - region.start, 0)?;
            self.write(at, &bytes)?;
            self.protect(at, region.end - region.start, u64::from(region.prot))?;
            placements.push(Placement { region, anon_name: None, source: Source::Staged(at) });
        }
        Ok(plan.decision)
    }
}

impl Remote {
    /// Turns a process that is about to exec into the restored process, up to its release.
    pub fn inject(
        mut self,
        restoration: &Restoration<'_>,
        crossing: &Crossing,
        ids: Option<&[i32]>,
    ) -> Result<Self, InjectError> {
        self.stand()?;
        let pid = self.pid;
        let image = restoration.image();
        let maps = gaps::of_process(pid.as_raw()).map_err(InjectError::Maps)?;
        let future = image.regions.iter().map(|r| r.start..r.end);
        let mut gaps = Gaps::new(maps.iter().map(gaps::with_stack_room), future);
        self.scratch = gaps.take(PAGE, 0, PAGE).ok_or(StageError::NoRoom { start: 0, length: PAGE })?;
        self.map_anonymous(self.scratch, PAGE, 0)?;
        let remote = self;
        let file = restoration.plugins.descriptors().number(restoration.plugins.image_handle(restoration.index));
        let stage = Stage::new(image, file, restoration.plugins.stderr(), restoration.lazy, crossing.objects.clone());
        let progress = restoration.progress.shown_on(restoration.plugins.stderr());
        let mut placements = Vec::new();
        for region in stage.regions() {
            let source = remote.stage(&stage, region, &mut gaps, &progress)?;
            placements.push(Placement { region: *region, anon_name: stage.anon_name(region), source });
        }
        let current = vdso::Current::among(&maps);
        let vdso = remote.vdso(&stage, current.as_ref(), &mut gaps, &mut placements)?;

        let auxv = restoration.auxv();
        let info = restoration.info();
        let tasks = image.threads.len().max(1);
        let room = layout::room(image.regions.len() + tasks, image.extents.len(), auxv.len() + info.len());
        let start = gaps.take(Place::length_for(tasks, room), 0, PAGE);
        let place = Place::new(start.ok_or(StageError::NoRoom { start: 0, length: room as u64 })?, tasks, room);
        let range = place.range();
        remote.map_anonymous(range.start, range.end - range.start, libc::MAP_NORESERVE)?;
        let layout = Layout {
            stub: range,
            placements: &placements,
            current_vdso: current,
            vdso,
            restore: &image.restore,
            auxv,
            memory: Way::here(),
            exe: -1,
            image: crossing.image,
            close: &crossing.close,
            tasks: restoration
                .others()
                .enumerate()
                .map(|(index, thread)| (place.task(index + 1), Restoration::id_of(thread, ids), thread.slot))
                .collect(),
            close_on_exec: &crossing.close_on_exec,
            descriptor_limit: restoration.descriptor_limit,
        };
        let mut control = Control::default();
        let table = restoration.arm(place, &layout, &info, crossing.stderr, &mut control);
        remote.write(place.table(), &table)?;
        remote.write(place.control(), control.bytes())?;
        remote.write(place.code().start, stub::code())?;
        let code = place.code();
        remote.protect(code.start, code.end - code.start, (libc::PROT_READ | libc::PROT_EXEC) as u64)?;
        let first = restoration.first();
        let regs = user_regs_struct {
            rip: place.entry(),
            rsp: place.stack_top(),
            rdi: place.control(),
            rsi: place.stack_top(),
            rdx: first.unwrap_or(0),
            rcx: u64::from(first.is_none()),
            orig_rax: u64::MAX,
            ..remote.regs
        };
        trace("setregs")(ptrace::setregs(pid, regs))?;
        Ok(remote)
    }
}
