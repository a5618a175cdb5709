/* What two processes share whose common ancestor, who opened it, is gone: offsets, status flags, a file without a name, a
   counter, a pipe with two writers, signals as a descriptor; beside them locks of their own, a pipe whose only reader is a
   zombie, threads inside splice(2) and tee(2), a thread that owns a pipe's signals, and a child that is told when its parent
   ends. The two take turns. */
#include "steps.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

enum { WINDOW = 4096, SLOTS = 64, FIRST = 0, SECOND = 1 };

static int turn[2][2], many[2], leave[2], news[2], quiet[2];
static int file, appended, nameless, counter, signals, locked;
static pid_t pids[2];

static int lock(short type, off_t start) {
  struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 10};
  return fcntl(locked, F_SETLK, &range);
}

static void looks_at_lock(off_t start, pid_t owner) {
  struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 10};
  CHECK(fcntl(locked, F_GETLK, &range) == 0 && range.l_type == F_WRLCK);
  if (range.l_pid != owner) FAIL("the lock at %d is %d's, not %d's", (int)start, range.l_pid, owner);
}

static void on_parents_end(int number) {
  (void)number;
  if (write(news[1], "!", 1) != 1) _exit(96);
  _exit(53);
}

/* Of the first sibling: is told when that ends. */
static void bereaved(void) {
  CHECK(close(many[1]) == 0 && signal(SIGTERM, on_parents_end) != SIG_ERR && prctl(PR_SET_PDEATHSIG, SIGTERM) == 0);
  CHECK(write(news[1], "c", 1) == 1);
  for (;;) pause();
}

static void sibling(int which) {
  int other = !which;
  char byte, bytes[8];
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGUSR2);
  CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
  if (which == FIRST) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) bereaved();
    CHECK(fcntl(file, F_SETFD, FD_CLOEXEC) == 0);
  }
  CHECK(read(turn[which][0], &byte, 1) == 1 && read(turn[which][0], pids, sizeof pids) == sizeof pids);
  CHECK(pids[which] == getpid() && lock(F_WRLCK, which * 10) == 0 && write(news[1], "r", 1) == 1);
  for (long n = 1;; n++) {
    /* Counts the turns of both. */
    long turns = 2 * (n - 1) + which, seen = -1;
    struct stat there;
    CHECK(read(turn[which][0], &byte, 1) == 1);
    if (byte == 'e') {
      CHECK(which == SECOND && read(leave[0], &byte, 1) == 1);
      _exit(52);
    }
    if (which == FIRST && stopping()) {
      CHECK(write(turn[other][1], "e", 1) == 1);
      _exit(51);
    }
    CHECK(lseek(file, 0, SEEK_CUR) == turns * 8 % WINDOW && read(file, bytes, 8) == 8);
    for (int i = 0; i < 8; i++) CHECK(bytes[i] == (char)(turns * 8 + i));
    if ((turns + 1) * 8 % WINDOW == 0) CHECK(lseek(file, 0, SEEK_SET) == 0);
    CHECK(fcntl(file, F_GETFD) == (which == FIRST ? FD_CLOEXEC : 0));
    CHECK(fstat(appended, &there) == 0 && there.st_size == turns && write(appended, "a", 1) == 1);
    CHECK((fcntl(appended, F_GETFL) & O_APPEND) && lseek(appended, 0, SEEK_CUR) == turns + 1);
    CHECK(!(fcntl(quiet[0], F_GETFL) & O_NONBLOCK) == (which == FIRST));
    CHECK(fcntl(quiet[0], F_SETFL, which == FIRST ? O_NONBLOCK : 0) == 0);
    CHECK(fstat(nameless, &there) == 0 && there.st_nlink == 0);
    if (turns > 0) CHECK(pread(nameless, &seen, 8, (turns - 1) % SLOTS * 8) == 8 && seen == turns - 1);
    CHECK(pwrite(nameless, &turns, 8, turns % SLOTS * 8) == 8);
    uint64_t count = 2;
    if (which == FIRST) CHECK(write(counter, &count, 8) == 8);
    else for (int i = 0; i < 3; i++) CHECK(i < 2 ? read(counter, &count, 8) == 8 && count == 1 : read(counter, &count, 8) < 0 && errno == EAGAIN);
    struct signalfd_siginfo info;
    struct pollfd heard = {signals, POLLIN, 0};
    CHECK(poll(&heard, 1, 0) == 0 && kill(getpid(), SIGUSR2) == 0 && read(signals, &info, sizeof info) == sizeof info);
    CHECK(info.ssi_signo == SIGUSR2 && (pid_t)info.ssi_pid == getpid());
    looks_at_lock(other * 10, pids[other]);
    CHECK(lock(F_WRLCK, other * 10) < 0 && (errno == EAGAIN || errno == EACCES));
    step(which == FIRST ? "first" : "second", n);
    rest(5);
    CHECK(write(turn[other][1], "g", 1) == 1);
  }
}

static void ancestor(void) {
  CHECK(close(many[0]) == 0 && pipe(quiet) == 0 && (counter = eventfd(0, EFD_NONBLOCK | EFD_SEMAPHORE)) >= 0);
  CHECK((file = open(in_dir("read"), O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0);
  for (int i = 0; i < WINDOW; i++) CHECK(write(file, &(char){(char)i}, 1) == 1);
  CHECK(lseek(file, 0, SEEK_SET) == 0 && (locked = open(in_dir("locks"), O_RDWR | O_CREAT, 0600)) >= 0);
  CHECK((appended = open(in_dir("appended"), O_WRONLY | O_CREAT | O_APPEND, 0600)) >= 0);
  CHECK((nameless = open(in_dir("nameless"), O_RDWR | O_CREAT, 0600)) >= 0 && unlink(in_dir("nameless")) == 0);
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGUSR2);
  CHECK((signals = signalfd(-1, &set, 0)) >= 0);
  for (int which = 0; which < 2; which++) {
    CHECK((pids[which] = fork()) >= 0);
    if (pids[which] == 0) sibling(which);
  }
  for (int which = 0; which < 2; which++) {
    CHECK(write(turn[which][1], "b", 1) == 1 && write(turn[which][1], pids, sizeof pids) == sizeof pids);
  }
  CHECK(write(leave[1], pids, sizeof pids) == sizeof pids);
  _exit(50);
}

static int spliced[4], teed[4];

static void *splices(void *arg) {
  for (;;) CHECK(splice(spliced[0], NULL, spliced[3], NULL, 5, 0) == 5);
  return arg;
}

static void *tees(void *arg) {
  char bytes[5];
  for (;;) CHECK(tee(teed[0], teed[3], 5, 0) == 5 && read(teed[0], bytes, 5) == 5 && memcmp(bytes, "both!", 5) == 0);
  return arg;
}

static int owned[2];

static void *owner(void *arg) {
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGRTMIN + 1);
  struct f_owner_ex to = {F_OWNER_TID, (pid_t)syscall(SYS_gettid)};
  CHECK(fcntl(owned[0], F_SETOWN_EX, &to) == 0 && fcntl(owned[0], F_SETSIG, SIGRTMIN + 1) == 0);
  CHECK(fcntl(owned[0], F_SETFL, O_ASYNC) == 0 && write(news[1], "o", 1) == 1);
  for (long n = 1;; n++) {
    siginfo_t info;
    char byte;
    CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 1 && info.si_fd == owned[0] && (info.si_band & POLLIN));
    CHECK(read(owned[0], &byte, 1) == 1 && fcntl(owned[0], F_GETOWN_EX, &to) == 0);
    CHECK(to.type == F_OWNER_TID && to.pid == (pid_t)syscall(SYS_gettid));
    step("owner", n);
    CHECK(write(news[1], "s", 1) == 1);
  }
  return arg;
}

static void hears(char what) {
  char byte;
  CHECK(read(news[0], &byte, 1) == 1);
  if (byte != what) FAIL("heard %c, not %c", byte, what);
}

static void exits(pid_t child, int with) {
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == with);
}

int main(void) {
  int lost[2];
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && pipe(many) == 0 && pipe(leave) == 0 && pipe(news) == 0);
  for (int i = 0; i < 2; i++) CHECK(pipe(turn[i]) == 0 && pipe(spliced + 2 * i) == 0 && pipe(teed + 2 * i) == 0);
  pid_t gone = fork();
  CHECK(gone >= 0);
  if (gone == 0) ancestor();
  CHECK(close(many[1]) == 0);
  exits(gone, 50);
  CHECK(read(leave[0], pids, sizeof pids) == sizeof pids && pipe(lost) == 0 && pipe(owned) == 0);
  for (int i = 0; i < 3; i++) {
    char byte;
    CHECK(read(news[0], &byte, 1) == 1);
  }
  CHECK(write(turn[FIRST][1], "g", 1) == 1);
  pid_t zombie = fork();
  CHECK(zombie >= 0);
  if (zombie == 0) _exit(54);
  signal(SIGPIPE, SIG_IGN);
  siginfo_t info;
  CHECK(close(lost[0]) == 0 && waitid(P_PID, zombie, &info, WEXITED | WNOWAIT) == 0);
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGRTMIN + 1);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  pthread_t thread;
  OK(pthread_create(&thread, NULL, splices, NULL));
  OK(pthread_create(&thread, NULL, tees, NULL));
  OK(pthread_create(&thread, NULL, owner, NULL));
  hears('o');
  for (long n = 1; !stopping(); n++) {
    char bytes[8];
    struct pollfd end = {many[0], POLLIN, 0};
    CHECK(poll(&end, 1, 0) == 0 && write(lost[1], "x", 1) < 0 && errno == EPIPE);
    CHECK(write(spliced[1], "moved", 5) == 5 && read(spliced[2], bytes, 8) == 5 && memcmp(bytes, "moved", 5) == 0);
    CHECK(write(teed[1], "both!", 5) == 5 && read(teed[2], bytes, 8) == 5 && memcmp(bytes, "both!", 5) == 0);
    CHECK(write(owned[1], "o", 1) == 1);
    hears('s');
    step("main", n);
    rest(10);
  }
  /* The pipe ends with its last writer; the first one's child hears of its end. */
  char byte;
  struct pollfd end = {many[0], POLLIN, 0};
  exits(pids[FIRST], 51);
  hears('!');
  CHECK(poll(&end, 1, 0) == 0 && write(leave[1], "l", 1) == 1);
  exits(pids[SECOND], 52);
  CHECK(poll(&end, 1, 20000) == 1 && read(many[0], &byte, 1) == 0);
  exits(zombie, 54);
  int status;
  CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 53 && wait(NULL) < 0 && errno == ECHILD);
  return done();
}
