/* dmtcp.h: what programs and plugins in C and C++ call.
 *
 * A program needs no library to link with: every function is a weak symbol that exists while the program runs under
 * dmtcp_launch. Without it the functions of parts 1 and 4 answer 0, DMTCP_NOT_PRESENT or "". Compile with -fPIC or -fPIE
 * (the default of most compilers), else the linker fixes the answer for good.
 *
 *   Part 1  programs          Part 4  what processes tell each other: values, barriers
 *   Part 2  plugins: events   Part 5  plugins: identity, paths, settings
 *   Part 3  plugins: symbols  Part 6  plugins: locks
 *                             Part 7  what a plugin may define
 *
 * Threads: every function may be called by any thread. Hooks of plugins run on a thread of their own; see
 * docs/plugin-tutorial.md. The binary interface only grows; docs/abi.md says how.
 */
#ifndef DMTCP_H
#define DMTCP_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
#define EXTERNC extern "C"
#else
#define EXTERNC extern
#endif
#define DMTCP_WEAK __attribute__((weak))

/* What plugins are compiled for. Another text than the library's is refused when the plugin registers. */
#define DMTCP_PLUGIN_API_VERSION "4"
#define DMTCP_PACKAGE_VERSION "0.1.0"

/* ---- Part 1: programs ------------------------------------------------------------------------------------------- */

/* Answers of dmtcp_checkpoint */
#define DMTCP_AFTER_CHECKPOINT 1
#define DMTCP_AFTER_RESTART 2
/* Answers of the others */
#define DMTCP_NOT_PRESENT 3
#define DMTCP_IS_PRESENT 4

/* 1: the program runs under our control. */
EXTERNC int dmtcp_is_enabled(void) DMTCP_WEAK;
/* Takes a checkpoint of the whole computation and returns when it is on disk (DMTCP_AFTER_CHECKPOINT), or in the program
 * that was restarted from it (DMTCP_AFTER_RESTART). -1: the checkpoint failed; the program goes on. */
EXTERNC int dmtcp_checkpoint(void) DMTCP_WEAK;
/* Between the two no checkpoint is taken: one that is asked for waits, at most as long as the coordinator lets it. Calls
 * nest, also over threads. Both return 1. */
EXTERNC int dmtcp_disable_ckpt(void) DMTCP_WEAK;
EXTERNC int dmtcp_enable_ckpt(void) DMTCP_WEAK;
/* Processes of the computation; 1 if all of them run. Null pointers are allowed. */
EXTERNC int dmtcp_get_coordinator_status(int *peers, int *running) DMTCP_WEAK;
/* How many checkpoints and restarts this process has been through. Null pointers are allowed. */
EXTERNC int dmtcp_get_local_status(int *checkpoints, int *restarts) DMTCP_WEAK;
/* Directory of the next image. The directory that is set is created if need be. */
EXTERNC const char *dmtcp_get_ckpt_dir(void) DMTCP_WEAK;
EXTERNC int dmtcp_set_ckpt_dir(const char *directory) DMTCP_WEAK;
/* Path of the next image. */
EXTERNC const char *dmtcp_get_ckpt_filename(void) DMTCP_WEAK;
/* What tells this process from all others; kept over restarts. */
EXTERNC const char *dmtcp_get_uniquepid_str(void) DMTCP_WEAK;
/* Number of the last checkpoint that this process took part in; 0: none. */
EXTERNC uint32_t dmtcp_get_generation(void) DMTCP_WEAK;
/* 1: a checkpoint was asked for and this process has not gone on after it. */
EXTERNC int checkpoint_is_pending(void) DMTCP_WEAK;

#define dmtcp_is_enabled() (dmtcp_is_enabled ? dmtcp_is_enabled() : 0)
#define dmtcp_checkpoint() (dmtcp_checkpoint ? dmtcp_checkpoint() : DMTCP_NOT_PRESENT)
#define dmtcp_disable_ckpt() (dmtcp_disable_ckpt ? dmtcp_disable_ckpt() : DMTCP_NOT_PRESENT)
#define dmtcp_enable_ckpt() (dmtcp_enable_ckpt ? dmtcp_enable_ckpt() : DMTCP_NOT_PRESENT)
#define dmtcp_get_coordinator_status(peers, running) \
  (dmtcp_get_coordinator_status ? dmtcp_get_coordinator_status(peers, running) : DMTCP_NOT_PRESENT)
#define dmtcp_get_local_status(checkpoints, restarts) \
  (dmtcp_get_local_status ? dmtcp_get_local_status(checkpoints, restarts) : DMTCP_NOT_PRESENT)
#define dmtcp_get_ckpt_dir() (dmtcp_get_ckpt_dir ? dmtcp_get_ckpt_dir() : "")
#define dmtcp_set_ckpt_dir(directory) (dmtcp_set_ckpt_dir ? dmtcp_set_ckpt_dir(directory) : DMTCP_NOT_PRESENT)
#define dmtcp_get_ckpt_filename() (dmtcp_get_ckpt_filename ? dmtcp_get_ckpt_filename() : "")
#define dmtcp_get_uniquepid_str() (dmtcp_get_uniquepid_str ? dmtcp_get_uniquepid_str() : "")
#define dmtcp_get_generation() (dmtcp_get_generation ? dmtcp_get_generation() : 0)
#define checkpoint_is_pending() (checkpoint_is_pending ? checkpoint_is_pending() : 0)

/* ---- Part 2: plugins: events ------------------------------------------------------------------------------------- */

/* Forward: in the order of --with-plugin; reverse: the other way round. All are delivered, those of paths only with --pathvirt
 * or DMTCP_PATH_MAPPING. Events of descriptors, threads, paths, forks and PRE_EXEC come from wrappers of libc's functions,
 * on the thread that calls them; what a hook does itself brings no event. */
typedef enum eDmtcpEvent {
  DMTCP_EVENT_INIT,             /* forward; the process has joined, main() has not begun */
  DMTCP_EVENT_EXIT,             /* reverse; by exit(3) or return from main */
  DMTCP_EVENT_PRE_EXEC,         /* forward; preExec */
  DMTCP_EVENT_POST_EXEC,        /* forward; postExec */
  DMTCP_EVENT_ATFORK_PREPARE,   /* forward */
  DMTCP_EVENT_ATFORK_PARENT,    /* reverse */
  DMTCP_EVENT_ATFORK_CHILD,     /* reverse */
  DMTCP_EVENT_ATFORK_FAILED,    /* reverse */
  DMTCP_EVENT_VFORK_PREPARE,    /* as the four above, in place of them: a vfork is a fork whose parent waits */
  DMTCP_EVENT_VFORK_PARENT,
  DMTCP_EVENT_VFORK_CHILD,
  DMTCP_EVENT_VFORK_FAILED,
  DMTCP_EVENT_PTHREAD_START,    /* forward */
  DMTCP_EVENT_PTHREAD_EXIT,     /* reverse */
  DMTCP_EVENT_PTHREAD_RETURN,   /* reverse */
  DMTCP_EVENT_PRESUSPEND,       /* forward; a checkpoint was asked for, the program still runs */
  DMTCP_EVENT_PRECHECKPOINT,    /* forward; all threads of the program are stopped */
  DMTCP_EVENT_RESUME,           /* reverse; the image is written, or the checkpoint given up */
  DMTCP_EVENT_RESTART,          /* reverse; the process has come back from its image, its threads are stopped */
  DMTCP_EVENT_RUNNING,          /* forward; the program runs again */
  DMTCP_EVENT_THREAD_RESUME,    /* reverse; resumeUserThreadInfo; after a restart, on each thread, at its next call of libc */
  DMTCP_EVENT_OPEN_FD,          /* forward; openFd */
  DMTCP_EVENT_REOPEN_FD,        /* forward; reopenFd */
  DMTCP_EVENT_CLOSE_FD,         /* forward; closeFd */
  DMTCP_EVENT_DUP_FD,           /* forward; dupFd */
  DMTCP_EVENT_VIRTUAL_TO_REAL_PATH, /* forward; virtualToRealPath */
  DMTCP_EVENT_REAL_TO_VIRTUAL_PATH, /* reverse; realToVirtualPath */
  nDmtcpEvents
} DmtcpEvent_t;

/* What an event comes with. The pointer is null for an event that has nothing. */
typedef union eDmtcpEventData {
  struct {
    int serializationFd;
    char *filename;
    size_t maxArgs;
    const char **argv;
    size_t maxEnv;
    const char **envp;
  } preExec;
  struct {
    int serializationFd;
  } postExec;
  struct {
    int isRestart;
  } resumeUserThreadInfo;
  struct {
    int fd;
    const char *path;
    int flags;
    mode_t mode;
  } openFd;
  struct {
    int fd;
    const char *path;
    int flags;
  } reopenFd;
  struct {
    int fd;
  } closeFd;
  struct {
    int oldFd;
    int newFd;
  } dupFd;
  struct {
    char *path; /* PATH_MAX bytes, changed in place */
  } virtualToRealPath;
  struct {
    char *path;
  } realToVirtualPath;
} DmtcpEventData_t;

typedef void (*HookFunctionPtr_t)(DmtcpEvent_t event, DmtcpEventData_t *data);

typedef struct DmtcpPluginDescriptor {
  const char *pluginApiVersion; /* DMTCP_PLUGIN_API_VERSION */
  const char *dmtcpVersion;     /* DMTCP_PACKAGE_VERSION */
  const char *pluginName;
  const char *authorName;
  const char *authorEmail;
  const char *description;
  HookFunctionPtr_t event_hook;
} DmtcpPluginDescriptor_t;

/* Makes a plugin known. The texts must stay. */
EXTERNC void dmtcp_register_plugin(DmtcpPluginDescriptor_t plugin) DMTCP_WEAK;
/* What a plugin exports; DMTCP_DECL_PLUGIN defines it. */
EXTERNC void dmtcp_initialize_plugin(void);

/* Declares the plugin: registers the descriptor, then lets the next plugin register its own. */
#define DMTCP_DECL_PLUGIN(descriptor)                                        \
  EXTERNC __attribute__((visibility("default"))) void                        \
  dmtcp_initialize_plugin(void)                                              \
  {                                                                          \
    void (*dmtcp_next_plugin)(void);                                         \
    dmtcp_register_plugin(descriptor);                                       \
    dmtcp_next_plugin = NEXT_FNC(dmtcp_initialize_plugin);                   \
    if (dmtcp_next_plugin) {                                                 \
      dmtcp_next_plugin();                                                   \
    }                                                                        \
  }

/* Sections of a wrapper that no checkpoint may cut. In this order, in one block. */
#define DMTCP_PLUGIN_DISABLE_CKPT() int dmtcp_plugin_ckpt_disabled = dmtcp_plugin_disable_ckpt()
#define DMTCP_PLUGIN_ENABLE_CKPT()      \
  do {                                  \
    if (dmtcp_plugin_ckpt_disabled) {   \
      dmtcp_plugin_enable_ckpt();       \
    }                                   \
  } while (0)
EXTERNC int dmtcp_plugin_disable_ckpt(void) DMTCP_WEAK;
EXTERNC void dmtcp_plugin_enable_ckpt(void) DMTCP_WEAK;

/* ---- Part 3: plugins: symbols ------------------------------------------------------------------------------------- */

/* dlsym(3) and dlvsym(3) as if the caller called them: RTLD_NEXT counts from the caller's library. */
EXTERNC void *dmtcp_dlsym(void *handle, const char *symbol) DMTCP_WEAK;
EXTERNC void *dmtcp_dlvsym(void *handle, const char *symbol, const char *version) DMTCP_WEAK;
/* The symbol in the first loaded library whose path contains the text. */
EXTERNC void *dmtcp_dlsym_lib(const char *library, const char *symbol) DMTCP_WEAK;
/* The same as a distance from where the library is loaded; 0: there is none. */
EXTERNC uint64_t dmtcp_dlsym_lib_fnc_offset(const char *library, const char *symbol) DMTCP_WEAK;
/* For wrappers that are called by constructors that run before ours. */
EXTERNC void dmtcp_initialize(void) DMTCP_WEAK;

#define DMTCP_RTLD_NEXT ((void *)-1L)

/* The function that a wrapper hides: the next plugin's wrapper, at last the library's own. */
#define NEXT_FNC(function) DMTCP_FIND_ONCE(function, dmtcp_dlsym(DMTCP_RTLD_NEXT, #function))
/* The same with a symbol version, as a text. */
#define NEXT_FNC_V(function, version) \
  DMTCP_FIND_ONCE(function, dmtcp_dlvsym(DMTCP_RTLD_NEXT, #function, version))
/* The same from a library, as for dmtcp_dlsym_lib. */
#define NEXT_FNC_LIB(library, function) DMTCP_FIND_ONCE(function, dmtcp_dlsym_lib(library, #function))

#define DMTCP_FIND_ONCE(function, search)                                 \
  (__extension__({                                                        \
    static __typeof__(&function) dmtcp_found;                             \
    __typeof__(&function) dmtcp_here;                                     \
    __atomic_load(&dmtcp_found, &dmtcp_here, __ATOMIC_ACQUIRE);           \
    if (!dmtcp_here) {                                                    \
      dmtcp_here = (__typeof__(&function))(search);                       \
      __atomic_store(&dmtcp_found, &dmtcp_here, __ATOMIC_RELEASE);        \
    }                                                                     \
    dmtcp_here;                                                           \
  }))

/* ---- Part 4: what processes tell each other: values, barriers ------------------------------------------------------ */

/* Values of the computation, by database and key; kvdb.h is the same for C++. A value is a text, or a number as its digits.
 * Each request is carried out as a whole and tells the value of before ("0" if there was none). Values stay over
 * checkpoints; a restart begins with none. At most 63 bytes for a database, 1 KiB for a key, 64 KiB for a value. */
typedef enum eDmtcpKvdbRequest {
  DMTCP_KVDB_GET,
  DMTCP_KVDB_SET,
  DMTCP_KVDB_INCRBY, /* from here on for numbers; one that is not there becomes the operand */
  DMTCP_KVDB_AND,
  DMTCP_KVDB_OR,
  DMTCP_KVDB_XOR,
  DMTCP_KVDB_MIN,
  DMTCP_KVDB_MAX
} DmtcpKvdbRequest_t;
typedef enum eDmtcpKvdbResponse {
  DMTCP_KVDB_SUCCESS,
  DMTCP_KVDB_INVALID_REQUEST, /* the value is no number, or something is too long; a line on stderr says what */
  DMTCP_KVDB_DB_NOT_FOUND,    /* to GET */
  DMTCP_KVDB_KEY_NOT_FOUND,   /* to GET */
  DMTCP_KVDB_TOO_LONG,        /* carried out, but the value of before is cut: `size` is too small */
  DMTCP_KVDB_NOT_PRESENT      /* no computation, or the coordinator does not answer */
} DmtcpKvdbResponse_t;
/* `old` may be null. */
EXTERNC DmtcpKvdbResponse_t dmtcp_kvdb_request(DmtcpKvdbRequest_t request, const char *database, const char *key,
                                               const char *value, char *old, size_t size) DMTCP_WEAK;
EXTERNC DmtcpKvdbResponse_t dmtcp_kvdb_request64(DmtcpKvdbRequest_t request, const char *database, const char *key,
                                                 int64_t value, int64_t *old) DMTCP_WEAK;

#define dmtcp_kvdb_request(request, database, key, value, old, size)                          \
  (dmtcp_kvdb_request ? dmtcp_kvdb_request(request, database, key, value, old, size)          \
                      : DMTCP_KVDB_NOT_PRESENT)
#define dmtcp_kvdb_request64(request, database, key, value, old) \
  (dmtcp_kvdb_request64 ? dmtcp_kvdb_request64(request, database, key, value, old) : DMTCP_KVDB_NOT_PRESENT)
#define dmtcp_kvdb_get(database, key, value, size) dmtcp_kvdb_request(DMTCP_KVDB_GET, database, key, "", value, size)
#define dmtcp_kvdb_set(database, key, value) dmtcp_kvdb_request(DMTCP_KVDB_SET, database, key, value, NULL, 0)
#define dmtcp_kvdb_get64(database, key, value) dmtcp_kvdb_request64(DMTCP_KVDB_GET, database, key, 0, value)
#define dmtcp_kvdb_set64(database, key, value) dmtcp_kvdb_request64(DMTCP_KVDB_SET, database, key, value, NULL)

/* In hooks from PRESUSPEND to RUNNING: all processes that take part, or those of them on this host, wait for each other. Each
 * must come to the same barriers in the same order, so the plugin has to be loaded in all of them. If one does not come,
 * a line on stderr says who, and the checkpoint (until all images are written) or the restart is given up. At most 63
 * bytes. */
EXTERNC void dmtcp_global_barrier(const char *name) DMTCP_WEAK;
EXTERNC void dmtcp_local_barrier(const char *name) DMTCP_WEAK;

/* ---- Part 5: plugins: identity, paths, settings ------------------------------------------------------------------- */

typedef struct DmtcpUniqueProcessId {
  uint64_t _hostid;
  uint64_t _time;
  pid_t _pid;
  uint32_t _computation_generation;
} DmtcpUniqueProcessId;

EXTERNC DmtcpUniqueProcessId dmtcp_get_uniquepid(void) DMTCP_WEAK;
EXTERNC DmtcpUniqueProcessId dmtcp_get_coord_id(void) DMTCP_WEAK;
EXTERNC DmtcpUniqueProcessId dmtcp_get_computation_id(void) DMTCP_WEAK;
EXTERNC const char *dmtcp_get_computation_id_str(void) DMTCP_WEAK;
/* When the computation began, or was restarted: nanoseconds since 1970 on the coordinator's clock. */
EXTERNC uint64_t dmtcp_get_coordinator_timestamp(void) DMTCP_WEAK;
/* IPv4 address of this machine as others see it; 127.0.0.1 if they do not. */
EXTERNC void dmtcp_get_local_ip_addr(struct in_addr *address) DMTCP_WEAK;
/* 1: the same process; the generation does not count. */
EXTERNC int dmtcp_unique_pids_equal(DmtcpUniqueProcessId a, DmtcpUniqueProcessId b) DMTCP_WEAK;

/* Scratch directory; a directory beside the image for files that belong to it (the caller creates it); the program. */
EXTERNC const char *dmtcp_get_tmpdir(void) DMTCP_WEAK;
EXTERNC const char *dmtcp_get_ckpt_files_subdir(void) DMTCP_WEAK;
EXTERNC const char *dmtcp_get_executable_path(void) DMTCP_WEAK;

/* What dmtcp_launch was asked for. */
EXTERNC int dmtcp_should_ckpt_open_files(void) DMTCP_WEAK;
EXTERNC int dmtcp_allow_overwrite_with_ckpted_files(void) DMTCP_WEAK;
/* 1: dmtcp_restart was told by DMTCP_SKIP_TRUNCATE_FILE_AT_RESTART not to cut files back to their length of before. */
EXTERNC int dmtcp_skip_truncate_file_at_restart(const char *path) DMTCP_WEAK;

/* A variable in the environment of dmtcp_restart. */
typedef enum eDmtcpGetRestartEnvErr {
  RESTART_ENV_SUCCESS = 0,
  RESTART_ENV_NOTFOUND = -1,
  RESTART_ENV_TOOLONG = -2,          /* it does not fit into `size` bytes */
  RESTART_ENV_DMTCP_BUF_TOO_SMALL = -3, /* it is longer than RESTART_ENV_MAXSIZE */
  RESTART_ENV_INTERNAL_ERROR = -4,
  RESTART_ENV_NULL_PTR = -5
} DmtcpGetRestartEnvErr_t;
#define RESTART_ENV_MAXSIZE 122880
EXTERNC DmtcpGetRestartEnvErr_t dmtcp_get_restart_env(const char *name, char *value, size_t size) DMTCP_WEAK;

/* 1: no checkpoint or restart is under way in this process. */
EXTERNC int dmtcp_is_running_state(void) DMTCP_WEAK;
/* The signal that stops threads. A thread that blocks it cannot be stopped: a checkpoint then fails. */
EXTERNC int dmtcp_get_ckpt_signal(void) DMTCP_WEAK;
EXTERNC void dmtcp_block_ckpt_signal(void) DMTCP_WEAK;
EXTERNC void dmtcp_unblock_ckpt_signal(void) DMTCP_WEAK;
/* Adds a line to what every following image tells of this process. 0, or -5 for a null pointer. */
EXTERNC int dmtcp_add_to_ckpt_header(const char *key, const char *value) DMTCP_WEAK;

/* No descriptor of ours is in the program's table: 0, nothing to close, -1, -1. */
EXTERNC int dmtcp_is_protected_fd(int fd) DMTCP_WEAK;
EXTERNC void dmtcp_close_protected_fd(int fd) DMTCP_WEAK;
EXTERNC int dmtcp_protected_environ_fd(void) DMTCP_WEAK;
EXTERNC int dmtcp_get_readlog_fd(void) DMTCP_WEAK;

/* The program's pids are the kernel's: all of them give back what they get. The last two are the names of interface 3. */
EXTERNC pid_t dmtcp_pid_real_to_virtual(pid_t pid) DMTCP_WEAK;
EXTERNC pid_t dmtcp_pid_virtual_to_real(pid_t pid) DMTCP_WEAK;
EXTERNC pid_t dmtcp_real_to_virtual_pid(pid_t pid) DMTCP_WEAK;
EXTERNC pid_t dmtcp_virtual_to_real_pid(pid_t pid) DMTCP_WEAK;

/* Waits here after a restart until a debugger changes the condition: DMTCP_RESTART_PAUSE_WHILE(pause); */
#define DMTCP_RESTART_PAUSE_WHILE(condition) \
  do {                                       \
  } while (condition)

/* Nothing has to be prepared for a debugger to attach. */
#define DMTCP_SETUP_PTRACE() \
  do {                       \
  } while (0)
/* Exit status of a process that fails because of us, unless the variable DMTCP_FAIL_RC names another one. */
#define DMTCP_FAIL_RC 99

/* ---- Part 6: plugins: locks ---------------------------------------------------------------------------------------- */

/* Futexes and nothing else: for wrappers and hooks that cannot use libc's. They tell who has one by thread, also over a
 * restart. All functions answer 0 or an errno: EDEADLK or EBUSY, EPERM for who does not have it, EINVAL for null. */
typedef enum eDmtcpMutexType {
  DMTCP_MUTEX_NORMAL,
  DMTCP_MUTEX_RECURSIVE,
  DMTCP_MUTEX_LLL /* nobody asks who has it: one thread may lock, another one unlock */
} DmtcpMutexType;
typedef struct DmtcpMutex {
  uint32_t word;
  uint32_t type;
  uint64_t owner;
  uint32_t depth;
  uint32_t reserved;
} DmtcpMutex;
#define DMTCP_MUTEX_INITIALIZER {0, DMTCP_MUTEX_NORMAL, 0, 0, 0}
#define DMTCP_MUTEX_INITIALIZER_RECURSIVE {0, DMTCP_MUTEX_RECURSIVE, 0, 0, 0}
#define DMTCP_MUTEX_INITIALIZER_LLL {0, DMTCP_MUTEX_LLL, 0, 0, 0}
EXTERNC void DmtcpMutexInit(DmtcpMutex *mutex, DmtcpMutexType type) DMTCP_WEAK;
EXTERNC int DmtcpMutexLock(DmtcpMutex *mutex) DMTCP_WEAK;
EXTERNC int DmtcpMutexTryLock(DmtcpMutex *mutex) DMTCP_WEAK;
EXTERNC int DmtcpMutexUnlock(DmtcpMutex *mutex) DMTCP_WEAK;

typedef struct DmtcpRWLock {
  uint32_t state;
  uint32_t queued;
  uint32_t change;
  uint32_t reserved;
} DmtcpRWLock;
#define DMTCP_RWLOCK_INITIALIZER {0, 0, 0, 0}
EXTERNC void DmtcpRWLockInit(DmtcpRWLock *lock) DMTCP_WEAK;
/* Behind writers that wait; past them, for a thread that has it for reading already; only if it can be had at once. */
EXTERNC int DmtcpRWLockRdLock(DmtcpRWLock *lock) DMTCP_WEAK;
EXTERNC int DmtcpRWLockRdLockIgnoreQueuedWriter(DmtcpRWLock *lock) DMTCP_WEAK;
EXTERNC int DmtcpRWLockTryRdLock(DmtcpRWLock *lock) DMTCP_WEAK;
EXTERNC int DmtcpRWLockWrLock(DmtcpRWLock *lock) DMTCP_WEAK;
EXTERNC int DmtcpRWLockUnlock(DmtcpRWLock *lock) DMTCP_WEAK;

/* ---- Part 7: what a plugin may define ------------------------------------------------------------------------------ */

/* A piece of memory. */
typedef struct ProcMapsArea {
  char *addr;
  char *endAddr;
  size_t size;
  int prot;  /* PROT_* */
  int flags; /* MAP_PRIVATE | MAP_ANONYMOUS */
  off_t offset;
  const char *name; /* as in /proc/PID/maps; "" if it has none */
} ProcMapsArea;

/* At each checkpoint, when all threads are stopped: asked for each private anonymous mapping. 1: the image does not hold
 * it; after a restart it is there, filled with zeros. The hook may move `addr` up and `endAddr` down, by whole pages, to
 * say that of a part; it is asked again for what lies behind. */
EXTERNC int dmtcp_skip_memory_region_ckpting(ProcMapsArea *area) DMTCP_WEAK;

/* Declared, so that plugins of the original compile; not asked in this version: files are reopened by path, and their
 * contents are not saved; there is no support for batch systems or InfiniBand. */
EXTERNC int dmtcp_must_ckpt_file(const char *path) DMTCP_WEAK;
EXTERNC int dmtcp_must_overwrite_file(const char *path) DMTCP_WEAK;
EXTERNC void dmtcp_get_new_file_path(const char *path, const char *directory, char *new_path) DMTCP_WEAK;
EXTERNC int dmtcp_is_bq_file(const char *path) DMTCP_WEAK;
EXTERNC int dmtcp_bq_should_ckpt_file(const char *path, int *type) DMTCP_WEAK;
EXTERNC int dmtcp_bq_restore_file(const char *path, const char *saved_path, int flags, int type) DMTCP_WEAK;
/* Address not null: the plugin is loaded. Ours have other names: dmtcp_launch decides, nobody has to ask. */
EXTERNC int dmtcp_infiniband_enabled(void) DMTCP_WEAK;
EXTERNC int dmtcp_modify_env_enabled(void) DMTCP_WEAK;
EXTERNC int dmtcp_pathvirt_enabled(void) DMTCP_WEAK;

#endif
