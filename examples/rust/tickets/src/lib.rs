//! A plugin in Rust that keeps numbers of a server's alive: a library gives the program tickets, which another server knows
//! nothing of. The program sees virtual ids; the first time that it uses one after a restart, a new ticket is taken for it.
//!
//! ```text
//!   ticket_take()   ->  the server's number 4711  ->  the program's number 1
//!   ticket_use(1)   ->  ticket_use(4711); after a restart: ticket_take() -> 815, ticket_use(815)
//! ```
//! Not in the RESTART hook: the library uses libc, which is off limits while threads are stopped.

use dmtcp_plugin_api::virtual_ids::VirtualIds;
use dmtcp_plugin_api::{hook, plugin, wrappers};
use libc::{c_int, c_long};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many tickets the program may have at a time.
const ROOM: usize = 256;
static TICKETS: VirtualIds<ROOM> = VirtualIds::new();
/// Tickets of before the last restart have another number of restarts in their upper half.
static RESTARTS: AtomicU64 = AtomicU64::new(0);

plugin! {
    name: "tickets",
    priority: 0,
    requires: [],
    wrappers: [WRAPPERS],
    init: |_| true,
}

hook!(Restart, |_| {
    RESTARTS.fetch_add(1, Ordering::AcqRel);
});

/// A server's number as the table has it: with the restarts that there had been when it was asked for.
fn stamped(restarts: u64, number: c_long) -> u64 {
    restarts << 32 | u64::from(number as u32)
}

/// The server's number of the program's ticket; a new one if the old one's server is gone. `None`: there is no such ticket.
fn real(ticket: c_long) -> Option<c_long> {
    let id = u64::try_from(ticket).ok()?;
    let known = TICKETS.real(id)?;
    let restarts = RESTARTS.load(Ordering::Acquire);
    if known >> 32 == restarts {
        return Some(known as u32 as c_long);
    }
    let taken = ticket_take::next();
    if taken >= 0 && !TICKETS.renew(id, known, stamped(restarts, taken)) {
        // Another thread was faster.
        ticket_give::next(taken);
        return TICKETS.real(id).map(|known| known as u32 as c_long);
    }
    (taken >= 0).then_some(taken)
}

wrappers! { static WRAPPERS;
    /// The program gets a number that stays.
    fn ticket_take() -> c_long {
        let restarts = RESTARTS.load(Ordering::Acquire);
        let number = next();
        if number < 0 {
            return number;
        }
        match TICKETS.add(stamped(restarts, number)) {
            Some(id) => id as c_long,
            None => {
                ticket_give::next(number);
                -1
            }
        }
    }
    /// By the server's number of now.
    fn ticket_use(ticket: c_long) -> c_int {
        real(ticket).map_or(-1, next)
    }
    /// The number is nobody's any more.
    fn ticket_give(ticket: c_long) -> c_int {
        let Some(number) = real(ticket) else { return -1 };
        TICKETS.remove(ticket as u64);
        next(number)
    }
}
