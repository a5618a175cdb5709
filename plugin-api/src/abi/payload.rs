//! What events come with. The layouts are those of `DmtcpEventData_t` in `dmtcp.h`, but for that of INIT.

use std::ffi::{c_char, c_int};

/// Payload of INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct InitPayload {
    /// Lowest address of the checkpoint thread's stack.
    pub stack_low: usize,
    /// Address after its highest.
    pub stack_high: usize,
}

/// Payload of PRE_EXEC. Hooks may change the entries of both lists and add some; the name has PATH_MAX bytes.
#[repr(C)]
#[derive(Debug)]
pub struct PreExec {
    /// A file to write to; POST_EXEC gives it back in the new program. -1: there is none.
    pub serialization_fd: c_int,
    /// The program.
    pub filename: *mut c_char,
    /// How many arguments there may be.
    pub max_args: usize,
    /// The arguments, a null pointer behind them.
    pub argv: *mut *const c_char,
    /// How many variables there may be.
    pub max_env: usize,
    /// The environment, a null pointer behind it.
    pub envp: *mut *const c_char,
}

/// Payload of POST_EXEC.
#[repr(C)]
#[derive(Debug)]
pub struct PostExec {
    /// What was written at PRE_EXEC, from its beginning. It is closed afterwards.
    pub serialization_fd: c_int,
}

/// Payload of OPEN_FD.
#[repr(C)]
#[derive(Debug)]
pub struct OpenFd {
    /// The descriptor.
    pub fd: c_int,
    /// As the program named it.
    pub path: *const c_char,
    /// As for open(2).
    pub flags: c_int,
    /// As for open(2).
    pub mode: libc::mode_t,
}

/// Payload of REOPEN_FD.
#[repr(C)]
#[derive(Debug)]
pub struct ReopenFd {
    /// The descriptor.
    pub fd: c_int,
    /// As the program named it.
    pub path: *const c_char,
    /// As for open(2).
    pub flags: c_int,
}

/// Payload of CLOSE_FD.
#[repr(C)]
#[derive(Debug)]
pub struct CloseFd {
    /// The descriptor, still open.
    pub fd: c_int,
}

/// Payload of DUP_FD.
#[repr(C)]
#[derive(Debug)]
pub struct DupFd {
    /// What was duplicated.
    pub old_fd: c_int,
    /// The duplicate.
    pub new_fd: c_int,
}

/// Payload of VIRTUAL_TO_REAL_PATH.
#[repr(C)]
#[derive(Debug)]
pub struct VirtualToRealPath {
    /// PATH_MAX bytes that hooks may change; the path ends with a zero.
    pub path: *mut c_char,
}

/// Payload of REAL_TO_VIRTUAL_PATH.
#[repr(C)]
#[derive(Debug)]
pub struct RealToVirtualPath {
    /// As for [`VirtualToRealPath`].
    pub path: *mut c_char,
}

/// Payload of THREAD_RESUME.
#[repr(C)]
#[derive(Debug)]
pub struct ThreadResume {
    /// 1: the process has come back from its image.
    pub is_restart: c_int,
}

/// Variable that tells an executed program where the descriptor of POST_EXEC is: `NUMBER:INODE`.
pub const EXEC_STATE: &str = "DMTCP_EXEC_STATE";
