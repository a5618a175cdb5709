//! Pipes and FIFOs that only this computation holds: both ends here or in a neighbour, or the other end gone for good.
//!
//! Bytes in flight are looked at, never consumed: tee(2) copies the whole pipe into a spare one of the same capacity, the
//! spare is read. Packet borders survive that. Every process that holds an end describes it, those with a reading end the bytes too;
//! the restart half puts together what belongs to one pipe. A pipe whose other end a stranger holds is not ours to save:
//! the plugin for files gets it as inherited stdio, or nobody. A FIFO is found again by its name, whoever is at its other end,
//! but for standard streams.

use crate::broker::Description;
use crate::neighbours;
use crate::state::{End, Fifo, Pipe, Pipes};
use dmtcp_plugin_api::core::{Core, core};
use dmtcp_plugin_api::descriptors::{Claimer, Descriptor};
use dmtcp_plugin_api::kept;
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::sys::{self, Fd};

/// Asked before everybody else: it alone knows whether a pipe's other end is here.
pub static CLAIMER: Claimer = Claimer { name: c"ipc".as_ptr(), priority: -100, begin, claim, describe };

const F_SETPIPE_SZ: i32 = 1031;
const F_GETPIPE_SZ: i32 = 1032;
const FIONREAD: usize = 0x541b;

/// An end of a pipe in this process, as known before claims are made.
#[derive(Debug, Clone, Copy)]
struct Held {
    identity: (u64, u64),
    number: i32,
    flags: i32,
}

impl Held {
    fn end(&self) -> End {
        End { object: 0, flags: self.flags }
    }
}

#[derive(Debug, Default)]
struct State {
    held: Vec<Held>,
    /// Texts of the links of the pipes.
    links: Vec<Vec<u8>>,
    /// Ends that are held on this host; looked up when the first pipe needs it.
    elsewhere: Option<neighbours::Ends>,
    section: Pipes,
}

static STATE: Round<State> =
    Round::new(State { held: Vec::new(), links: Vec::new(), elsewhere: None, section: Pipes { pipes: Vec::new() } });

/// Notes which ends there are.
pub fn begin_round(descriptions: &[Description]) {
    let pipes = || descriptions.iter().filter(|d| is_pipe(d.stat.st_mode, d.flags));
    let links = pipes().map(|d| d.group.entry.link.clone()).collect();
    let held = pipes().map(|d| Held { identity: d.identity(), number: d.group.entry.number, flags: d.flags }).collect();
    STATE.with(|state| *state = State { held, links, ..State::default() });
}

/// Whether it is an end of a pipe, not just a name for one.
fn is_pipe(mode: u32, flags: i32) -> bool {
    mode & libc::S_IFMT == libc::S_IFIFO && flags & libc::O_PATH == 0
}

extern "C" fn begin() {}

extern "C" fn describe() {
    if let Some(core) = core() {
        core.json(Pipes::SECTION, &STATE.take().section);
    }
}

extern "C" fn claim(d: &Descriptor) -> bool {
    let Some(core) = core() else { return false };
    if !is_pipe(d.mode, d.flags) {
        return false;
    }
    STATE
        .with(|state| {
            let identity = (d.device, d.inode);
            let held: Vec<Held> = state.held.iter().filter(|h| h.identity == identity).copied().collect();
            let poll = |number: i32, events| {
                core.copy_descriptor(number).ok().and_then(|c| sys::ready(c.number(), events).ok()).unwrap_or(0)
            };
            if !is_private(&held, poll) {
                let elsewhere = state.elsewhere.get_or_insert_with(|| neighbours::pipe_ends(core, &state.links));
                let is_named = || d.number > 2 && fifo(d).is_some_and(|fifo| !fifo.unlinked);
                if !is_met(&held, d.link(), elsewhere) && !is_named() {
                    return false;
                }
            }
            let end = End { object: d.object, flags: d.flags };
            if let Some(pipe) = state.section.pipes.iter_mut().find(|p| p.identity == identity) {
                pipe.ends.push(end);
                return true;
            }
            let elsewhere = state.elsewhere.as_deref().unwrap_or_default();
            match look(core, d, &held, has_packets(&held, d.link(), elsewhere)) {
            Ok(mut pipe) => {
                pipe.ends.push(end);
                state.section.pipes.push(pipe);
            }
            Err(error) => core.fail(&format!(
                "fd {} -> {}: the bytes in this pipe cannot be looked at: error {error}; a user may only have so much \
                 in pipes (/proc/sys/fs/pipe-user-pages-soft)",
                d.number,
                String::from_utf8_lossy(d.link())
            )),
        }
            true
        })
        .unwrap_or(false)
}

/// Whether nobody outside can be at the other end. `poll` tells the state of one of our ends.
///
/// A standard output that nobody reads any more is left to be inherited: the restarted job has a reader again.
fn is_private(held: &[Held], poll: impl Fn(i32, i16) -> i16) -> bool {
    let reader = held.iter().find(|h| h.end().reads());
    let writer = held.iter().find(|h| h.end().writes());
    match (reader, writer) {
        (Some(_), Some(_)) => true,
        (Some(reader), None) => poll(reader.number, libc::POLLIN) & libc::POLLHUP != 0,
        (None, Some(writer)) => poll(writer.number, libc::POLLOUT) & libc::POLLERR != 0 && writer.number > 2,
        (None, None) => false,
    }
}

/// Whether a neighbour holds the end that this process does not.
fn is_met(held: &[Held], link: &[u8], elsewhere: &[(Vec<u8>, i32)]) -> bool {
    let reads = held.iter().any(|h| h.end().reads());
    elsewhere.iter().filter(|(other, _)| other == link).any(|(_, flags)| {
        let end = End { object: 0, flags: *flags };
        if reads { end.writes() } else { end.reads() }
    })
}

/// Whether somebody writes packets into a pipe: this process, or a neighbour.
fn has_packets(held: &[Held], link: &[u8], elsewhere: &[(Vec<u8>, i32)]) -> bool {
    let neighbours = elsewhere.iter().filter(|(other, _)| other == link).map(|(_, flags)| *flags);
    let mut flags = held.iter().map(|h| h.flags).chain(neighbours);
    flags.any(|flags| End { object: 0, flags }.writes() && flags & libc::O_DIRECT != 0)
}

/// Looks at a pipe: capacity, bytes in flight, where one packet of them ends if they are packets.
fn look(core: Core, d: &Descriptor, held: &[Held], has_packets: bool) -> Result<Pipe, i32> {
    let mut pipe = Pipe { identity: (d.device, d.inode), ..Pipe::default() };
    pipe.capacity = sys::fcntl(d.copy, F_GETPIPE_SZ, 0)? as u64;
    pipe.fifo = fifo(d);
    let Some(reader) = held.iter().find(|h| h.end().reads()) else { return Ok(pipe) };
    let reader = core.copy_descriptor(reader.number)?;
    if let Some(fifo) = &mut pipe.fifo {
        fifo.awaits_writer = sys::ready(reader.number(), libc::POLLIN)? & libc::POLLHUP == 0;
    }
    let mut amount = 0i32;
    sys::ioctl(reader.number(), FIONREAD, &mut amount)?;
    if amount <= 0 {
        return Ok(pipe);
    }
    let bytes = kept::anonymous(amount as usize)?;
    let packets = copy_out(&reader, pipe.capacity, bytes)?;
    if has_packets {
        pipe.packets = packets;
    }
    let name = format!("pipe-{}", d.object);
    core.blob(&name, bytes.as_ptr() as u64, bytes.len() as u64);
    pipe.blob = Some(name);
    Ok(pipe)
}

/// Copies everything in a pipe without consuming it; the lengths of the pieces that it came in.
fn copy_out(reader: &Fd, capacity: u64, bytes: &mut [u8]) -> Result<Vec<u64>, i32> {
    let (out, spare) = sys::pipe(libc::O_NONBLOCK | libc::O_CLOEXEC)?;
    // A user who has many pipes gets no large ones any more; what is in this one may fit all the same.
    let resized = sys::fcntl(spare.number(), F_SETPIPE_SZ, capacity as usize);
    // tee always starts at the head: it must be all in one.
    if sys::tee(reader.number(), spare.number(), i32::MAX as usize)? != bytes.len() {
        return Err(resized.err().unwrap_or(libc::EPERM));
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(room) = bytes.get_mut(at..).filter(|r| !r.is_empty()) {
        match sys::read(out.number(), room)? {
            0 => return Err(libc::EIO),
            count => {
                pieces.push(count as u64);
                at += count;
            }
        }
    }
    Ok(pieces)
}

/// Path and mode, if the pipe has a name.
fn fifo(d: &Descriptor) -> Option<Fifo> {
    if !d.link().starts_with(b"/") {
        return None;
    }
    let named = sys::stat(d.link()).is_ok_and(|s| s.st_dev == d.device && s.st_ino == d.inode);
    let path = if named { d.link() } else { d.link().strip_suffix(b" (deleted)").unwrap_or(d.link()) };
    Some(Fifo { path: path.into(), mode: d.mode & 0o7777, unlinked: !named, awaits_writer: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmtcp_plugin_api::proc_files;

    fn held(number: i32, flags: i32) -> Held {
        Held { identity: (1, 1), number, flags }
    }

    #[test]
    fn a_pipe_is_private_if_nobody_else_can_be_at_the_other_end() {
        let quiet = |_, _| 0;
        assert!(is_private(&[held(3, libc::O_RDONLY), held(4, libc::O_WRONLY)], quiet));
        assert!(is_private(&[held(3, libc::O_RDWR)], quiet));
        assert!(!is_private(&[held(3, libc::O_RDONLY)], quiet));
        assert!(!is_private(&[held(4, libc::O_WRONLY)], quiet));
        assert!(!is_private(&[], quiet));
        assert!(is_private(&[held(0, libc::O_RDONLY)], |_, _| libc::POLLHUP | libc::POLLIN));
        assert!(is_private(&[held(4, libc::O_WRONLY)], |_, _| libc::POLLERR));
        assert!(!is_private(&[held(1, libc::O_WRONLY)], |_, _| libc::POLLERR));
    }

    #[test]
    fn a_neighbour_may_hold_the_other_end() {
        let elsewhere = [(b"pipe:[7]".to_vec(), libc::O_WRONLY), (b"pipe:[8]".to_vec(), libc::O_RDONLY)];
        assert!(is_met(&[held(0, libc::O_RDONLY)], b"pipe:[7]", &elsewhere));
        assert!(!is_met(&[held(1, libc::O_WRONLY)], b"pipe:[7]", &elsewhere));
        assert!(is_met(&[held(1, libc::O_WRONLY)], b"pipe:[8]", &elsewhere));
        assert!(!is_met(&[held(1, libc::O_WRONLY)], b"pipe:[9]", &elsewhere));
    }

    #[test]
    fn a_neighbour_may_write_packets() {
        let packets = libc::O_WRONLY | libc::O_DIRECT;
        let elsewhere = [(b"pipe:[7]".to_vec(), packets), (b"pipe:[8]".to_vec(), libc::O_WRONLY)];
        let reader = [held(0, libc::O_RDONLY)];
        assert!(has_packets(&reader, b"pipe:[7]", &elsewhere) && !has_packets(&reader, b"pipe:[8]", &elsewhere));
        assert!(has_packets(&[held(0, libc::O_RDONLY), held(1, packets)], b"pipe:[9]", &elsewhere));
    }

    #[test]
    fn looking_consumes_nothing_and_sees_packets() {
        let (reader, writer) = sys::pipe(libc::O_DIRECT | libc::O_CLOEXEC).unwrap();
        for packet in [&b"one"[..], b"three", &[7; 4096]] {
            sys::write(writer.number(), packet).unwrap();
        }
        let mut bytes = [0; 8 + 4096];
        for _ in 0..2 {
            assert_eq!(copy_out(&reader, 65536, &mut bytes).unwrap(), [3, 5, 4096]);
            assert_eq!(&bytes[..8], b"onethree");
        }
        let mut amount = 0i32;
        sys::ioctl(reader.number(), FIONREAD, &mut amount).unwrap();
        assert_eq!(amount, 8 + 4096);
        let path = proc_files::descriptor_path(reader.number());
        let second = sys::open(path.as_bytes(), libc::O_RDONLY | libc::O_CLOEXEC, 0).unwrap();
        assert_eq!(sys::read(second.number(), &mut bytes).unwrap(), 3);
    }

    #[test]
    fn a_full_pipe_of_any_capacity_is_copied_whole() {
        let (reader, writer) = sys::pipe(libc::O_NONBLOCK | libc::O_CLOEXEC).unwrap();
        for capacity in [4096, 1 << 17] {
            sys::fcntl(writer.number(), F_SETPIPE_SZ, capacity).unwrap();
            while sys::write(writer.number(), b"x").is_ok() {}
            let mut bytes = vec![0; capacity];
            assert_eq!(copy_out(&reader, capacity as u64, &mut bytes).unwrap().iter().sum::<u64>(), capacity as u64);
            assert!(bytes.iter().all(|b| *b == b'x'));
        }
    }
}
