//! `--refuse-io-uring`: io_uring_setup(2) fails with ENOSYS, as on a kernel without it, so that programs fall back to
//! something that a checkpoint can save.
//!
//! Libraries make the call past libc, so only the kernel can refuse it: by a seccomp filter, which children and executed
//! programs inherit, and which a restored process must be given again. Without privilege the kernel demands
//! no_new_privs, and with that setuid programs run without their rights.

use crate::{config, log};
use dmtcp_plugin_api::sys;

/// `EM_X86_64`, 64 bits, little-endian: what the kernel calls this architecture in `seccomp_data`.
const ARCHITECTURE: u32 = 0xc000_003e;

const fn statement(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k: value }
}

/// Goes on with the next instruction if equal, else skips `otherwise`.
const fn expect(value: u32, otherwise: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: otherwise, k: value }
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// `struct seccomp_data` begins with the number of the call and the architecture.
static FILTER: [libc::sock_filter; 6] = [
    statement(LOAD, 4),
    expect(ARCHITECTURE, 3),
    statement(LOAD, 0),
    expect(libc::SYS_io_uring_setup as u32, 1),
    statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    statement(RETURN, libc::SECCOMP_RET_ALLOW),
];

/// Makes the kernel refuse, for all threads, if the launch has asked for it.
pub fn begin() -> Result<(), String> {
    if !config::config().is_some_and(|c| c.refuse_io_uring) || is_refused() {
        return Ok(());
    }
    match install() {
        Err(libc::EACCES) => sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            .and_then(|_| install())
            .map_err(|e| format!("io_uring_setup cannot be refused (errno {e}): do without --refuse-io-uring")),
        Err(e) => Err(format!("io_uring_setup cannot be refused (errno {e}): do without --refuse-io-uring")),
        Ok(()) => {
            log::trace("core", "io_uring_setup is refused from now on");
            Ok(())
        }
    }
}

/// Whether it is already: by a filter that was inherited, or because this kernel has no io_uring.
fn is_refused() -> bool {
    // SAFETY: without a place for its parameters the call makes nothing.
    unsafe { sys::call(libc::SYS_io_uring_setup as i32, [1, 0, 0, 0, 0, 0]) == Err(libc::ENOSYS) }
}

fn install() -> Result<(), i32> {
    let program = libc::sock_fprog { len: FILTER.len() as u16, filter: FILTER.as_ptr().cast_mut() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER as usize, libc::SECCOMP_FILTER_FLAG_TSYNC as usize);
    // SAFETY: the program and its instructions outlive the call, which only reads them.
    match unsafe { sys::call(libc::SYS_seccomp as i32, [mode, flags, (&raw const program) as usize, 0, 0, 0]) }? {
        0 => Ok(()),
        // The id of a thread that has a filter of its own already, and cannot take this one.
        _ => Err(libc::EBUSY),
    }
}
