//! What the environment says, read once.

use dmtcp_image::codec::Method;
use dmtcp_protocol::env as names;
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

/// Settings of this process.
#[derive(Debug, Clone)]
pub struct Config {
    /// Coordinator's numeric address.
    pub coord_host: String,
    /// Its port.
    pub coord_port: u16,
    /// Its unix socket, if it is of this host; else empty.
    pub coord_socket: String,
    /// File with the key.
    pub key_file: String,
    /// Where images go.
    pub checkpoint_dir: String,
    /// The signal that stops threads.
    pub signal: i32,
    /// 0, 1, 2.
    pub quiet: u8,
    /// Whether a resource that nobody claims fails the checkpoint.
    pub fail_on_unsupported: bool,
    /// Paths of the preloaded plugins, in order.
    pub plugins: Vec<String>,
    /// Kernel features that must not be used.
    pub forbidden: Vec<String>,
    /// Wrappers that are left out, `PLUGIN:SYMBOL`.
    pub disabled_wrappers: Vec<String>,
    /// Whether io_uring_setup(2) is to fail.
    pub refuse_io_uring: bool,
    /// Seconds between checkpoints that the launch asked for.
    pub interval: u32,
    /// How images are compressed.
    pub compress: Method,
    /// Whether there is to be no coordinator.
    pub alone: bool,
    /// The dmtcp_restart that a script of this process's own calls; empty: none is written.
    pub restart_program: String,
    /// Whether monotonic time is to count the time between checkpoint and restart.
    pub clock_is_real: bool,
    /// How many complete generations are kept.
    pub keep: u32,
    /// Whether images are written by a child, in the background.
    pub background: bool,
}

static CONFIG: OnceLock<Option<Config>> = OnceLock::new();

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// A variable of the process's environment as it is now. Only before threads are there, or for what nobody changes.
pub fn variable(name: &str) -> Option<String> {
    // SAFETY: libc keeps `environ` a null-terminated array of zero-terminated strings (null before it is set up).
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            if let Some(value) = value_of(*entry, name) {
                return Some(String::from_utf8_lossy(CStr::from_ptr(value).to_bytes()).into_owned());
            }
            entry = entry.add(1);
        }
    }
    None
}

/// Where the value begins in an entry of this name. Most entries have another one, which their first bytes tell: each start
/// of a program asks for dozens of names, and an environment may be long.
///
/// # Safety
/// `entry` is a zero-terminated string.
unsafe fn value_of(entry: *const c_char, name: &str) -> Option<*const c_char> {
    // SAFETY: a zero differs from each byte of a name and from '=', so nothing behind the end is read.
    unsafe {
        let mut expected = name.bytes().chain([b'=']).enumerate();
        expected.all(|(i, byte)| *entry.add(i) as u8 == byte).then(|| entry.add(name.len() + 1))
    }
}

/// Takes a variable out of the environment: what it says holds once. Only before the program has begun.
pub fn forget(name: &str) {
    // SAFETY: the program has one thread and has not begun; the list ends with a null pointer.
    unsafe {
        let mut from = environ.cast_mut();
        let mut to = from;
        while !from.is_null() && !(*from).is_null() {
            if value_of(*from, name).is_none() {
                to.write(*from);
                to = to.add(1);
            }
            from = from.add(1);
        }
        if !to.is_null() {
            to.write(std::ptr::null());
        }
    }
}

/// Whether there is an environment to read. Code that a program has in its `.preinit_array` (the run times of sanitizers)
/// runs before libc has set it up.
pub fn is_there() -> bool {
    // SAFETY: the pointer is read, and not followed.
    unsafe { !environ.is_null() }
}

/// The settings; `None` if this process is in no computation (no launch has set them).
pub fn config() -> Option<&'static Config> {
    if CONFIG.get().is_none() && !is_there() {
        return None;
    }
    CONFIG.get_or_init(read).as_ref()
}

fn list(value: Option<String>, separator: char) -> Vec<String> {
    value.unwrap_or_default().split(separator).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// Our own programs, run from inside a computation, stay outside of it.
const OUR_PROGRAMS: [&str; 6] =
    ["dmtcp_command", "dmtcp_coordinator", "dmtcp_inspect", "dmtcp_launch", "dmtcp_nocheckpoint", "dmtcp_restart"];

fn read() -> Option<Config> {
    if OUR_PROGRAMS.contains(&crate::life::worker::program()) {
        return None;
    }
    let coord_port = variable(names::COORD_PORT)?.parse().ok()?;
    let plugins = variable(names::PLUGIN_PATHS)?;
    Some(Config {
        coord_host: variable(names::COORD_HOST).unwrap_or_else(|| "127.0.0.1".into()),
        coord_port,
        coord_socket: variable(names::COORD_SOCKET).unwrap_or_default(),
        key_file: variable(names::COORD_KEY_FILE).unwrap_or_default(),
        checkpoint_dir: variable(names::CHECKPOINT_DIR).unwrap_or_else(|| ".".into()),
        signal: variable(names::SIGCKPT)
            .and_then(|s| s.parse().ok())
            .filter(|s| (1..=64).contains(s))
            .unwrap_or(names::DEFAULT_SIGCKPT),
        quiet: variable(names::QUIET).and_then(|s| s.parse().ok()).unwrap_or(0),
        fail_on_unsupported: variable(names::ON_UNSUPPORTED).as_deref() == Some("fail"),
        plugins: list(Some(plugins), ':'),
        forbidden: list(variable(names::FORBID), ','),
        disabled_wrappers: list(variable(names::DISABLE_WRAPPERS), ','),
        refuse_io_uring: variable(names::REFUSE_IO_URING).as_deref() == Some("1"),
        interval: variable(names::CHECKPOINT_INTERVAL).and_then(|s| s.parse().ok()).unwrap_or(0),
        compress: variable(names::COMPRESS).and_then(|s| Method::parse(&s).ok()).unwrap_or_default(),
        alone: variable(names::NO_COORDINATOR).as_deref() == Some("1"),
        restart_program: variable(names::RESTART_PROGRAM).unwrap_or_default(),
        clock_is_real: variable(names::CLOCK).as_deref() == Some("real"),
        keep: variable(names::KEEP).and_then(|s| s.parse().ok()).unwrap_or(1),
        background: variable(names::FORKED_CHECKPOINT).is_some_and(|s| s != "0" && !s.is_empty()),
    })
}

/// Whether a kernel feature may be used.
pub fn allowed(feature: &str) -> bool {
    config().is_none_or(|c| !c.forbidden.iter().any(|f| f == feature))
}
