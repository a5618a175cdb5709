/* Holds one resource of each kind, and makes no call that our wrappers stand in front of, from when recording begins:
   what is recorded then was called by our own code. Four streams: main, a child, and two threads that wait and compute. */
#include "steps.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

/* Of recorder.c. */
extern int recorder_begin(void) __attribute__((weak));
extern void recorder_end(void) __attribute__((weak));
extern int recorder_take(char *into, size_t room) __attribute__((weak));

static long raw(long number, long a, long b, long c, long d, long e) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = 0;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static char log_path[512], stop_path[512];

/* As note() of steps.h, whose open() may be wrapped. */
static void write_line(const char *line, int length) {
  long fd = raw(SYS_openat, AT_FDCWD, (long)log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644, 0);
  if (fd < 0 || raw(SYS_write, fd, (long)line, length, 0, 0) != length) raw(SYS_exit_group, 98, 0, 0, 0, 0);
  raw(SYS_close, fd, 0, 0, 0, 0);
}

static void raw_step(const char *stream, long n) {
  char line[64], call[300], complaint[320];
  int length = snprintf(line, sizeof line, "p %s %ld\n", stream, n);
  if (recorder_take && recorder_take(call, sizeof call)) {
    int l = snprintf(complaint, sizeof complaint, "FAIL %s\n", call);
    write_line(complaint, l);
    raw(SYS_exit_group, 97, 0, 0, 0, 0);
  }
  write_line(line, length);
}

static void raw_rest(int ms) {
  struct timespec t = {0, ms * 1000000L};
  raw(SYS_nanosleep, (long)&t, 0, 0, 0, 0);
}

static int raw_stopping(void) { return raw(SYS_access, (long)stop_path, F_OK, 0, 0, 0) == 0; }

static void loop(const char *stream) {
  for (long n = 1; !raw_stopping(); n++) {
    raw_step(stream, n);
    raw_rest(10);
  }
}

static void *computes(void *arg) {
  volatile double x = 1;
  long n = 0;
  while (!raw_stopping()) {
    for (int i = 0; i < 100000; i++) x = x * 1.0000001 + 1e-9;
    raw_step("computing", ++n);
  }
  return arg;
}

static int word;

static void *waits(void *arg) {
  struct timespec t = {0, 20000000};
  for (long n = 1; !raw_stopping(); n++) {
    raw(SYS_futex, (long)&word, 0 /* FUTEX_WAIT */, 0, (long)&t, 0);
    raw_step("waiting", n);
  }
  return arg;
}

static void on_signal(int number) { (void)number; }

static void hold_everything(void) {
  int fd, ends[2];
  char path[512];
  CHECK((fd = open(in_dir("kept"), O_RDWR | O_CREAT, 0600)) >= 0 && write(fd, "abc", 3) == 3);
  CHECK(flock(fd, LOCK_EX) == 0);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
  CHECK(fcntl(fd, F_SETLK, &lock) == 0);
  CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
  CHECK(dup(fd) >= 0);
  CHECK((fd = open(in_dir("gone"), O_RDWR | O_CREAT, 0600)) >= 0 && write(fd, "abc", 3) == 3);
  CHECK(unlink(in_dir("gone")) == 0);
  CHECK((fd = open(in_dir("."), O_RDONLY | O_DIRECTORY)) >= 0);
  CHECK((fd = open("/proc/self/status", O_RDONLY)) >= 0);
  CHECK((fd = open("/dev/urandom", O_RDONLY)) >= 0);
  CHECK((fd = memfd_create("named", 0)) >= 0 && write(fd, "abc", 3) == 3);
  CHECK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
  CHECK(pipe2(ends, O_CLOEXEC) == 0 && write(ends[1], "in flight", 9) == 9);
  snprintf(path, sizeof path, "%s", in_dir("fifo"));
  CHECK(mkfifo(path, 0600) == 0 && (fd = open(path, O_RDWR | O_NONBLOCK)) >= 0 && write(fd, "x", 1) == 1);
  int event = eventfd(3, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0), epoll = epoll_create1(0);
  struct itimerspec every = {{3600, 0}, {3600, 0}};
  CHECK(event >= 0 && timer >= 0 && epoll >= 0 && timerfd_settime(timer, 0, &every, NULL) == 0);
  struct epoll_event interest = {.events = EPOLLIN, .data.fd = event};
  CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &interest) == 0);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && signalfd(-1, &set, 0) >= 0 && raise(SIGUSR1) == 0);
  struct sigaction action = {.sa_handler = on_signal};
  CHECK(sigaction(SIGUSR2, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
  timer_t posix;
  struct sigevent notify = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
  CHECK(timer_create(CLOCK_MONOTONIC, &notify, &posix) == 0 && timer_settime(posix, 0, &every, NULL) == 0);
  struct itimerval hour = {{3600, 0}, {3600, 0}};
  CHECK(setitimer(ITIMER_REAL, &hour, NULL) == 0);
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 100);
  limit.rlim_cur -= 1;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  umask(027);
}

int main(void) {
  snprintf(log_path, sizeof log_path, "%s", getenv("STEPS_LOG"));
  snprintf(stop_path, sizeof stop_path, "%s", getenv("STEPS_STOP"));
  CHECK(strcmp(log_path, "-") != 0);
  hold_everything();
  pid_t ended = fork();
  CHECK(ended >= 0);
  if (ended == 0) _exit(3);
  siginfo_t info;
  CHECK(waitid(P_PID, ended, &info, WEXITED | WNOWAIT) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK(!recorder_begin || recorder_begin() > 0);
    loop("child");
    if (recorder_end) recorder_end();
    _exit(5);
  }
  pthread_t computing, waiting;
  OK(pthread_create(&computing, NULL, computes, NULL));
  OK(pthread_create(&waiting, NULL, waits, NULL));
  if (recorder_begin) {
    char line[64];
    write_line(line, snprintf(line, sizeof line, "watched %d\n", recorder_begin()));
  }
  loop("main");
  if (recorder_end) recorder_end();
  OK(pthread_join(computing, NULL));
  OK(pthread_join(waiting, NULL));
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
  CHECK(waitpid(ended, &status, 0) == ended && WIFEXITED(status) && WEXITSTATUS(status) == 3);
  return done();
}
