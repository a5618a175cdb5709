//! Device nodes, terminals, and standard streams that lead out of the computation.
//!
//! A device is opened again by its path; what its driver keeps per descriptor is lost, so drivers that keep something
//! that a program cannot do without are refused by name instead.

use crate::claim::State;
use crate::regular;
use crate::state::What;
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::descriptors::Descriptor;
use dmtcp_plugin_api::{proc_files, sys};

const TCGETS: usize = 0x5401;
/// Bytes of the kernel's `struct termios`, with room to spare.
type Termios = [u8; 64];
/// Standard streams.
const STREAMS: i32 = 3;

/// What a device needs.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Need {
    /// Nothing but to be opened again.
    Opening,
    /// Opening again gives something new, which may do.
    Luck,
    /// State of the driver that cannot be had back.
    State,
}

/// Major numbers of character devices whose descriptors are what the program works with: sound, graphics, infiniband.
const STATEFUL: [u32; 6] = [116, 195, 226, 231, 234, 235];
/// The same among the minors of major 10 (misc): userfaultfd, tun, fuse, kvm, vhost-net, vhost-vsock.
const STATEFUL_MISC: [u32; 6] = [126, 200, 229, 232, 238, 241];

fn need(block: bool, major: u32, minor: u32) -> Need {
    match (major, minor) {
        _ if block => Need::Opening,
        (1, _) | (5, 0) => Need::Opening,
        // /dev/ptmx: each open is another terminal.
        (5, 2) => Need::State,
        (10, minor) if STATEFUL_MISC.contains(&minor) => Need::State,
        (major, _) if STATEFUL.contains(&major) => Need::State,
        _ => Need::Luck,
    }
}

/// A device node.
pub fn device(core: Core, d: &Descriptor) -> Option<What> {
    let (major, minor) = (libc::major(d.special), libc::minor(d.special));
    let block = d.mode & libc::S_IFMT == libc::S_IFBLK;
    if need(block, major, minor) == Need::State {
        return None;
    }
    if !block && sys::ioctl::<Termios>(d.copy, TCGETS, &mut [0; 64]).is_ok() {
        return terminal(core, d);
    }
    let what = regular::named(d)?;
    if need(block, major, minor) == Need::Luck {
        core.log(
            Level::Warning,
            &format!(
                "fd {} -> {}: a restart opens this device again; what its driver knows of the old descriptor is lost",
                d.number,
                String::from_utf8_lossy(d.link())
            ),
        );
    }
    Some(what)
}

/// A terminal that the process was started on. Others, whose master may be in the computation, are not files.
fn terminal(core: Core, d: &Descriptor) -> Option<What> {
    let own = (libc::major(d.special), libc::minor(d.special)) == (5, 0)
        || d.number < STREAMS
        || controlling_terminal(core) == Some(d.special);
    own.then(|| What::Terminal(d.link().into()))
}

fn controlling_terminal(core: Core) -> Option<u64> {
    let stat = proc_files::read_file(&proc_files::task_path(core.application_task(), "stat")).ok()?;
    terminal_in(&stat)
}

/// Field 7 of /proc/PID/stat.
fn terminal_in(stat: &[u8]) -> Option<u64> {
    let number: u64 = proc_files::stat_fields(stat).nth(4)?.parse().ok()?;
    (number != 0).then_some(number)
}

/// A pipe or socket that nobody in the computation holds the other end of: as a standard stream it is dmtcp_restart's.
pub fn inherited(state: &mut State, d: &Descriptor) -> Option<What> {
    let identity = (d.device, d.inode);
    if let Some((_, number)) = state.inherited.iter().find(|(stream, _)| *stream == identity) {
        return Some(What::Inherited(*number));
    }
    if d.number >= STREAMS {
        return None;
    }
    state.inherited.push((identity, d.number));
    Some(What::Inherited(d.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_is_found_behind_any_name() {
        assert_eq!(terminal_in(b"5 (a) b) S 1 5 5 34816 5 0"), Some(34816));
        assert_eq!(terminal_in(b"5 (sh) S 1 5 5 0 -1 0"), None);
        assert_eq!(terminal_in(b""), None);
    }

    #[test]
    fn devices_with_a_life_of_their_own_are_refused() {
        assert_eq!(need(false, 1, 3), Need::Opening);
        assert_eq!(need(true, 8, 0), Need::Opening);
        assert_eq!(need(false, 10, 232), Need::State);
        assert_eq!(need(false, 5, 2), Need::State);
        assert_eq!(need(false, 10, 183), Need::Luck);
    }
}
