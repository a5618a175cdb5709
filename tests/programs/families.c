/* Families: parents, sessions, groups, children that have ended, orphans. Every step compares all ids with those of the
   start. */
#include "steps.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static pid_t pid, parent, group, session;

static void learn(void) {
  pid = getpid();
  parent = getppid();
  group = getpgrp();
  session = getsid(0);
}

/* The first process has another parent after a restart. */
static pid_t first_process;

static void compare(void) {
  CHECK(getpid() == pid && (pid == first_process || getppid() == parent));
  /* What is led outside of the computation is not the same group or session again. */
  CHECK(group != pid || getpgrp() == pid);
  CHECK(session != pid || getsid(0) == pid);
}

/* Makes steps until the end. */
static void work(const char *stream, int status) {
  learn();
  for (long n = 1; !stopping(); n++) {
    compare();
    step(stream, n);
    rest(10);
  }
  _exit(status);
}

static pid_t fork_worker(const char *stream, int status) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) work(stream, status);
  return child;
}

static int status_of(pid_t child) {
  int status;
  pid_t ended;
  while ((ended = waitpid(child, &status, 0)) < 0) CHECK(errno == EINTR);
  CHECK(ended == child);
  return status;
}

static void exits(pid_t child, int with) {
  int status = status_of(child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == with);
}

/* Three generations: a session, a group with a second member, and a child that stays in the first session. */
static void tree(void) {
  int told[2];
  CHECK(pipe(told) == 0);
  pid_t own_session = fork();
  if (own_session == 0) {
    pid_t early = fork_worker("early", 1);
    CHECK(setsid() == getpid());
    learn();
    pid_t late = fork_worker("late", 2);
    pid_t inner = fork();
    if (inner == 0) {
      CHECK(setsid() == getpid());
      work("inner", 3);
    }
    while (getsid(inner) != inner) rest(1);
    pid_t id = early;
    CHECK(write(told[1], &id, sizeof id) == sizeof id);
    for (long n = 1; !stopping(); n++) {
      compare();
      CHECK(getsid(early) != pid && getsid(late) == pid && getpgid(late) == pid);
      CHECK(getsid(inner) == inner && getpgid(inner) == inner);
      step("leader", n);
      rest(10);
    }
    exits(early, 1);
    exits(late, 2);
    exits(inner, 3);
    _exit(11);
  }
  pid_t early;
  CHECK(read(told[0], &early, sizeof early) == sizeof early && close(told[0]) == 0 && close(told[1]) == 0);
  pid_t own_group = fork();
  if (own_group == 0) {
    CHECK(setpgid(0, 0) == 0);
    work("group", 12);
  }
  CHECK(setpgid(own_group, own_group) == 0);
  pid_t member = fork();
  if (member == 0) {
    CHECK(setpgid(0, own_group) == 0);
    work("member", 13);
  }
  CHECK(setpgid(member, own_group) == 0);
  learn();
  for (long n = 1; !stopping(); n++) {
    compare();
    CHECK(getpgid(own_group) == own_group && getpgid(member) == own_group && getsid(member) == getsid(0));
    CHECK(getsid(own_session) == own_session && getsid(early) == getsid(0));
    step("main", n);
    rest(10);
  }
  exits(own_session, 11);
  exits(own_group, 12);
  exits(member, 13);
}

/* The parent makes no step: it waits all the time. */
static void waiting(void) {
  pid_t first = fork_worker("first", 3);
  pid_t second = fork();
  if (second == 0) {
    pid_t third = fork_worker("third", 4);
    siginfo_t info;
    while (waitid(P_PID, third, &info, WEXITED) < 0) CHECK(errno == EINTR);
    CHECK(info.si_pid == third && info.si_status == 4 && info.si_code == CLD_EXITED);
    raise(SIGKILL);
  }
  exits(first, 3);
  int status;
  pid_t ended;
  while ((ended = wait(&status)) < 0) CHECK(errno == EINTR);
  CHECK(ended == second && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  CHECK(wait(&status) < 0 && errno == ECHILD);
}

/* Whether a child's end was signalled; the signal is blocked. */
static int told_of_end(void) {
  sigset_t pending;
  CHECK(sigpending(&pending) == 0);
  return sigismember(&pending, SIGCHLD);
}

/* Children that have ended and are waited for after the restarts only; one leads a group that has another member. */
static void ended(void) {
  enum { COUNT = 4 };
  pid_t children[COUNT];
  for (int i = 0; i < COUNT; i++) {
    children[i] = fork();
    CHECK(children[i] >= 0);
    if (children[i] == 0) {
      if (i == 0) _exit(33);
      if (i == 3) {
        setpgid(0, 0);
        _exit(0);
      }
      raise(i == 1 ? SIGKILL : SIGRTMIN + 5);
    }
    siginfo_t info;
    CHECK(waitid(P_PID, children[i], &info, WEXITED | WNOWAIT) == 0);
  }
  pid_t member = fork();
  if (member == 0) {
    CHECK(setpgid(0, children[3]) == 0);
    group = children[3];
    work("member", 5);
  }
  sigset_t end;
  sigemptyset(&end);
  sigaddset(&end, SIGCHLD);
  CHECK(sigprocmask(SIG_BLOCK, &end, NULL) == 0);
  learn();
  for (long n = 1; !stopping(); n++) {
    compare();
    siginfo_t info = {0};
    CHECK(waitid(P_PID, children[0], &info, WEXITED | WNOWAIT | WNOHANG) == 0);
    CHECK(info.si_pid == children[0] && info.si_status == 33);
    CHECK(n < 3 || getpgid(member) == children[3]);
    CHECK(!told_of_end() || stopping());
    step("main", n);
    rest(10);
  }
  exits(children[0], 33);
  int status = status_of(children[1]);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  status = status_of(children[2]);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGRTMIN + 5);
  exits(children[3], 0);
  exits(member, 5);
  CHECK(wait(&status) < 0 && errno == ECHILD);
}

/* A daemon of the second fork: leader of its session and parent are gone. A group whose leader is gone. */
static void orphans(void) {
  int told[2];
  CHECK(pipe(told) == 0);
  pid_t first = fork();
  if (first == 0) {
    CHECK(setsid() == getpid());
    if (fork() == 0) {
      pid_t leader = getsid(0);
      while (getppid() == leader || kill(leader, 0) == 0) rest(1);
      CHECK(getpgrp() == leader);
      pid_t child = fork_worker("kid", 3);
      CHECK(write(told[1], &leader, sizeof leader) == sizeof leader);
      for (long n = 1; !stopping(); n++) {
        CHECK(getsid(0) == leader && getpgrp() == leader && getsid(child) == leader && getpgid(child) == leader);
        CHECK(kill(leader, 0) < 0 && errno == ESRCH && kill(-leader, 0) == 0);
        step("daemon", n);
        rest(10);
      }
      exits(child, 3);
      _exit(0);
    }
    _exit(0);
  }
  exits(first, 0);
  pid_t leader;
  CHECK(read(told[0], &leader, sizeof leader) == sizeof leader && leader == first);
  pid_t brief = fork();
  if (brief == 0) {
    rest(100);
    _exit(0);
  }
  CHECK(setpgid(brief, brief) == 0);
  pid_t left = fork();
  if (left == 0) {
    CHECK(setpgid(0, brief) == 0);
    rest(200);
    work("left", 6);
  }
  CHECK(setpgid(left, brief) == 0);
  exits(brief, 0);
  learn();
  for (long n = 1; !stopping(); n++) {
    compare();
    CHECK(getpgid(left) == brief && kill(brief, 0) < 0 && errno == ESRCH && getsid(left) == getsid(0));
    step("main", n);
    rest(10);
  }
  exits(left, 6);
}

/* Someone whose parent is gone, in a session whose leader lives. */
static void adopted(void) {
  pid_t leader = fork();
  if (leader != 0) {
    exits(leader, 9);
    return;
  }
  CHECK(setsid() == getpid());
  pid_t first = fork();
  if (first == 0) {
    if (fork() == 0) {
      rest(100);
      session = getsid(0);
      CHECK(session != getpid());
      for (long n = 1; !stopping(); n++) {
        CHECK(getsid(0) == session && kill(session, 0) == 0 && getppid() != session);
        step("adopted", n);
        rest(10);
      }
      _exit(0);
    }
    _exit(0);
  }
  exits(first, 0);
  learn();
  for (long n = 1; !stopping(); n++) {
    compare();
    step("main", n);
    rest(10);
  }
  rest(300);
  _exit(9);
}

/* A daemon as books teach it: nobody is left of those who started it. */
static void daemonized(void) {
  CHECK(daemon(0, 0) == 0 && getsid(0) == getpid());
  pid_t leader = getpid();
  pid_t again = fork();
  CHECK(again >= 0);
  if (again > 0) _exit(0);
  while (getppid() == leader) rest(1);
  session = getsid(0);
  CHECK(session == leader && session != getpid());
  pid = getpid();
  for (long n = 1; !stopping(); n++) {
    char directory[8];
    CHECK(getcwd(directory, sizeof directory) && strcmp(directory, "/") == 0);
    CHECK(getsid(0) == session && getpgrp() == session && getpid() == pid);
    CHECK(read(0, directory, 1) == 0 && write(1, "x", 1) == 1 && !isatty(2));
    step("daemon", n);
    rest(10);
  }
}

int main(int count, char **kinds) {
  CHECK(count == 2);
  first_process = getpid();
  const struct { const char *name; void (*run)(void); } all[] = {
      {"tree", tree}, {"waiting", waiting}, {"ended", ended}, {"orphans", orphans}, {"adopted", adopted},
      {"daemonized", daemonized}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (strcmp(all[i].name, kinds[1]) == 0) {
      all[i].run();
      return done();
    }
  FAIL("no kind %s", kinds[1]);
}
