/* Children that are somebody else's grandchildren, children that stand still, and every way to wait for a child. */
#include "steps.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* Led outside of the computation: it is not the same one again after a restart. */
static pid_t outer_session;

static pid_t status_of(pid_t child, int options, int *status) {
  pid_t ended;
  while ((ended = waitpid(child, status, options)) < 0) CHECK(errno == EINTR);
  return ended;
}

static void exits(pid_t child, int with) {
  int status;
  CHECK(status_of(child, 0, &status) == child && WIFEXITED(status) && WEXITSTATUS(status) == with);
}

static void has_none(void) { CHECK(waitpid(-1, NULL, __WALL) < 0 && errno == ECHILD); }

/* Makes steps; its parent, group and session stay what they are. */
static void work(const char *stream, int status) {
  pid_t parent = getppid(), group = getpgrp(), session = getsid(0);
  for (long n = 1; !stopping(); n++) {
    CHECK(getppid() == parent && getpgrp() == group);
    CHECK(session == outer_session || getsid(0) == session);
    step(stream, n);
    rest(10);
  }
  _exit(status);
}

/* A grandchild whose parent ends at once; returns its pid when it has been adopted. */
static pid_t adopted(void (*first)(void), const char *stream, int status) {
  int told[2];
  CHECK(pipe(told) == 0);
  pid_t child = fork();
  if (child == 0) {
    first();
    pid_t own = getpid();
    pid_t grandchild = fork();
    if (grandchild == 0) {
      close(told[0]), close(told[1]);
      while (getppid() == own) rest(1);
      if (stream) work(stream, status);
      _exit(status);
    }
    CHECK(write(told[1], &grandchild, sizeof grandchild) == sizeof grandchild);
    _exit(0);
  }
  pid_t grandchild;
  CHECK(read(told[0], &grandchild, sizeof grandchild) == sizeof grandchild && close(told[0]) == 0 && close(told[1]) == 0);
  exits(child, 0);
  return grandchild;
}

static void nothing(void) {}
static void own_session(void) { CHECK(setsid() == getpid()); }
static void own_group(void) { CHECK(setpgid(0, 0) == 0); }

/* One that adopts: daemons whose sessions have no leader any more, members of groups whose leader has ended, and a
   grandchild in a session whose leader lives. */
static void subreaper(void) {
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  pid_t same = adopted(nothing, "same", 31);
  pid_t daemon = adopted(own_session, "daemon", 32);
  pid_t member = adopted(own_group, "member", 33);
  int told[2];
  CHECK(pipe(told) == 0);
  pid_t leader = fork();
  if (leader == 0) {
    own_session();
    pid_t first = fork();
    if (first == 0) {
      pid_t own = getpid(), orphan = fork();
      if (orphan == 0) {
        while (getppid() == own) rest(1);
        work("orphan", 34);
      }
      CHECK(write(told[1], &orphan, sizeof orphan) == sizeof orphan);
      _exit(0);
    }
    exits(first, 0);
    work("leader", 35);
  }
  pid_t orphan;
  CHECK(read(told[0], &orphan, sizeof orphan) == sizeof orphan && close(told[0]) == 0 && close(told[1]) == 0);
  for (long n = 1; !stopping(); n++) {
    int reaps = 0;
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &reaps) == 0 && reaps == 1);
    CHECK(getsid(daemon) != getsid(0) && getpgid(member) != getpgrp() && getsid(orphan) == leader);
    siginfo_t info;
    CHECK(waitid(P_PID, daemon, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    exits(adopted(n % 2 ? own_session : nothing, NULL, n % 30), n % 30);
    step("main", n);
    rest(10);
  }
  exits(same, 31);
  exits(daemon, 32);
  exits(member, 33);
  exits(orphan, 34);
  exits(leader, 35);
  has_none();
}

/* A child that is stopped and continued, and is waited for each time. It ends when it is told to, not in the middle. */
static void stopped(void) {
  int over[2];
  CHECK(pipe(over) == 0);
  pid_t child = fork();
  if (child == 0) {
    struct pollfd told = {over[0], POLLIN, 0};
    close(over[1]);
    for (long n = 1; poll(&told, 1, 0) == 0; n++) {
      step("child", n);
      rest(10);
    }
    _exit(36);
  }
  siginfo_t info;
  for (long n = 1; !stopping(); n++) {
    memset(&info, 0, sizeof info);
    CHECK(kill(child, SIGSTOP) == 0);
    while (waitid(P_PID, child, &info, WSTOPPED) < 0) CHECK(errno == EINTR);
    CHECK(info.si_pid == child && info.si_code == CLD_STOPPED && info.si_status == SIGSTOP);
    rest(30);
    CHECK(kill(child, SIGCONT) == 0);
    while (waitid(P_PID, child, &info, WCONTINUED) < 0) CHECK(errno == EINTR);
    CHECK(info.si_pid == child && info.si_code == CLD_CONTINUED && info.si_status == SIGCONT);
    step("main", n);
    rest(10);
  }
  CHECK(close(over[1]) == 0);
  exits(child, 36);
  has_none();
}

/* Letter of a process's state, as in proc(5). */
static char state_of(pid_t pid) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
  CHECK(length > 0 && close(file) == 0);
  text[length] = 0;
  return strrchr(text, ')')[2];
}

/* Children that are stopped as soon as they are there, and stay so until they are continued: those of fork, and programs. */
static void stopped_at_birth(void) {
  int gate[2];
  CHECK(pipe2(gate, O_CLOEXEC) == 0);
  for (long n = 1; !stopping(); n++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      char byte;
      if (n % 2) _exit(read(gate[0], &byte, 1) == 1 ? byte : 1);
      CHECK(dup2(gate[0], 0) == 0);
      execl("/bin/sh", "sh", "-c", "read -r status; exit $status", (char *)NULL);
      _exit(2);
    }
    CHECK(kill(child, SIGSTOP) == 0);
    rest(n % 3 * 10);
    /* Who was continued for a checkpoint stops again behind it. */
    for (int tries = 0; state_of(child) != 'T'; rest(10)) CHECK(tries++ < 1000);
    CHECK(waitpid(child, NULL, WNOHANG) == 0 && kill(child, SIGCONT) == 0);
    CHECK(n % 2 ? write(gate[1], "*", 1) == 1 : write(gate[1], "42\n", 3) == 3);
    exits(child, 42);
    step("main", n);
  }
  has_none();
}

/* Children that are stopped right before they execute a program: a checkpoint for whose sake they are continued leaves them
   stopped, before the program or in it. */
static void stopped_before_programs(void) {
  enum { COUNT = 4 };
  int gate[2];
  CHECK(pipe2(gate, O_CLOEXEC) == 0);
  for (long n = 1; !stopping(); n++) {
    pid_t children[COUNT];
    for (int i = 0; i < COUNT; i++) {
      CHECK((children[i] = fork()) >= 0);
      if (children[i] != 0) {
        CHECK(i % 2 == 1 || kill(children[i], SIGSTOP) == 0);
        continue;
      }
      CHECK(dup2(gate[0], 0) == 0 && (i % 2 == 0 || raise(SIGSTOP) == 0));
      execl("/bin/sh", "sh", "-c", "read -r status; exit $status", (char *)NULL);
      _exit(2);
    }
    for (int round = 0; round < 5; round++) {
      for (int i = 0; i < COUNT; i++)
        for (int tries = 0; state_of(children[i]) != 'T'; rest(10)) CHECK(tries++ < 1000);
      rest(10);
    }
    for (int i = 0; i < COUNT; i++) {
      CHECK(waitpid(children[i], NULL, WNOHANG) == 0 && kill(children[i], SIGCONT) == 0);
      CHECK(write(gate[1], "42\n", 3) == 3);
      exits(children[i], 42);
    }
    step("main", n);
  }
  has_none();
}

/* A child that was continued, of which nobody has waited for the news. */
static void continued(void) {
  pid_t child = fork();
  if (child == 0) work("child", 37);
  siginfo_t info;
  for (long n = 1; !stopping(); n++) {
    if (n % 40 == 1) {
      if (n > 1) {
        while (waitid(P_PID, child, &info, WCONTINUED) < 0) CHECK(errno == EINTR);
        CHECK(info.si_pid == child && info.si_code == CLD_CONTINUED);
        CHECK(waitid(P_PID, child, &info, WCONTINUED | WNOHANG) == 0 || errno == ECHILD);
      }
      CHECK(kill(child, SIGSTOP) == 0);
      while (waitid(P_PID, child, &info, WSTOPPED) < 0) CHECK(errno == EINTR);
      CHECK(kill(child, SIGCONT) == 0);
    }
    step("main", n);
    rest(5);
  }
  exits(child, 37);
  has_none();
}

static volatile sig_atomic_t rung, rung_by;

static void ring(int number, siginfo_t *info, void *context) {
  (void)number, (void)context;
  rung_by = info->si_pid;
  rung++;
}

/* Whoever signals everybody reaches all of the computation but itself. It does so only once there is nobody else: in a pid
   namespace, when there is a file `alone`. */
static void everybody(void) {
  enum { COUNT = 3 };
  struct sigaction action = {.sa_sigaction = ring, .sa_flags = SA_SIGINFO | SA_RESTART};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  int answers[2];
  CHECK(pipe(answers) == 0);
  pid_t children[COUNT], own = getpid();
  for (int i = 0; i < COUNT; i++) {
    if ((children[i] = fork()) != 0) continue;
    if (i == 1) own_group();
    if (i == 2) own_session();
    for (int heard = 0; !stopping(); ) {
      /* Until the signal comes, or it is time to look for the end. */
      struct timespec moment = {0, 2000000};
      nanosleep(&moment, NULL);
      if (rung == heard) continue;
      CHECK(rung == ++heard && rung_by == own && write(answers[1], "r", 1) == 1);
    }
    _exit(0);
  }
  for (long n = 1; !stopping(); n++) {
    char byte;
    if (access(in_dir("alone"), F_OK) == 0) {
      CHECK(kill(-1, SIGUSR1) == 0);
      for (int i = 0; i < COUNT; i++) CHECK(read(answers[0], &byte, 1) == 1);
      CHECK(rung == 0);
      note("rang");
    }
    step("main", n);
    rest(5);
  }
  for (int i = 0; i < COUNT; i++) exits(children[i], 0);
  has_none();
}

static int open_pidfd(pid_t pid) {
  int number = syscall(SYS_pidfd_open, pid, 0);
  CHECK(number >= 0 && fcntl(number, F_SETFD, FD_CLOEXEC) == 0);
  return number;
}

/* A child that ends a moment later, in a group of its own if that is wanted. */
static pid_t brief(long n, int leads) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    if (leads) CHECK(setpgid(0, 0) == 0);
    rest(n % 12);
    if (n % 5 == 4) raise(SIGUSR1);
    _exit(n % 50);
  }
  if (leads) CHECK(setpgid(child, child) == 0 || errno == EACCES || errno == ESRCH);
  return child;
}

/* Every way to wait, for children that end before, during and after a checkpoint. */
static void waits(void) {
  pid_t steady = fork();
  if (steady == 0) work("steady", 38);
  for (long n = 1; !stopping(); n++) {
    enum { WAYS = 9 };
    for (int way = 0; way < WAYS; way++) {
      pid_t child = brief(n + way, 1), waited;
      int status = 0, by_id = way >= 5, number = -1;
      struct rusage *usage = NULL;
      siginfo_t info = {0};
      if (way == 8) number = open_pidfd(child);
      /* Look first, take then. */
      if (by_id)
        while (waitid(P_PID, child, &info, WEXITED | WNOWAIT) < 0) CHECK(errno == EINTR);
      do
        switch (way) {
          case 0: waited = waitpid(child, &status, 0); break;
          case 1: waited = waitpid(-child, &status, 0); break;
          case 2: waited = wait4(child, &status, WUNTRACED, usage); break;
          case 3: waited = wait3(&status, 0, usage); break;
          case 4:
            while ((waited = waitpid(child, &status, WNOHANG)) == 0) rest(1);
            break;
          case 5: waited = waitid(P_PID, child, &info, WEXITED) == 0 ? info.si_pid : -1; break;
          case 6: waited = waitid(P_PGID, child, &info, WEXITED) == 0 ? info.si_pid : -1; break;
          case 7: waited = waitid(P_ALL, 0, &info, WEXITED | WSTOPPED) == 0 ? info.si_pid : -1; break;
          default: waited = waitid(P_PIDFD, number, &info, WEXITED) == 0 ? info.si_pid : -1;
        }
      while (waited < 0 && errno == EINTR);
      if (waited == steady && stopping()) return;
      if (waited != child) FAIL("way %d: %d for %d, errno %d", way, waited, child, errno);
      int killed = (n + way) % 5 == 4, value = killed ? SIGUSR1 : (n + way) % 50;
      if (by_id)
        CHECK(info.si_code == (killed ? CLD_KILLED : CLD_EXITED) && info.si_status == value && info.si_signo == SIGCHLD);
      else
        CHECK(killed ? WIFSIGNALED(status) && WTERMSIG(status) == value : WIFEXITED(status) && WEXITSTATUS(status) == value);
      CHECK(number < 0 || close(number) == 0);
      CHECK(waitpid(child, NULL, WNOHANG) < 0 && errno == ECHILD);
      step("main", n * WAYS + way - WAYS + 1);
    }
  }
  exits(steady, 38);
  has_none();
}

int main(int count, char **kinds) {
  CHECK(count == 2);
  outer_session = getsid(0);
  const struct { const char *name; void (*run)(void); } all[] = {
      {"subreaper", subreaper}, {"stopped", stopped}, {"stopped_at_birth", stopped_at_birth},
      {"stopped_before_programs", stopped_before_programs}, {"continued", continued}, {"waits", waits}, {"everybody", everybody}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (strcmp(all[i].name, kinds[1]) == 0) {
      all[i].run();
      return done();
    }
  FAIL("no kind %s", kinds[1]);
}
