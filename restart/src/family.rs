//! Makes a family: every process forked by its parent, all with their ids, and nothing of memory before all are there.
//!
//! ```text
//!   maker (dmtcp_restart or the namespace's init)          each process of the plan
//!     forks the roots                                        forks its children, leads, makes its tasks
//!                                     <---------- Born       waits
//!     gate BORN    ------------------------------------->    joins its group
//!                                     <---------- Joined     waits
//!     gate JOINED  ------------------------------------->    ends, if it is one that has ended; waits for such children
//!                                                            places descriptors, stages and verifies memory
//!                                     <---------- Ready      waits          (or Crossing: see `inject`)
//!     gate READY   ------------------------------------->    hands over to the stub, which closes the reports' pipe
//! ```
//! Whatever fails before the last gate, an id that is taken above all, ends every process that was made: those that wait
//! find their gate closed, the others are killed by their pids.

use crate::clock;
use crate::descriptors::Handle;
use crate::forest::{Forest, Group, Role};
use crate::inject::{Crossing, InjectError, Remote};
use crate::kernel;
use crate::process::{ProcessError, Restoration, SpawnError};
use crate::report;
use crate::reports::{Kind, LENGTH, decode, encode};
use dmtcp_launcher::failure;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{self, Pid};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The points where all wait for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// All processes and tasks exist.
    Born,
    /// All are in their groups.
    Joined,
    /// All memory is staged.
    Ready,
    /// Those that exec the original program are traced.
    Cross,
}

/// Between two looks at whether somebody has ended before all are born, in milliseconds.
const LOOK: u8 = 200;

/// The ends of the pipes between a maker and all that are made.
#[derive(Clone, Copy)]
pub struct Link<'a> {
    restoration: &'a Restoration<'a>,
    node: usize,
    reports: Handle,
    gates: [Handle; 4],
    makers: [Handle; 5],
}

impl<'a> Link<'a> {
    fn new(restoration: &'a Restoration<'a>) -> io::Result<Self> {
        let descriptors = restoration.plugins.descriptors();
        let pipe = || -> io::Result<[Handle; 2]> {
            let (reader, writer) = io::pipe()?;
            Ok([descriptors.adopt(reader.into()), descriptors.adopt(writer.into())])
        };
        let [reader, reports] = pipe()?;
        let gates = [pipe()?, pipe()?, pipe()?, pipe()?];
        let makers = [reader, gates[0][1], gates[1][1], gates[2][1], gates[3][1]];
        Ok(Self { restoration, node: 0, reports, gates: gates.map(|[reader, _]| reader), makers })
    }

    fn borrow(&self, handle: Handle) -> BorrowedFd<'a> {
        // SAFETY: the list keeps it open, and moves it only while plugins place, when nobody holds this.
        unsafe { BorrowedFd::borrow_raw(self.restoration.plugins.descriptors().number(handle)) }
    }

    /// The end that must stay open until memory stands.
    pub fn reports(&self) -> Handle {
        self.reports
    }

    /// Tells the maker.
    pub fn report(&self, kind: Kind, value: i32) {
        // A maker that is gone is noticed at the next gate.
        let _ = unistd::write(self.borrow(self.reports), &encode(kind, self.node, value));
    }

    /// Waits until the maker opens the gate. If it never will, the process ends.
    pub fn wait(&self, gate: Gate) {
        let reader = self.gates[gate as usize];
        loop {
            match unistd::read(self.borrow(reader), &mut [0]) {
                Ok(1) => break,
                Err(nix::Error::EINTR) => {}
                _ => end(failure::code()),
            }
        }
        self.restoration.plugins.descriptors().close(reader);
    }

    fn open(&self, gate: Gate, count: usize) {
        let writer = self.borrow(self.makers[gate as usize + 1]);
        let bytes = vec![0; count];
        let mut rest = &bytes[..];
        while let Ok(written @ 1..) = unistd::write(writer, rest) {
            rest = &rest[written..];
        }
    }

    fn close_makers(&self) {
        for handle in self.makers {
            self.restoration.plugins.descriptors().close(handle);
        }
    }

    fn close_made(&self) {
        for handle in self.gates.into_iter().chain([self.reports]) {
            self.restoration.plugins.descriptors().close(handle);
        }
    }
}

fn end(code: i32) -> ! {
    // SAFETY: ends the process without running what the restarter has registered for its own end.
    unsafe { libc::_exit(code) }
}

/// Wanted ids of each process: pid first.
pub type Ids = Vec<Vec<i32>>;

/// Makes all processes of the plan. With `ids`, all tasks have their old ids or there is no process. Returns the pids of
/// those that are waited for when all processes stand in their own memory.
pub fn make(restoration: &Restoration<'_>, forest: &Forest, ids: Option<&Ids>) -> Result<Vec<Pid>, SpawnError> {
    if ids.is_some() && kernel::forbidden("clone3_set_tid") {
        return Err(SpawnError::Ids(io::Error::from_raw_os_error(libc::EPERM)));
    }
    // Whoever started us may ignore it; then there would be nobody to wait for.
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    let link = Link::new(restoration).map_err(SpawnError::Kernel)?;
    let wanted = forest.nodes.iter().filter_map(|node| node.pid).chain(ids.into_iter().flatten().flatten().copied());
    let plan = Plan { forest, ids, wanted: wanted.collect() };
    let mut maker = Maker { link, plan: &plan, roots: Vec::new(), born: BTreeMap::new(), crossings: Vec::new() };
    let adopting = nix::sys::prctl::get_child_subreaper().unwrap_or(false);
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let clock = restoration.shift.enter();
    let made = maker.make();
    clock::leave();
    if let (Ok(()), Err(error)) = (&made, clock) {
        restoration.shift.warn(restoration.plugins.stderr(), &error);
    }
    if made.is_err() {
        maker.abandon();
    }
    let _ = nix::sys::prctl::set_child_subreaper(adopting);
    link.close_makers();
    made?;
    Ok(forest.waited.iter().filter_map(|node| maker.born.get(node).copied()).collect())
}

/// What all processes know.
struct Plan<'a> {
    forest: &'a Forest,
    ids: Option<&'a Ids>,
    wanted: BTreeSet<i32>,
}

impl Plan<'_> {
    /// Forks a node; it never returns in that.
    fn fork(&self, link: Link<'_>, index: usize) -> io::Result<Pid> {
        let node = &self.forest.nodes[index];
        let fork = |pid: Option<i32>| {
            // SAFETY: the calling process has one thread that runs code of ours; its tasks only wait inside the stub.
            match unsafe { kernel::fork(0, node.exit_signal, pid) }? {
                0 => self.run(Link { node: index, ..link }),
                pid => Ok(Pid::from_raw(pid)),
            }
        };
        match (self.ids, node.pid) {
            (None, _) => fork(None),
            (Some(_), Some(pid)) => fork(Some(pid)),
            (Some(_), None) => self.fork_with_spare_id(fork),
        }
    }

    /// With an id that nobody will want later.
    fn fork_with_spare_id(&self, fork: impl Fn(Option<i32>) -> io::Result<Pid>) -> io::Result<Pid> {
        const HIGHEST: i32 = 32_767;
        const LOWEST: i32 = 300;
        for id in (LOWEST..HIGHEST).rev().filter(|id| !self.wanted.contains(id)) {
            match fork(Some(id)) {
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                done => return done,
            }
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// The life of a node.
    fn run(&self, link: Link<'_>) -> ! {
        let node = &self.forest.nodes[link.node];
        link.close_makers();
        kernel::block_signals();
        if node.adopts {
            // What it was is put back when its memory stands.
            let _ = nix::sys::prctl::set_child_subreaper(true);
        }
        let mut children = Vec::new();
        let mut fork_all = |list: &[usize]| {
            for child in list {
                match self.fork(link, *child) {
                    Ok(pid) => children.push((*child, pid)),
                    Err(error) => self.fail(link, &ProcessError::Task(error)),
                }
            }
        };
        fork_all(&node.before);
        let led = match (node.session, node.group) {
            (true, _) => unistd::setsid().map(drop),
            (false, Group::Lead) => unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)),
            _ => Ok(()),
        };
        if let Err(error) = led {
            self.fail(link, &ProcessError::Lead(error.into()));
        }
        fork_all(&node.after);
        match node.role {
            Role::Process(image) => {
                let restoration = Restoration { index: image, ..link.restoration.clone() };
                let link = Link { restoration: &restoration, ..link };
                let ids = self.ids.map(|ids| &ids[image][..]);
                let outcome = restoration.prepare(ids, node.exit_signal).and_then(|prepared| {
                    self.join(link);
                    await_ended(self.forest, &children);
                    self.take_foreground(link);
                    restoration.bring_back(link, prepared)
                });
                match outcome {
                    Ok(never) => match never {},
                    Err(error) => self.fail(link, &error),
                }
            }
            Role::Ended(status) => {
                self.join(link);
                self.take_foreground(link);
                end_as(status)
            }
            Role::Passing => {
                self.join(link);
                self.take_foreground(link);
                end(0)
            }
        }
    }

    /// Passes the gates up to the point where all are in their groups.
    fn join(&self, link: Link<'_>) {
        let node = &self.forest.nodes[link.node];
        link.report(Kind::Born, unistd::getpid().as_raw());
        link.wait(Gate::Born);
        let known = |group| match self.ids {
            Some(_) => Some(group),
            None => link.restoration.translation?.real(group),
        };
        if let Group::Join(group) = node.group
            && let Some(group) = known(group).map(Pid::from_raw)
            && unistd::getpgrp() != group
            && unistd::setpgid(Pid::from_raw(0), group).is_err()
        {
            let name = self.name(link.node);
            let text = format!("dmtcp_restart: warning: {name} could not join its process group {group}\n");
            report::write(link.restoration.plugins.stderr(), &text);
        }
        link.report(Kind::Joined, 0);
        link.wait(Gate::Joined);
    }

    /// Gives the terminal to the node's group, if it had it.
    fn take_foreground(&self, link: Link<'_>) {
        if self.forest.foreground == Some(link.node) {
            link.restoration.take_foreground();
        }
    }

    fn name(&self, node: usize) -> String {
        self.forest.nodes[node].pid.map_or_else(|| "a process".into(), |pid| format!("process {pid}"))
    }

    fn fail(&self, link: Link<'_>, error: &ProcessError) -> ! {
        match error {
            ProcessError::Task(error) if self.ids.is_some() => {
                link.report(Kind::NoId, error.raw_os_error().unwrap_or(libc::EIO));
            }
            error => {
                report::write(link.restoration.plugins.stderr(), &format!("dmtcp_restart: {error}\n"));
                link.report(Kind::Said, 0);
            }
        }
        end(failure::code())
    }
}

/// Waits until passing children are gone, and ended ones have ended; what the kernel signals about them is forgotten.
fn await_ended(forest: &Forest, children: &[(usize, Pid)]) {
    for (child, pid) in children {
        match forest.nodes[*child].role {
            Role::Process(_) => {}
            Role::Passing => {
                let _ = waitpid(*pid, None);
            }
            Role::Ended(_) => kernel::await_end(*pid),
        }
    }
    // SAFETY: the default action runs no code of ours. To set it drops what is pending.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Ends with this wait status.
fn end_as(status: i32) -> ! {
    if libc::WIFSIGNALED(status) {
        kernel::die_by(libc::WTERMSIG(status));
    }
    end(libc::WEXITSTATUS(status))
}

/// The maker's view.
struct Maker<'a> {
    link: Link<'a>,
    plan: &'a Plan<'a>,
    roots: Vec<(usize, Pid)>,
    born: BTreeMap<usize, Pid>,
    crossings: Vec<(usize, i32)>,
}

impl Maker<'_> {
    fn make(&mut self) -> Result<(), SpawnError> {
        let Plan { forest, ids, .. } = *self.plan;
        for root in &forest.roots {
            match self.plan.fork(self.link, *root) {
                Ok(pid) => self.roots.push((*root, pid)),
                Err(error) if ids.is_some() => return Err(SpawnError::Ids(error)),
                Err(error) => return Err(SpawnError::Kernel(error)),
            }
        }
        self.link.close_made();
        let all = forest.nodes.len();
        let processes = forest.nodes.iter().filter(|node| matches!(node.role, Role::Process(_))).count();
        let nobody = BTreeMap::new();
        self.collect(&nobody, Kind::Born, all)?;
        if let Some(table) = self.link.restoration.translation {
            let known = |node: &usize| forest.nodes[*node].pid;
            self.born
                .iter()
                .for_each(|(node, real)| known(node).into_iter().for_each(|id| table.set(id, real.as_raw())));
        }
        let everybody = self.watch(|_| true);
        self.link.open(Gate::Born, all);
        self.collect(&everybody, Kind::Joined, all)?;
        let watched = self.watch(|role| matches!(role, Role::Process(_)));
        self.link.open(Gate::Joined, all);
        for (root, pid) in &self.roots {
            if forest.nodes[*root].role == Role::Passing {
                let _ = waitpid(*pid, None);
            }
        }
        let staged = self.collect(&watched, Kind::Ready, processes);
        let crossed = staged.and_then(|()| self.cross());
        self.link.restoration.progress.clear(self.link.restoration.plugins.stderr());
        let crossed = crossed?;
        self.link.open(Gate::Ready, processes - crossed.len());
        for remote in crossed {
            remote.release().map_err(SpawnError::Inject)?;
        }
        while self.next(&watched)?.is_some() {}
        Ok(())
    }

    /// Descriptors that tell when one of those with such a role ends.
    fn watch(&self, is_watched: impl Fn(Role) -> bool) -> BTreeMap<usize, OwnedFd> {
        let born = self.born.iter().filter(|(node, _)| is_watched(self.plan.forest.nodes[**node].role));
        born.filter_map(|(node, pid)| Some((*node, kernel::pidfd(*pid).ok()?))).collect()
    }

    /// Waits for this many reports of a kind; a crossing process is ready in its way.
    fn collect(&mut self, watched: &BTreeMap<usize, OwnedFd>, kind: Kind, count: usize) -> Result<(), SpawnError> {
        let mut seen = 0;
        while seen < count {
            if kind == Kind::Born {
                self.await_birth()?;
            }
            match self.next(watched)? {
                Some((Kind::NoId, _, errno)) => return Err(SpawnError::Ids(io::Error::from_raw_os_error(errno))),
                None | Some((Kind::Said, ..)) => return Err(SpawnError::Said),
                Some((Kind::Born, node, pid)) => {
                    self.born.insert(node, Pid::from_raw(pid));
                    seen += usize::from(kind == Kind::Born);
                }
                Some((Kind::Crossing, node, descriptor)) => {
                    self.crossings.push((node, descriptor));
                    seen += usize::from(kind == Kind::Ready);
                }
                Some((other, ..)) => seen += usize::from(kind == other),
            }
        }
        Ok(())
    }

    /// Waits for a report while processes are born. Nobody ends before all are; one that does may not have said who it is,
    /// and its parent only waits.
    fn await_birth(&self) -> Result<(), SpawnError> {
        let mut polled = [PollFd::new(self.link.borrow(self.link.makers[0]), PollFlags::POLLIN)];
        while poll(&mut polled, LOOK) == Ok(0) {
            if let Some(pid) = kernel::ended_descendant(unistd::getpid()) {
                return Err(SpawnError::Ended(format!("process {pid}")));
            }
        }
        Ok(())
    }

    /// The next report; `None` when nobody is left who could report.
    fn next(&self, watched: &BTreeMap<usize, OwnedFd>) -> Result<Option<(Kind, usize, i32)>, SpawnError> {
        let reports = self.link.borrow(self.link.makers[0]);
        let mut polled = vec![PollFd::new(reports, PollFlags::POLLIN)];
        polled.extend(watched.values().map(|descriptor| PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)));
        loop {
            let progress = self.link.restoration.progress;
            if poll(&mut polled, progress.pause()) == Ok(0) {
                progress.show(self.link.restoration.plugins.stderr());
                continue;
            }
            let heard = |poll: &PollFd<'_>| poll.revents().is_some_and(|events| !events.is_empty());
            if heard(&polled[0]) {
                let mut bytes = [0; LENGTH];
                return match unistd::read(reports, &mut bytes) {
                    Ok(LENGTH) => Ok(decode(bytes)),
                    Err(nix::Error::EINTR) => continue,
                    _ => Ok(None),
                };
            }
            let ended = watched.keys().zip(&polled[1..]).find(|(_, poll)| heard(poll));
            if let Some((node, _)) = ended {
                return Err(SpawnError::Ended(self.plan.name(*node)));
            }
        }
    }

    /// Takes over the processes that exec the original program; they stand still when this returns.
    fn cross(&mut self) -> Result<Vec<Remote>, SpawnError> {
        let mut followed = Vec::new();
        for (node, descriptor) in &self.crossings {
            let (Some(pid), Role::Process(image)) = (self.born.get(node), self.plan.forest.nodes[*node].role) else {
                continue;
            };
            let crossing = File::open(format!("/proc/{pid}/fd/{descriptor}"))
                .and_then(Crossing::read)
                .map_err(|error| SpawnError::Inject(InjectError::Maps(error)))?;
            followed.push((Remote::seize(*pid).map_err(SpawnError::Inject)?, crossing, image));
        }
        self.link.open(Gate::Cross, followed.len());
        let mut standing = Vec::new();
        for (remote, crossing, image) in followed {
            let restoration = Restoration { index: image, ..self.link.restoration.clone() };
            let ids = self.plan.ids.map(|ids| &ids[image][..]);
            standing.push(remote.inject(&restoration, &crossing, ids).map_err(|error| match error {
                InjectError::Ended => SpawnError::Said,
                error => SpawnError::Inject(error),
            })?);
        }
        Ok(standing)
    }

    /// Ends everything that was made.
    fn abandon(&self) {
        let descriptors = self.link.restoration.plugins.descriptors();
        for gate in &self.link.makers[1..] {
            descriptors.close(*gate);
        }
        self.link.close_made();
        let end = |pids: &mut dyn Iterator<Item = Pid>| {
            for pid in pids {
                let _ = kill(pid, Signal::SIGKILL);
            }
        };
        end(&mut self.born.values().copied());
        // Until the last one has ended: those that had not reported yet come to a gate.
        while let Ok(Some((kind, _, pid))) = self.next(&BTreeMap::new()) {
            if kind == Kind::Born {
                end(&mut [Pid::from_raw(pid)].into_iter());
            }
        }
        for pid in self.roots.iter().map(|(_, pid)| pid).chain(self.born.values()) {
            let _ = waitpid(*pid, Some(WaitPidFlag::__WALL));
        }
    }
}
