//! Credentials in messages of unix sockets (SCM_CREDENTIALS): the id of who sends.
//!
//! The kernel puts the receiver's view of the sender into the message, and lets only the privileged name somebody else than
//! themselves. What is sent is a copy, since the program may look at its own message again.

use crate::table;
use crate::translate::{fail, real, shown};
use dmtcp_plugin_api::ids::Table;
use libc::{c_int, c_uint, cmsghdr, mmsghdr, msghdr, pid_t, timespec};

/// Control data begins at multiples of this, behind its head.
const UNIT: usize = size_of::<usize>();
const HEAD: usize = size_of::<cmsghdr>();

/// Where the ids are in control data: all messages of it are well-formed, or those behind the first that is not do not count.
fn places(control: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(head) = control.get(at..at + HEAD) {
            let word = |range: std::ops::Range<usize>| {
                head[range].iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte))
            };
            let (length, level, kind) = (word(0..8), word(8..12) as c_int, word(12..16) as c_int);
            if length < HEAD || length > control.len() - at {
                return None;
            }
            let id = at + HEAD;
            at += length.next_multiple_of(UNIT);
            let holds_id = level == libc::SOL_SOCKET && kind == libc::SCM_CREDENTIALS;
            if holds_id && length >= HEAD + size_of::<pid_t>() {
                return Some(id);
            }
        }
        None
    })
}

fn id_at(control: &[u8], at: usize) -> pid_t {
    control.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, pid_t::from_ne_bytes)
}

fn set_id(control: &mut [u8], at: usize, id: pid_t) {
    if let Some(bytes) = control.get_mut(at..at + 4) {
        bytes.copy_from_slice(&id.to_ne_bytes());
    }
}

/// The control data of a message.
///
/// # Safety
/// The message must be one that the kernel has taken or filled.
unsafe fn control_of<'a>(message: *const msghdr) -> &'a mut [u8] {
    // SAFETY: the promise of this function.
    unsafe {
        let (address, length) = ((*message).msg_control, (*message).msg_controllen);
        if address.is_null() { &mut [] } else { std::slice::from_raw_parts_mut(address.cast(), length) }
    }
}

/// Shows the senders in a message that was received.
fn show(table: Table, message: *const msghdr) {
    // SAFETY: the kernel has just filled it.
    let control = unsafe { control_of(message) };
    let found: Vec<usize> = places(control).collect();
    for at in found {
        let id = shown(table, id_at(control, at));
        set_id(control, at, id);
    }
}

/// Control data with real ids, if the message names any; the error is an errno.
fn renamed(table: Table, message: *const msghdr) -> Result<Option<Vec<u8>>, c_int> {
    // SAFETY: the program passes a message to be sent.
    let control = unsafe { control_of(message) };
    let found: Vec<usize> = places(control).collect();
    if found.is_empty() {
        return Ok(None);
    }
    let mut copy = control.to_vec();
    for at in found {
        set_id(&mut copy, at, real(table, id_at(control, at)).ok_or(libc::ESRCH)?);
    }
    Ok(Some(copy))
}

/// A message with other control data.
fn with_control(message: *const msghdr, control: &mut [u8]) -> msghdr {
    // SAFETY: the program passes a message to be sent, which is plain words.
    let mut copy = unsafe { message.read() };
    copy.msg_control = control.as_mut_ptr().cast();
    copy
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The real id of the sender.
    fn sendmsg(number: c_int, message: *const msghdr, flags: c_int) -> isize {
        let Some(table) = table::current().filter(|_| !message.is_null()) else { return next(number, message, flags) };
        match renamed(table, message) {
            Ok(None) => next(number, message, flags),
            Ok(Some(mut control)) => next(number, &with_control(message, &mut control), flags),
            Err(error) => fail(error) as isize,
        }
    }
    /// As sendmsg. Messages with credentials go one by one.
    fn sendmmsg(number: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        let Some(table) = table::current().filter(|_| !messages.is_null()) else {
            return next(number, messages, count, flags);
        };
        // SAFETY: the program passes so many messages.
        let all = unsafe { std::slice::from_raw_parts_mut(messages, count as usize) };
        let names = |message: &mmsghdr| !matches!(renamed(table, &raw const message.msg_hdr), Ok(None));
        if !all.iter().any(names) {
            return next(number, messages, count, flags);
        }
        for (sent, message) in all.iter_mut().enumerate() {
            let length = sendmsg::wrapper(number, &raw const message.msg_hdr, flags);
            if length < 0 {
                return if sent > 0 { sent as c_int } else { -1 };
            }
            message.msg_len = length as c_uint;
        }
        count as c_int
    }
    /// The virtual id of the sender.
    fn recvmsg(number: c_int, message: *mut msghdr, flags: c_int) -> isize {
        let length = next(number, message, flags);
        if length >= 0
            && let Some(table) = table::current()
        {
            show(table, message);
        }
        length
    }
    /// The virtual ids of the senders.
    fn recvmmsg(number: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, limit: *mut timespec) -> c_int {
        let received = next(number, messages, count, flags, limit);
        if received > 0
            && let Some(table) = table::current()
        {
            for index in 0..received as usize {
                // SAFETY: the kernel has filled so many.
                show(table, unsafe { &raw const (*messages.add(index)).msg_hdr });
            }
        }
        received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: c_int, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEAD + data.len()).to_ne_bytes().to_vec();
        bytes.extend(libc::SOL_SOCKET.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(UNIT), 0);
        bytes
    }

    #[test]
    fn credentials_are_found_among_other_messages() {
        let descriptors = message(libc::SCM_RIGHTS, &[1, 0, 0, 0]);
        let credentials = message(libc::SCM_CREDENTIALS, &[77, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
        let mut control = [descriptors.clone(), credentials.clone()].concat();
        let found: Vec<usize> = places(&control).collect();
        assert_eq!(found, [descriptors.len() + HEAD]);
        assert_eq!(id_at(&control, found[0]), 77);
        set_id(&mut control, found[0], 78);
        assert_eq!(id_at(&control, found[0]), 78);
        // Cut short, as by a receiver without room, or nonsense.
        assert_eq!(places(&control[..control.len() - 12]).count(), 0);
        assert_eq!(places(&[0xff; 64]).count() + places(&[0; 64]).count() + places(&[]).count(), 0);
    }
}
