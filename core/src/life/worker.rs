//! The checkpoint thread between checkpoints: membership in the computation, and what the coordinator asks.

use super::checkpoint::{self, Outcome};
use super::link::{self, Link, Silence};
use super::{alone, birth, descriptors, errand, exit, orphans, restore};
use crate::threads::slot::{self, Role, Slot, State};
use crate::{config, host, ids, interface, log, threads};
use dmtcp_image::codec::Method;
use dmtcp_image::{PAGE, write};
use dmtcp_plugin_api::abi::Event;
use dmtcp_plugin_api::sys::{self, Fd};
use dmtcp_plugin_api::{headroom, proc_files};
use dmtcp_protocol::auth::Key;
use dmtcp_protocol::message::{Barrier, ComputationId, FromClient, FromCoordinator, Join};
use std::collections::VecDeque;
use std::sync::OnceLock;

/// Between two tries to reach a coordinator again, in nanoseconds.
const RETRY: u64 = 1_000_000_000;
/// How long a coordinator may take to answer a Join, in milliseconds: it may hold it back while a generation is written.
const WELCOME_LIMIT: i32 = 600_000;
/// How long a coordinator may take to decide on a generation that this process has brought to the disk, in milliseconds.
const DECISION_LIMIT: i32 = 900_000;

/// A member of a computation.
pub struct Worker {
    /// The connection; `None` while no coordinator is there.
    pub link: Option<Link>,
    /// Messages that came while the answer to an errand was waited for.
    pub deferred: VecDeque<FromCoordinator>,
    /// The generation that hooks take part in; 0: none.
    pub underway: u64,
    /// Number of the last errand.
    pub ticket: u32,
    /// When the computation began, or was restarted: nanoseconds since 1970.
    pub since: u64,
    /// The computation.
    pub computation: ComputationId,
    /// How many processes it had when last heard.
    pub peers: u32,
    /// Last generation that this process took part in.
    pub generation: u64,
    /// Identity of the process, kept over restarts.
    pub process: u128,
    /// Where the next images go.
    pub checkpoint_dir: String,
    /// Coordinator's address.
    pub host: String,
    /// Coordinator's port.
    pub port: u16,
    /// Its unix socket, if it is of this host; else empty.
    pub socket: String,
    /// The key.
    pub key: Key,
    /// This thread's stack.
    pub stack: (u64, u64),
    /// The writer's buffer, outside of the image.
    pub buffer: (u64, u64),
    /// This thread's slot.
    pub slot: &'static Slot,
    /// The process stood still (SIGSTOP), and was continued for what it is asked.
    pub continued: bool,
    /// The process is to end with the generation under way.
    pub ends: bool,
    /// Processes of this host that had just left when all had stopped, for us to look for: they may be executing a program.
    pub strays: Vec<i32>,
}

/// Why a process has not joined.
#[derive(Debug)]
pub enum NotJoined {
    /// No coordinator can be reached that would have it.
    Alone(String),
    /// The coordinator does not want it.
    Refused(String),
}

impl NotJoined {
    /// As people read it.
    pub fn sentence(self) -> String {
        let (Self::Alone(sentence) | Self::Refused(sentence)) = self;
        sentence
    }
}

/// Host name of this machine.
pub fn host_name() -> String {
    // SAFETY: all fields are arrays of bytes.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in the structure, each text ended by a zero.
    let called = unsafe { sys::call(libc::SYS_uname as i32, [(&raw mut names) as usize, 0, 0, 0, 0, 0]) };
    let name: Vec<u8> = names.nodename.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    if called.is_ok() { String::from_utf8_lossy(&name).into_owned() } else { String::new() }
}

/// Name of the program, without its directory.
pub fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let exe = proc_files::read_link("/proc/thread-self/../../exe").unwrap_or_default();
        let exe = exe.strip_suffix(b" (deleted)").unwrap_or(&exe);
        let name = exe.rsplit(|&b| b == b'/').next().unwrap_or(&[]);
        if name.is_empty() { "unknown".into() } else { String::from_utf8_lossy(name).into_owned() }
    })
}

/// A fresh buffer for the writer and for what a compressor allocates: untouched pages cost nothing.
pub fn make_buffer() -> Result<(u64, u64), String> {
    let method = config::config().map_or(Method::None, |c| c.compress);
    let length = write::buffer_length(method) + method.scratch().next_multiple_of(PAGE as usize);
    let start = headroom::map(length, 0).map_err(|e| format!("no memory for a buffer (errno {e})"))?;
    Ok((start, start + length as u64))
}

/// Where the coordinator is and how to prove that we belong to it: as the launch said, or in a fork's child as its parent
/// knew it.
fn coordinator(config: &config::Config) -> Result<(String, u16, String, Key), String> {
    if let Some(standing) = interface::news::standing() {
        return Ok((standing.host.clone(), standing.port, standing.socket.clone(), standing.key.clone()));
    }
    let text = proc_files::read_file(&config.key_file)
        .map_err(|e| format!("the key in {} cannot be read (errno {e})", config.key_file))?;
    let key = Key::parse(&text).ok_or_else(|| format!("{} holds no key", config.key_file))?;
    Ok((config.coord_host.clone(), config.coord_port, config.coord_socket.clone(), key))
}

impl Worker {
    /// Makes the calling thread the checkpoint thread and the process a member. If nobody waits for that, a coordinator that
    /// cannot be reached is looked for later.
    pub fn begin(stack: u64, length: u64, awaited: bool) -> Result<Self, String> {
        let config = config::config().ok_or("this process was not launched in a computation")?;
        let handed_over = super::handed_over();
        descriptors::separate(handed_over.map(|number| number as u32))?;
        let (host, port, socket, key) = coordinator(config)?;
        let slot = slot::of(sys::tid()).map_err(|e| format!("no memory for a slot (errno {e})"))?;
        slot.set_role(Role::Checkpoint);
        slot.set_state(State::Parked);
        let mut worker = Self {
            link: None,
            deferred: VecDeque::new(),
            underway: 0,
            ticket: 0,
            since: 0,
            computation: ComputationId::default(),
            peers: 0,
            generation: 0,
            process: u128::from_le_bytes(link::random()),
            checkpoint_dir: interface::files::directory()
                .map_or_else(|| config.checkpoint_dir.clone(), |d| d.to_string_lossy().into_owned()),
            host,
            port,
            socket,
            key,
            stack: (stack, stack + length),
            buffer: make_buffer()?,
            slot,
            continued: false,
            ends: false,
            strays: Vec::new(),
        };
        // A restart brings a coordinator, whatever the launch had said.
        if config.alone && !restore::is_restarted() {
            worker.begin_alone();
        } else {
            // A conversation that the launch began has proved the key already. One that has broken meanwhile is begun anew.
            let handed_over = handed_over.map(|number| Link::taken_over(Fd::own(number)));
            let joined = match handed_over.map(|link| worker.join_by(link, None)) {
                None | Some(Err(NotJoined::Alone(_))) => worker.join(None),
                Some(joined) => joined,
            };
            match joined {
                Ok(()) => {}
                Err(NotJoined::Alone(reason)) if !awaited => {
                    log::trace("core", &reason);
                    return Ok(worker);
                }
                Err(reason) => return Err(reason.sentence()),
            }
        }
        birth::show_membership();
        Ok(worker)
    }

    /// Makes the process a computation of its own.
    fn begin_alone(&mut self) {
        alone::set(true);
        self.computation = ComputationId(u128::from_le_bytes(link::random()));
        self.peers = 1;
        self.since = sys::clock(libc::CLOCK_REALTIME);
        interface::news::joined(self);
    }

    /// Connects and joins.
    pub fn join(&mut self, restarted: Option<(ComputationId, u64)>) -> Result<(), NotJoined> {
        let link = Link::open(&self.host, self.port, &self.socket, &self.key).map_err(NotJoined::Alone)?;
        self.join_by(link, restarted)
    }

    fn join_by(&mut self, mut link: Link, restarted: Option<(ComputationId, u64)>) -> Result<(), NotJoined> {
        let pid = sys::pid();
        let join = Join {
            virtual_pid: ids::to_virtual(pid),
            real_pid: pid,
            program: program().to_owned(),
            host: host_name(),
            process: self.process,
            restarted,
            member_of: (self.computation != ComputationId::default()).then_some((self.computation, self.generation)),
            checkpoint_dir: self.checkpoint_dir.clone(),
            interval: config::config().map_or(0, |c| c.interval),
            keep: config::config().map_or(1, |c| c.keep),
        };
        let gone = "the coordinator closed the connection instead of admitting this process".to_owned();
        link.send(&FromClient::Join(join)).map_err(|_| NotJoined::Alone(gone.clone()))?;
        match link.receive(WELCOME_LIMIT) {
            Ok(FromCoordinator::Welcome { computation, peers, since, asks }) => {
                self.computation = computation;
                orphans::note_computation(computation);
                self.peers = peers;
                self.since = since;
                self.deferred.clear();
                self.link = Some(link);
                if asks {
                    interface::news::asked();
                }
                log::note(&format!("joined {computation} at {}:{} as {}[{pid}]", self.host, self.port, program()));
                interface::news::joined(self);
                Ok(())
            }
            Ok(FromCoordinator::Refused { reason }) => {
                Err(NotJoined::Refused(format!("the coordinator refused this process: {reason}")))
            }
            Ok(_) | Err(Silence::Gone) => Err(NotJoined::Alone(gone)),
            Err(Silence::TimeOut) => {
                let seconds = WELCOME_LIMIT / 1000;
                Err(NotJoined::Alone(format!("the coordinator did not admit this process within {seconds} s")))
            }
        }
    }

    /// Sends a message; a connection that fails is dropped, and the next wait finds it so.
    pub fn send(&mut self, message: &FromClient) {
        if self.link.as_mut().is_some_and(|l| l.send(message).is_err()) {
            self.link = None;
        }
    }

    /// Waits for the next message; `limit` in milliseconds, negative: for ever.
    pub fn receive(&mut self, limit: i32) -> Result<FromCoordinator, Silence> {
        let message = match (self.deferred.pop_front(), &mut self.link) {
            (Some(message), _) => Ok(message),
            (None, Some(link)) => link.receive(limit),
            (None, None) if alone::is_alone() => Err(Silence::TimeOut),
            (None, None) => Err(Silence::Gone),
        };
        match &message {
            Ok(FromCoordinator::Continued) => {
                self.continued = true;
                // The coordinator's is pending if the threads had parked before they were stopped by a signal: it is no word
                // of the application's that the process may run.
                threads::forget(libc::SIGCONT);
            }
            Ok(message) => interface::news::heard(message),
            Err(Silence::Gone) => self.link = None,
            Err(Silence::TimeOut) => {}
        }
        message
    }

    /// Runs the hooks of an event; they may have errands.
    pub fn event(&mut self, event: Event) -> Result<(), String> {
        errand::lend(self, || host::event(event))
    }

    /// As [`Worker::event`]; where nothing can be given up, the user is told.
    pub fn event_or_tell(&mut self, event: Event) {
        errand::lend(self, || host::event_or_tell(event));
    }

    /// Waits until all have come to a barrier. The error says why the generation is not to be.
    pub fn pass(&mut self, generation: u64, barrier: Barrier, limit: i32) -> Result<(), String> {
        self.pass_one_of(generation, &[barrier], limit).map(drop)
    }

    /// Waits until all have come to one of these barriers; a process without a coordinator is at the last one at once.
    pub fn pass_one_of(&mut self, generation: u64, barriers: &[Barrier], limit: i32) -> Result<Barrier, String> {
        let Some(last) = barriers.last().copied() else { return Err("no barrier is waited for".into()) };
        if alone::is_alone() {
            return Ok(last);
        }
        loop {
            match self.receive(limit) {
                Ok(FromCoordinator::Passed { generation: g, barrier: b, processes, neighbours, strays, ends })
                    if g == generation && barriers.contains(&b) =>
                {
                    self.peers = processes;
                    self.ends = ends;
                    if b == Barrier::Suspended {
                        host::description::set_neighbours(neighbours);
                        self.strays = strays;
                    }
                    return Ok(b);
                }
                Ok(FromCoordinator::Abort { reason, .. }) => return Err(reason),
                Ok(FromCoordinator::Kill) => exit(0),
                Ok(_) => {}
                Err(Silence::Gone) => return Err("the coordinator is gone".into()),
                Err(Silence::TimeOut) => {
                    return Err(format!(
                        "the other processes did not come to the barrier {last:?} within {} s",
                        limit / 1000
                    ));
                }
            }
        }
    }

    /// Whether the process was continued for our sake, and by nobody else while it only seemed to run. To be asked before its
    /// own pending signals are put back: a SIGCONT among those is older than what it stands still by.
    pub fn is_to_stand_still(&mut self) -> bool {
        std::mem::take(&mut self.continued) && !threads::has_come(libc::SIGCONT)
    }

    /// Stops the process if it was continued for our sake; returns when somebody continues it. Who has continued it already,
    /// while it only seemed to run, need not do so again.
    pub fn stand_still_again(&mut self) {
        if self.is_to_stand_still() {
            threads::stand_still();
        }
    }

    /// Sends a message on which others go on. If it is to stand still they find the process so, and this returns when
    /// somebody continues it.
    pub fn send_standing_still(&mut self, message: &FromClient, is_to_stand_still: bool) {
        if !is_to_stand_still {
            return self.send(message);
        }
        let mut sent = false;
        if let Some(link) = &mut self.link {
            let bytes = Link::encode(message);
            threads::stand_still_and(|| sent = link.send_encoded(&bytes).is_ok());
        }
        if !sent {
            self.link = None;
        }
    }

    /// Waits until the coordinator has decided on a generation.
    pub fn await_decision(&mut self, generation: u64) {
        loop {
            match self.receive(DECISION_LIMIT) {
                Ok(FromCoordinator::Kill | FromCoordinator::Committed { exit: true, .. }) => exit(0),
                Ok(FromCoordinator::Committed { generation: g, .. } | FromCoordinator::Abort { generation: g, .. })
                    if g == generation =>
                {
                    return;
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Serves the coordinator for ever.
    pub fn serve(&mut self) -> ! {
        let mut served = 0;
        while alone::is_alone() {
            let generation = alone::next_generation(self, &mut served);
            if checkpoint::checkpoint(self, generation) == Outcome::Restarted {
                restore::rejoin(self);
            }
        }
        loop {
            match self.receive(-1) {
                Ok(FromCoordinator::Checkpoint { generation }) => {
                    if checkpoint::checkpoint(self, generation) == Outcome::Restarted {
                        restore::rejoin(self);
                    }
                }
                Ok(FromCoordinator::Kill | FromCoordinator::Committed { exit: true, .. }) => {
                    log::note("ended by the coordinator");
                    exit(0)
                }
                Ok(FromCoordinator::Committed { generation, .. }) => {
                    log::note(&format!("generation {generation} is committed"));
                }
                Ok(FromCoordinator::Welcome { peers, .. }) => self.peers = peers,
                // What it was continued for is over.
                Ok(FromCoordinator::Continued) => self.stand_still_again(),
                Ok(_) => {}
                Err(_) => self.find_coordinator(),
            }
        }
    }

    /// The coordinator is gone: the application goes on; another one may come up at the same address.
    fn find_coordinator(&mut self) {
        log::note("the coordinator is gone; looking for another one at its address");
        loop {
            sys::nap(RETRY);
            match self.join(None) {
                Ok(()) => return birth::show_membership(),
                Err(reason) => log::trace("core", &reason.sentence()),
            }
        }
    }
}
