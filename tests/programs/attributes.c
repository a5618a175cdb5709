/* Attributes of a process: command line and environment edited in place, names, small limits with all descriptors in use,
   scheduling, registrations, working directory moved. What `process_state.c` does not look at. */
#include "steps.h"
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { LIMIT = 16 };

static ssize_t slurp(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY);
  CHECK(fd >= 0);
  ssize_t n = read(fd, text, size - 1);
  CHECK(n >= 0 && close(fd) == 0);
  text[n] = 0;
  return n;
}

static unsigned field(const char *text, const char *name) {
  const char *at = strstr(text, name);
  CHECK(at);
  return (unsigned)strtoul(at + strlen(name), NULL, 0);
}

static void *named(void *arg) {
  char name[16], path[64], text[64];
  OK(pthread_setname_np(pthread_self(), "a thread's name"));
  snprintf(path, sizeof path, "/proc/self/task/%d/comm", (int)syscall(SYS_gettid));
  CHECK(prctl(PR_SET_TIMERSLACK, 777777) == 0 && prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
  for (long n = 1; !stopping(); n++) {
    int signal = 0;
    OK(pthread_getname_np(pthread_self(), name, sizeof name));
    CHECK(strcmp(name, "a thread's name") == 0 && slurp(path, text, sizeof text) > 0);
    CHECK(strcmp(text, "a thread's name\n") == 0);
    CHECK(prctl(PR_GET_TIMERSLACK) == 777777 && prctl(PR_GET_PDEATHSIG, &signal) == 0 && signal == SIGUSR2);
    step("thread", n);
    rest(10);
  }
  return arg;
}

int main(int argc, char **argv) {
  static char line[4096], now[65536], before[512], after[512];
  pthread_t thread;
  struct rlimit limit;
  /* As setproctitle does: the arguments are overwritten where they are. */
  size_t room = strlen(argv[argc - 1]);
  CHECK(argc == 3 && room > 20);
  memset(argv[argc - 1], 0, room);
  strcpy(argv[argc - 1], "a new title");
  ssize_t length = slurp("/proc/self/cmdline", line, sizeof line);
  CHECK(memmem(line, (size_t)length, "a new title", 11));
  char *variable = getenv("TO_BE_EDITED");
  CHECK(variable && strcmp(variable, "before") == 0);
  memcpy(variable, "behind", 6);
  CHECK(setenv("NEW_ONE", "added", 1) == 0 && unsetenv("LC_ALL") == 0);
  CHECK(prctl(PR_SET_NAME, "not its program") == 0);
  CHECK(mkdir(in_dir("first"), 0700) == 0 && chdir(in_dir("first")) == 0);
  strcpy(before, in_dir("first"));
  CHECK(rename(before, in_dir("second")) == 0 && getcwd(before, sizeof before) && strstr(before, "/second"));
  /* Every number below the limit is in use but two: one for the log, one for what is looked at. Where ids may be translated,
     what is looked at takes two more for a moment. */
  int spare = getenv("DMTCP_PID_RESTORE") || getenv("DMTCP_FORBID") ? 4 : 2;
  int fd, last = -1;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max = LIMIT;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  while ((fd = open("/dev/null", O_RDWR)) >= 0) last = fd;
  CHECK(errno == EMFILE && last == LIMIT - 1);
  for (int i = 1; i <= spare; i++) CHECK(close(LIMIT - i) == 0);
  OK(pthread_create(&thread, NULL, named, NULL));
  int nice_thread = (int)syscall(SYS_gettid);
  CHECK(setpriority(PRIO_PROCESS, (id_t)nice_thread, 7) == 0);
  struct sched_param param = {0};
  CHECK(sched_setscheduler(0, SCHED_BATCH, &param) == 0);
  CHECK(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6) == 0);
  CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);
  CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0);
  int score = open("/proc/self/oom_score_adj", O_RDWR);
  CHECK(score >= 0 && write(score, "321", 3) == 3 && close(score) == 0);
  CHECK(personality(ADDR_NO_RANDOMIZE) >= 0);
  umask(0027);
  int dumpable = argv[1][0] == 'd';
  CHECK(prctl(PR_SET_DUMPABLE, dumpable) == 0);
  /* But for memory that asks for it, where the kernel knows that. */
  CHECK(prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0) == 0 || prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
  int huge_pages = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
  CHECK(huge_pages == 1 || huge_pages == 3);
  limit.rlim_cur = 1 << 20, limit.rlim_max = 2 << 20;
  CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0 || errno == EPERM);
  /* Where the kernel does not say which pages have content, not all of this may be taken for it. */
  char *reserve = mmap(NULL, 1UL << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(reserve != MAP_FAILED);
  strcpy(reserve + (1UL << 39), "far out");
  CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
  limit.rlim_cur = 512 << 20;
  CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
  for (long n = 1; !stopping(); n++) {
    CHECK(slurp("/proc/self/cmdline", now, sizeof now) == length && memcmp(now, line, (size_t)length) == 0);
    CHECK(strcmp(getenv("TO_BE_EDITED"), "behind") == 0 && strcmp(getenv("NEW_ONE"), "added") == 0 && !getenv("LC_ALL"));
    if (dumpable) CHECK(slurp("/proc/self/environ", now, sizeof now) > 0 && memmem(now, sizeof now, "TO_BE_EDITED=behind", 19));
    CHECK(slurp("/proc/self/comm", now, sizeof now) > 0 && strcmp(now, "not its program\n") == 0);
    CHECK(getcwd(after, sizeof after) && strcmp(before, after) == 0);
    errno = 0;
    CHECK(getpriority(PRIO_PROCESS, (id_t)nice_thread) == 7 && errno == 0 && sched_getscheduler(0) == SCHED_BATCH);
    CHECK(syscall(SYS_ioprio_get, 1, 0) == (2 << 13 | 6));
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0);
    CHECK(slurp("/proc/self/oom_score_adj", now, sizeof now) > 0 && atoi(now) == 321);
    CHECK(personality(0xffffffff) == ADDR_NO_RANDOMIZE);
    CHECK(slurp("/proc/self/status", now, sizeof now) > 0 && field(now, "Umask:\t") == 0027);
    CHECK(prctl(PR_GET_DUMPABLE) == dumpable && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == huge_pages);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == LIMIT && limit.rlim_max == LIMIT);
    CHECK((fd = open("/dev/null", O_RDWR)) >= LIMIT - spare && fd < LIMIT);
    CHECK(close(fd) == 0);
    for (fd = 3; fd < LIMIT - spare; fd++) CHECK(fcntl(fd, F_GETFD) == 0);
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur == 512 << 20);
    CHECK(strcmp(reserve + (1UL << 39), "far out") == 0 && reserve[n << 20] == 0);
    step("main", n);
    rest(10);
  }
  OK(pthread_join(thread, NULL));
  return done();
}
