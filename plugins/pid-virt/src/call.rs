//! The calls that take or give ids, by their numbers: for syscall(3), and for those that are made past libc ([`crate::inline`]).

use crate::children::{child, wait_by_id, wait4};
use crate::clocks::processor_time;
use crate::listing::{Layout, raw_listing};
use crate::table;
use crate::translate::{answer, made, own, shown, target, task, within_one_life};
use crate::used::wrappers::{getrusage, times};
use crate::watching::{capget, capset, ptrace};
use dmtcp_plugin_api::ids::Table;
use dmtcp_plugin_api::sys;
use libc::{c_long, siginfo_t};

/// What a call has to do with ids.
pub enum Shape {
    /// Nothing.
    None,
    /// It gives the id of the caller.
    Own,
    /// It makes a child and gives its id.
    Birth,
    /// It gives an id.
    Shows,
    /// setsid.
    BeginsSession,
    /// It takes the id of a task as its first argument.
    Takes,
    /// It takes one and gives one.
    Both,
    /// It takes ids as its first two arguments.
    TakesTwo,
    /// It takes an id as its second argument; the first says what it names, and is this for users.
    TakesSecond(usize),
    /// It takes the id of a process or group.
    Target,
    /// wait4.
    Wait,
    /// waitid.
    WaitId,
}

/// What this call has to do with ids, but for births and waits.
pub fn shape(number: c_long) -> Shape {
    const USERS: usize = 2;
    const IO_USERS: usize = 3;
    const NOBODYS: usize = usize::MAX;
    match number {
        libc::SYS_getpid | libc::SYS_gettid | libc::SYS_set_tid_address => Shape::Own,
        libc::SYS_getppid | libc::SYS_getpgrp => Shape::Shows,
        libc::SYS_setsid => Shape::BeginsSession,
        libc::SYS_getpgid | libc::SYS_getsid => Shape::Both,
        libc::SYS_kill => Shape::Target,
        libc::SYS_setpgid | libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo | libc::SYS_kcmp => Shape::TakesTwo,
        libc::SYS_tkill
        | libc::SYS_rt_sigqueueinfo
        | libc::SYS_sched_setparam
        | libc::SYS_sched_getparam
        | libc::SYS_sched_setscheduler
        | libc::SYS_sched_getscheduler
        | libc::SYS_sched_rr_get_interval
        | libc::SYS_sched_setaffinity
        | libc::SYS_sched_getaffinity
        | libc::SYS_sched_setattr
        | libc::SYS_sched_getattr
        | libc::SYS_prlimit64
        | libc::SYS_pidfd_open
        | libc::SYS_process_vm_readv
        | libc::SYS_process_vm_writev
        | libc::SYS_migrate_pages
        | libc::SYS_move_pages
        | libc::SYS_get_robust_list => Shape::Takes,
        libc::SYS_getpriority | libc::SYS_setpriority => Shape::TakesSecond(USERS),
        libc::SYS_ioprio_get | libc::SYS_ioprio_set => Shape::TakesSecond(IO_USERS),
        libc::SYS_perf_event_open => Shape::TakesSecond(NOBODYS),
        _ => Shape::None,
    }
}

/// A call with its ids translated; raw, since it is one that libc would have made so.
pub fn translated(table: Table, number: c_long, mut args: [usize; 6], shape: &Shape) -> Result<usize, i32> {
    // A restart in the middle may have ended the translation.
    let id = |word: usize| match table::current() {
        Some(table) => task(table, word as i32).ok_or(libc::ESRCH),
        None => Ok(word as i32),
    };
    // SAFETY: the arguments are what the program passes to the system call.
    let make = |args: [usize; 6]| unsafe { sys::call(number as i32, args) };
    let show = |real: usize| table::current().map_or(real, |table| shown(table, real as i32) as usize);
    match shape {
        Shape::None | Shape::Birth | Shape::Wait | Shape::WaitId => {}
        Shape::Own => return Ok(own(|| make(args).unwrap_or(0) as i32) as usize),
        Shape::Shows => return within_one_life(|| make(args).map(show)),
        // It cannot be done twice. A session has the id of the process that leads it.
        Shape::BeginsSession => return make(args).map(|_| own(sys::pid) as usize),
        Shape::Takes => args[0] = id(args[0])? as usize,
        Shape::Both => {
            return within_one_life(|| {
                let real = id(args[0])? as usize;
                make([real, 0, 0, 0, 0, 0]).map(show)
            });
        }
        Shape::TakesTwo => (args[0], args[1]) = (id(args[0])? as usize, id(args[1])? as usize),
        Shape::TakesSecond(users) if args[0] == *users => {}
        Shape::TakesSecond(_) => args[1] = id(args[1])? as usize,
        Shape::Target => args[0] = target(table, args[0] as i32).ok_or(libc::ESRCH)? as usize,
    }
    make(args)
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// The calls that take or give ids. It takes up to six arguments; what is not passed is not looked at.
    fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
        let shape = match (table::current(), number) {
            // Translation may begin while these wait.
            (_, libc::SYS_wait4) => Shape::Wait,
            (_, libc::SYS_waitid) => Shape::WaitId,
            (_, libc::SYS_fork | libc::SYS_clone | libc::SYS_clone3) => Shape::Birth,
            // What is wrapped as a function of libc, too.
            (Some(_), libc::SYS_ptrace) => {
                return ptrace::wrapper(a as u32, b as i32, c as *mut libc::c_void, d as *mut libc::c_void);
            }
            (Some(_), libc::SYS_getdents | libc::SYS_getdents64) => {
                let call = || next(number, a, b, c, d, e, f) as isize;
                let layout = if number == libc::SYS_getdents { Layout::OLD } else { Layout::NEW };
                return raw_listing(layout, a as i32, b as *mut libc::c_void, c, call) as c_long;
            }
            (Some(_), libc::SYS_capget) => return c_long::from(capget::wrapper(a as *mut [i32; 2], b as *mut libc::c_void)),
            (Some(_), libc::SYS_capset) => return c_long::from(capset::wrapper(a as *mut [i32; 2], b as *const libc::c_void)),
            (_, libc::SYS_clock_gettime) => {
                let read = |clock, time: *mut libc::timespec| next(number, clock as usize, time as usize, c, d, e, f) as i32;
                return c_long::from(processor_time(a as i32, b as *mut libc::timespec, read));
            }
            (_, libc::SYS_getrusage) => return c_long::from(getrusage::wrapper(a as i32, b as *mut libc::rusage)),
            (_, libc::SYS_times) => return times::wrapper(a as *mut libc::tms),
            (None, _) => Shape::None,
            (Some(_), number) => shape(number),
        };
        match shape {
            Shape::None => next(number, a, b, c, d, e, f),
            // A child that goes on with its parent's memory has no stack of its own to return on through here.
            Shape::Birth if is_shared(number, a) => next(number, a, b, c, d, e, f),
            Shape::Birth => {
                let id = child(|| next(number, a, b, c, d, e, f) as i32);
                if let Some(table) = table::current() {
                    note_ids(table, Places::of(number, [a, b, c, d]), id);
                }
                c_long::from(id)
            }
            Shape::Wait => c_long::from(wait4::wrapper(a as i32, b as *mut i32, c as i32, d as *mut libc::rusage)),
            Shape::WaitId => {
                let call = |kind, id, info: *mut siginfo_t, options: i32| {
                    next(number, kind as usize, id as usize, info as usize, options as usize, e, f) as i32
                };
                c_long::from(wait_by_id(a as u32, b as u32, c as *mut siginfo_t, d as i32, call))
            }
            shape => match table::current() {
                Some(table) => answer(translated(table, number, [a, b, c, d, e, f], &shape)) as c_long,
                None => next(number, a, b, c, d, e, f),
            },
        }
    }
}

/// Where the kernel has written the real id of a child.
pub struct Places {
    /// Its flags.
    pub flags: u64,
    /// In the parent; 0: nowhere.
    pub parents: u64,
    /// In the child; 0: nowhere.
    pub childs: u64,
}

impl Places {
    /// Of a clone with these arguments.
    pub fn of(number: c_long, [a, b, c, d]: [usize; 4]) -> Self {
        match number {
            libc::SYS_clone => Self { flags: a as u64, parents: c as u64, childs: d as u64 },
            libc::SYS_clone3 if b >= 4 * size_of::<u64>() => {
                // SAFETY: flags, pidfd, the child's place, the parent's: the call has read more than these.
                let [flags, _, childs, parents] = unsafe { (a as *const [u64; 4]).read_unaligned() };
                Self { flags, parents, childs }
            }
            _ => Self { flags: 0, parents: 0, childs: 0 },
        }
    }
}

/// Writes the virtual id of a child where the program wants it; `id` is what the call gives, 0 in the child itself.
fn note_ids(table: Table, places: Places, id: i32) {
    let (wanted, place, id) = match id {
        ..0 => return,
        0 => (libc::CLONE_CHILD_SETTID, places.childs, made(table, sys::pid())),
        _ => (libc::CLONE_PARENT_SETTID, places.parents, id),
    };
    if places.flags & wanted as u64 != 0 && place != 0 {
        // SAFETY: the kernel has just written an id there.
        unsafe { (place as *mut i32).write_unaligned(id) };
    }
}

/// Whether a clone's child goes on in the caller's memory: it must return where libc lets it.
fn is_shared(number: c_long, first: usize) -> bool {
    match number {
        libc::SYS_clone => first & libc::CLONE_VM as usize != 0,
        // SAFETY: its first argument is a structure that begins with the flags.
        libc::SYS_clone3 => unsafe { (first as *const u64).as_ref() }.is_some_and(|f| f & libc::CLONE_VM as u64 != 0),
        _ => false,
    }
}
