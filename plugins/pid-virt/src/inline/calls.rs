//! A trapped call: what the program asked for, with ids translated. Everything that has nothing to do with ids is passed on
//! as it is; so are calls of our own libraries.
//!
//! Most of it goes without libc, whose variables a thread may not have that a program has made itself. Where a wrapper is
//! called, errno is put back behind it.

use super::{births, code, masks};
use crate::call::{shape, syscall, translated};
use crate::children::{wait_by_id, wait_for};
use crate::translate::{answer, errno, fail};
use crate::used::kin::waiting;
use crate::{clocks, messages, objects, own, paths, signals, table, watching};
use dmtcp_plugin_api::sys::{self, gate};
use libc::{
    REG_R8, REG_R9, REG_R10, REG_R11, REG_RAX, REG_RCX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP, c_int, c_long,
    c_void, siginfo_t, ucontext_t,
};

type Answer = Result<usize, i32>;

/// The handler's work: the call in this frame is made, and the frame made to go on behind it.
pub fn trapped(frame: &mut ucontext_t) {
    let register = |index: c_int| frame.uc_mcontext.gregs[index as usize];
    let number = register(REG_RAX);
    let site = register(REG_RIP);
    let args = [REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9].map(|index| register(index) as usize);
    let is_ours = code::is_ours(site as u64);
    let answer = match number {
        libc::SYS_rt_sigreturn => leave(register(REG_RSP) as u64),
        libc::SYS_rt_sigprocmask => masks::procmask(frame, args),
        libc::SYS_sigaltstack => match masks::alternate_stack(frame, args) {
            Some(answer) => answer,
            None => return births::detour(frame, number, args),
        },
        births::TOLD if is_ours => return births::tell(frame),
        _ if births::shares_stack_or_memory(number, args) => return births::begin(frame, number, args, !is_ours),
        _ if is_ours => raw(number, args),
        _ => with_ids(number, args),
    };
    let registers = &mut frame.uc_mcontext.gregs;
    registers[REG_RAX as usize] = match answer {
        Ok(value) => value as i64,
        Err(error) => -i64::from(error),
    };
    registers[REG_RCX as usize] = site;
    registers[REG_R11 as usize] = registers[libc::REG_EFL as usize];
}

fn raw(number: c_long, args: [usize; 6]) -> Answer {
    // SAFETY: the arguments are what the program passes to the system call.
    unsafe { sys::call(number as i32, args) }
}

/// A signal handler of the program's returns by a call of its own.
fn leave(sp: u64) -> ! {
    // SAFETY: the kernel's frame is where the program's stack pointer is; the gate is set while calls are trapped.
    unsafe {
        std::arch::asm!(
            "mov rsp, {sp}",
            "mov eax, 15",
            "jmp rcx",
            sp = in(reg) sp,
            in("rcx") gate::get(),
            options(noreturn),
        )
    }
}

/// A call through a function that tells of errors by errno.
fn through(call: impl FnOnce() -> isize) -> Answer {
    let before = errno();
    let result = call();
    let answer = if result == -1 { Err(errno()) } else { Ok(result as usize) };
    fail(before);
    answer
}

/// What the program calls, by the code of the wrappers.
fn with_ids(number: c_long, args: [usize; 6]) -> Answer {
    let [a, b, c, d, e, f] = args;
    let make = || raw(number, args);
    let made = || answer(make());
    let pointer = |word: usize| word as *mut c_void;
    if let Some(place) = masks::place_of_mask(number) {
        return masks::with_mask(number, args, place);
    }
    match number {
        libc::SYS_pselect6 => return masks::select(args),
        libc::SYS_rt_sigaction => return masks::action(args),
        libc::SYS_fork | libc::SYS_clone | libc::SYS_clone3 => {
            let answer = through(|| syscall::wrapper(number, a, b, c, d, e, f) as isize);
            if answer == Ok(0) {
                super::enter();
            }
            return answer;
        }
        libc::SYS_execve | libc::SYS_execveat => {
            return through(|| syscall::wrapper(number, a, b, c, d, e, f) as isize);
        }
        _ => {}
    }
    let Some(table) = table::current() else { return make() };
    match number {
        libc::SYS_wait4 => through(|| {
            let call = |pid: i32, status: *mut c_int| {
                let wait = || answer(raw(number, [pid as usize, status as usize, c, d, 0, 0])) as i32;
                waiting(status, d as *mut libc::rusage, wait)
            };
            wait_for(a as i32, b as *mut c_int, call) as isize
        }),
        libc::SYS_waitid => through(|| {
            let call = |kind, id, info: *mut siginfo_t, options: i32| {
                answer(raw(number, [kind as usize, id as usize, info as usize, options as usize, e, f])) as i32
            };
            wait_by_id(a as u32, b as u32, c as *mut siginfo_t, d as i32, call) as isize
        }),
        libc::SYS_exit => {
            // Nobody else knows of the end of a thread that the program has made itself.
            if sys::tid() != sys::pid() {
                table.forget(table.ensure(sys::tid()));
            }
            make()
        }
        libc::SYS_ptrace | libc::SYS_getdents | libc::SYS_getdents64 | libc::SYS_capget | libc::SYS_capset => {
            through(|| syscall::wrapper(number, a, b, c, d, e, f) as isize)
        }
        libc::SYS_fcntl => {
            through(|| own::owners(b as c_int, c, |c| answer(raw(number, [a, b, c, d, e, f])) as c_int) as isize)
        }
        libc::SYS_ioctl => through(|| own::ioctl::wrapper(a as c_int, b as u64, pointer(c)) as isize),
        libc::SYS_prctl => {
            through(|| watching::prctl::wrapper(a as c_int, b as u64, c as u64, d as u64, e as u64) as isize)
        }
        libc::SYS_getsockopt => through(|| {
            own::getsockopt::wrapper(a as c_int, b as c_int, c as c_int, pointer(d), e as *mut libc::socklen_t) as isize
        }),
        libc::SYS_sendmsg => through(|| messages::sendmsg::wrapper(a as c_int, b as *const libc::msghdr, c as c_int)),
        libc::SYS_recvmsg => through(|| messages::recvmsg::wrapper(a as c_int, b as *mut libc::msghdr, c as c_int)),
        libc::SYS_shmctl => {
            through(|| objects::shmctl::wrapper(a as c_int, b as c_int, c as *mut libc::shmid_ds) as isize)
        }
        libc::SYS_msgctl => {
            through(|| objects::msgctl::wrapper(a as c_int, b as c_int, c as *mut libc::msqid_ds) as isize)
        }
        libc::SYS_semctl => {
            through(|| objects::semctl::wrapper(a as c_int, b as c_int, c as c_int, pointer(d)) as isize)
        }
        libc::SYS_clock_gettime if !clocks::is_of_a_wall(a as c_int) => through(|| {
            let read = |clock, time| answer(raw(number, [clock as usize, time as usize, c, d, e, f])) as c_int;
            clocks::processor_time(a as c_int, b as *mut libc::timespec, read) as isize
        }),
        libc::SYS_getrusage | libc::SYS_times => through(|| syscall::wrapper(number, a, b, c, d, e, f) as isize),
        libc::SYS_clock_getres | libc::SYS_clock_nanosleep if (a as c_int) < 0 => through(|| {
            clocks::with(a as c_int, |clock| answer(raw(number, [clock as usize, b, c, d, e, f])) as c_int) as isize
        }),
        libc::SYS_timer_create => through(|| {
            let create = |clock: c_int, event: *const libc::sigevent| {
                answer(raw(number, [clock as usize, event as usize, c, d, e, f])) as c_int
            };
            clocks::create(table, a as c_int, b as *const libc::sigevent, create) as isize
        }),
        libc::SYS_rt_sigtimedwait => through(|| signals::taken(made() as c_int, b as *mut siginfo_t) as isize),
        libc::SYS_read => {
            let length = make()?;
            signals::show_in_records(table, a as c_int, pointer(b), length);
            Ok(length)
        }
        libc::SYS_open if names_proc(a) => {
            through(|| paths::open::wrapper(a as *const libc::c_char, b as c_int, c as libc::mode_t) as isize)
        }
        libc::SYS_openat if names_proc(b) => through(|| {
            paths::openat::wrapper(a as c_int, b as *const libc::c_char, c as c_int, d as libc::mode_t) as isize
        }),
        libc::SYS_readlink if names_proc(a) => {
            through(|| paths::readlink::wrapper(a as *const libc::c_char, b as *mut libc::c_char, c))
        }
        libc::SYS_readlinkat if names_proc(b) => {
            through(|| paths::readlinkat::wrapper(a as c_int, b as *const libc::c_char, c as *mut libc::c_char, d))
        }
        _ => {
            let shape = shape(number);
            translated(table, number, args, &shape)
        }
    }
}

/// Whether a path leads into /proc.
fn names_proc(path: usize) -> bool {
    let mut start = [0; 6];
    sys::copy_from(path as u64, &mut start) == Ok(start.len()) && start == *b"/proc/"
}
