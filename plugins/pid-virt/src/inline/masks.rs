//! Calls past libc that change what a signal's frame holds: the mask of blocked signals, which is changed in the frame, out of
//! which the kernel sets it when the handler returns, and the alternate stack. And those that pass masks or actions: SIGSYS and the checkpoint's signal stay unblocked.

use super::{BIT, foreign};
use crate::signals::{self, KernelAction};
use dmtcp_plugin_api::sys;
use libc::{c_long, ucontext_t};

const SET: usize = 8;
const ONSTACK: i32 = 1;
const AUTODISARM: i32 = 1 << 31;

type Answer = Result<usize, i32>;

/// A value of the program's; the error is EFAULT.
fn read<const N: usize>(address: usize) -> Result<[u64; N], i32> {
    let mut bytes = [[0u8; 8]; N];
    let read = sys::copy_from(address as u64, bytes.as_flattened_mut());
    if read == Ok(N * 8) { Ok(bytes.map(u64::from_ne_bytes)) } else { Err(libc::EFAULT) }
}

fn write<const N: usize>(address: usize, words: [u64; N]) {
    if address != 0 {
        // SAFETY: the program passes a place for as many words.
        unsafe { (address as *mut [u64; N]).write_unaligned(words) };
    }
}

/// A mask without what must not be blocked.
fn allowed(mask: u64) -> u64 {
    mask & !(BIT | signals::checkpoint_bit())
}

/// rt_sigprocmask.
pub fn procmask(frame: &mut ucontext_t, [how, set, old, size, ..]: [usize; 6]) -> Answer {
    if size != SET {
        return Err(libc::EINVAL);
    }
    let word = (&raw mut frame.uc_sigmask).cast::<u64>();
    // SAFETY: the first word of the mask in a frame is the kernel's set.
    let before = unsafe { word.read() };
    if set != 0 {
        let [given] = read(set)?;
        let now = match how as i32 {
            libc::SIG_BLOCK => before | allowed(given),
            libc::SIG_UNBLOCK => before & !given,
            libc::SIG_SETMASK => allowed(given),
            _ => return Err(libc::EINVAL),
        };
        // SAFETY: as above.
        unsafe { word.write(now) };
    }
    write(old, [before]);
    Ok(0)
}

/// rt_sigaction.
pub fn action([number, action, old, size, ..]: [usize; 6]) -> Answer {
    if size != SET {
        return Err(libc::EINVAL);
    }
    let given: Option<KernelAction> = if action == 0 { None } else { Some(read(action)?) };
    let given = given.map(|[handler, flags, restorer, mask]| [handler, flags, restorer, allowed(mask)]);
    let number = number as i32;
    let before =
        if foreign::is_believed(number) { foreign::believe(given.as_ref()) } else { signals::change(number, given)? };
    write(old, before);
    Ok(0)
}

/// sigaltstack of a program that is on its alternate stack: it may look. `None`: it is not, and the call can be made, though
/// not here: the handler may be on that stack itself.
pub fn alternate_stack(frame: &ucontext_t, [new, old, ..]: [usize; 6]) -> Option<Answer> {
    let sp = frame.uc_mcontext.gregs[libc::REG_RSP as usize] as usize;
    let stack = &frame.uc_stack;
    let base = stack.ss_sp as usize;
    let is_on = stack.ss_flags & AUTODISARM == 0 && stack.ss_size != 0 && sp > base && sp - base <= stack.ss_size;
    if !is_on {
        return None;
    }
    if new != 0 {
        return Some(Err(libc::EPERM));
    }
    write(old, [base as u64, ONSTACK as u64, stack.ss_size as u64]);
    Some(Ok(0))
}

/// Where a call that waits with another mask has that mask.
pub fn place_of_mask(number: c_long) -> Option<usize> {
    match number {
        libc::SYS_rt_sigsuspend => Some(0),
        libc::SYS_ppoll => Some(3),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => Some(4),
        _ => None,
    }
}

/// Makes such a call.
pub fn with_mask(number: c_long, mut args: [usize; 6], place: usize) -> Answer {
    let mask = if args[place] == 0 { 0 } else { allowed(read::<1>(args[place])?[0]) };
    if args[place] != 0 {
        args[place] = (&raw const mask) as usize;
    }
    // SAFETY: the program's arguments; the mask lives over the call.
    unsafe { sys::call(number as i32, args) }
}

/// pselect6, which has it behind a pointer.
pub fn select(mut args: [usize; 6]) -> Answer {
    let mut pair = [0; 2];
    let mut mask = 0;
    if args[5] != 0 {
        pair = read::<2>(args[5])?;
        if pair[0] != 0 {
            mask = allowed(read::<1>(pair[0] as usize)?[0]);
            pair[0] = (&raw const mask) as u64;
        }
        args[5] = pair.as_ptr() as usize;
    }
    // SAFETY: as above; pair and mask live over the call.
    let answer = unsafe { sys::call(libc::SYS_pselect6 as i32, args) };
    std::hint::black_box((&pair, &mask));
    answer
}
