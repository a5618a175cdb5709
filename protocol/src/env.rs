//! Names of the environment variables that a launch hands on to the processes of a computation.
//!
//! They stay visible in the environment: libc's own spawns and static programs in between then carry us on.

/// Pid of the process that a launch made: the one that tells its user at once if it cannot join.
pub const LAUNCHED: &str = "DMTCP_LAUNCHED";
/// Number of the descriptor that is the launch's conversation with the coordinator: the process that a launch made takes it
/// over, which spares it a handshake.
pub const COORD_CONNECTION: &str = "DMTCP_COORD_CONNECTION";
/// Path of the coordinator's unix socket, for processes of its host; they take TCP where it does not serve.
pub const COORD_SOCKET: &str = "DMTCP_COORD_SOCKET";
/// Host that the coordinator listens on; numeric once a launch has set it.
pub const COORD_HOST: &str = "DMTCP_COORD_HOST";
/// Port that the coordinator listens on.
pub const COORD_PORT: &str = "DMTCP_COORD_PORT";
/// File that holds the computation's key.
pub const COORD_KEY_FILE: &str = "DMTCP_COORD_KEY_FILE";
/// Directory for images; absolute.
pub const CHECKPOINT_DIR: &str = "DMTCP_CHECKPOINT_DIR";
/// Scratch directory; absolute.
pub const TMPDIR: &str = "DMTCP_TMPDIR";
/// Number of the signal that stops threads.
pub const SIGCKPT: &str = "DMTCP_SIGCKPT";
/// 0, 1 or 2: how much we keep quiet.
pub const QUIET: &str = "DMTCP_QUIET";
/// Log level, or a list `component=level,...`.
pub const LOG: &str = "DMTCP_LOG";
/// The original's name for the log level.
pub const LOG_LEVEL: &str = "DMTCP_LOG_LEVEL";
/// The original's list `component=level;...`.
pub const LOG_OVERRIDES: &str = "DMTCP_LOG_OVERRIDES";
/// One log file for all processes, instead of one each in the scratch directory.
pub const LOG_FILE: &str = "DMTCP_LOG_FILE";
/// File for what would be said on the application's standard error.
pub const STDERR_PATH: &str = "JALIB_STDERR_PATH";
/// `:`-separated absolute paths of the plugins that are preloaded, in their order.
pub const PLUGIN_PATHS: &str = "DMTCP_PLUGIN_PATHS";
/// `LD_PRELOAD` as the user had set it.
pub const ORIG_LD_PRELOAD: &str = "DMTCP_ORIG_LD_PRELOAD";
/// What is preloaded, ours and the user's.
pub const HIJACK_LIBS: &str = "DMTCP_HIJACK_LIBS";
/// `warn` or `fail`: what a checkpoint does when it meets a resource that no plugin claims.
pub const ON_UNSUPPORTED: &str = "DMTCP_ON_UNSUPPORTED";
/// Name of the table by which ids are translated; always of the same length, so that a restart can write it in place.
pub const IDS: &str = "DMTCP_IDS";
/// The value of [`IDS`] that says: nothing is translated.
pub const NO_IDS: &str = "0000000000000000";
/// `same` or `translate`: the only way in which a restart may give processes their ids back; else it finds one.
pub const PID_RESTORE: &str = "DMTCP_PID_RESTORE";
/// `auto`, `always` or `never`: whether system calls past libc are trapped while ids are translated.
pub const INLINE_IDS: &str = "DMTCP_INLINE_IDS";
/// Comma-separated kernel features that must not be used, so that each fallback can be tested.
pub const FORBID: &str = "DMTCP_FORBID";
/// The names that [`FORBID`] may list.
pub const FEATURES: [&str; 8] = [
    "clone3_set_tid",
    "mm_exe",
    "mm_map",
    "pagemap_scan",
    "pid_namespace",
    "proc_syscall",
    "time_namespace",
    "vdso_move",
];
/// Comma-separated `PLUGIN:SYMBOL`: wrappers that are left out of their chains.
pub const DISABLE_WRAPPERS: &str = "DMTCP_DISABLE_WRAPPERS";
/// `1`: io_uring_setup(2) fails with ENOSYS, so that programs use something that can be saved.
pub const REFUSE_IO_URING: &str = "DMTCP_REFUSE_IO_URING";
/// The dmtcp_restart that a restart script calls, for processes that write their own; absolute.
pub const RESTART_PROGRAM: &str = "DMTCP_RESTART_PROGRAM";
/// Checkpoint interval in seconds that the launch asked for; see [`crate::message::Join::interval`].
pub const CHECKPOINT_INTERVAL: &str = "DMTCP_CHECKPOINT_INTERVAL";
/// `1` or `0`: whether images are to be compressed; what counts is [`COMPRESS`], which a launch sets with it.
pub const GZIP: &str = "DMTCP_GZIP";
/// How images are compressed: `none`, `gzip[:LEVEL]`, `lz4`, `zstd[:LEVEL]`.
pub const COMPRESS: &str = "DMTCP_COMPRESS";
/// `1`: the process has no coordinator and takes its checkpoints itself.
pub const NO_COORDINATOR: &str = "DMTCP_NO_COORDINATOR";
/// `real` or `continue`: whether monotonic time counts the time between checkpoint and restart.
pub const CLOCK: &str = "DMTCP_CLOCK";
/// How many complete generations are kept.
pub const KEEP: &str = "DMTCP_KEEP";
/// `1`: images are written by a child, in the background.
pub const FORKED_CHECKPOINT: &str = "DMTCP_FORKED_CHECKPOINT";
/// `1`: regular files that are open go into the image.
pub const CKPT_OPEN_FILES: &str = "DMTCP_CKPT_OPEN_FILES";
/// `1`: a file out of the image may replace one that exists.
pub const ALLOW_OVERWRITE: &str = "DMTCP_ALLOW_OVERWRITE_WITH_CKPTED_FILES";
/// The stage, 1 to 7, that a restart pauses at for a debugger.
pub const RESTART_PAUSE: &str = "DMTCP_RESTART_PAUSE";
/// `1`: dmtcp_restart starts gdb on the process that it has brought back.
pub const GDB_ATTACH_ON_RESTART: &str = "DMTCP_GDB_ATTACH_ON_RESTART";
/// What a debugger does to let a paused restart go on.
pub const RESTART_GO_ON: &str = "\"dmtcp-continue\" of dmtcp.py, or by \"set language c\", \"set var *(int *)&dmtcp_restart_pause = 0\" and \"detach\"";
/// Exit code of our own failures, instead of [`FAILURE`].
pub const FAIL_RC: &str = "DMTCP_FAIL_RC";
/// Set to anything but `0`: a failure of ours aborts, so that there is a core file. The second name is an old one.
pub const ABORT_ON_FAILURE: [&str; 2] = ["DMTCP_ABORT_ON_FAILURE", "DMTCP_ABORT_ON_FAILED_ASSERT"];
/// Set to anything but `0`: a failure of ours waits for a debugger.
pub const SLEEP_ON_FAILURE: &str = "DMTCP_SLEEP_ON_FAILURE";

/// What goes along when a program is executed with another environment.
pub const CARRIED: [&str; 33] = [
    COORD_HOST,
    COORD_PORT,
    COORD_KEY_FILE,
    COORD_SOCKET,
    CHECKPOINT_DIR,
    TMPDIR,
    SIGCKPT,
    QUIET,
    LOG,
    LOG_LEVEL,
    LOG_OVERRIDES,
    LOG_FILE,
    STDERR_PATH,
    PLUGIN_PATHS,
    ORIG_LD_PRELOAD,
    HIJACK_LIBS,
    ON_UNSUPPORTED,
    FORBID,
    IDS,
    INLINE_IDS,
    DISABLE_WRAPPERS,
    REFUSE_IO_URING,
    RESTART_PROGRAM,
    GZIP,
    COMPRESS,
    NO_COORDINATOR,
    CHECKPOINT_INTERVAL,
    KEEP,
    CLOCK,
    FORKED_CHECKPOINT,
    CKPT_OPEN_FILES,
    ALLOW_OVERWRITE,
    FAIL_RC,
];

/// Exit code of our own failures.
pub const FAILURE: i32 = 99;
/// Port of a coordinator when none is named.
pub const DEFAULT_PORT: u16 = 7779;
/// Signal that stops threads when none is named: a real-time signal that no libc or known runtime uses.
pub const DEFAULT_SIGCKPT: i32 = 62;
