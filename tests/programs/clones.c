/* Children that are made past fork: by clone, by system calls of every kind, by vfork in ways that few programs use. Some
   live all the time, others are born and end between two steps. */
#include "steps.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/wait.h>

enum { STACK = 256 << 10 };

static pid_t pid, parent;

/* What every child does: it allocates, forks, and knows who it is. */
static int work(void *stream) {
  pid = getpid();
  parent = getppid();
  CHECK(pid == syscall(SYS_getpid));
  for (long n = 1; !stopping(); n++) {
    CHECK(getpid() == pid && getppid() == parent);
    void *memory = malloc(100 + n % 1000);
    CHECK(memory);
    free(memory);
    step(stream, n);
    rest(10);
  }
  _exit(20);
}

static int brief(void *status) { return *(int *)status; }

static pid_t by_clone(int (*function)(void *), int flags, void *argument) {
  char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(stack != MAP_FAILED);
  pid_t child = clone(function, stack + STACK, flags, argument);
  CHECK(child > 0 && munmap(stack, STACK) == 0);
  return child;
}

static pid_t by_call(int how, pid_t *written) {
  struct clone_args args = {.flags = CLONE_PARENT_SETTID, .parent_tid = (uintptr_t)written, .exit_signal = SIGCHLD};
  switch (how) {
    case 0: return *written = syscall(SYS_fork);
    case 1: return syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, written, 0, 0);
    case 2: return syscall(SYS_clone, CLONE_CHILD_SETTID | CLONE_PARENT_SETTID | SIGCHLD, 0, written, written, 0);
    default: return syscall(SYS_clone3, &args, sizeof args);
  }
}

enum { CALLS = 4 };

static void ends(pid_t child, int with, int options) {
  int status;
  pid_t ended;
  while ((ended = waitpid(child, &status, options)) < 0) CHECK(errno == EINTR);
  CHECK(ended == child && WIFEXITED(status) && WEXITSTATUS(status) == with);
}

/* Past fork. */
static void cloned(void) {
  pid_t children[CALLS + 2], written[CALLS];
  static char *names[CALLS] = {"fork", "clone", "tids", "clone3"};
  for (int how = 0; how < CALLS; how++) {
    children[how] = by_call(how, &written[how]);
    if (children[how] == 0) {
      CHECK(how != 2 || written[how] == getpid());
      work(names[how]);
    }
    CHECK(children[how] > 0 && written[how] == children[how]);
  }
  children[CALLS] = by_clone(work, SIGCHLD, "function");
  children[CALLS + 1] = by_clone(work, 0, "silent");
  pid = getpid();
  for (long n = 1; !stopping(); n++) {
    int status = n % 50, *argument = &status, again;
    CHECK(getpid() == pid);
    ends(by_clone(brief, SIGCHLD, argument), status, 0);
    pid_t silent = by_clone(brief, 0, argument);
    CHECK(waitpid(silent, &again, 0) < 0 && errno == ECHILD);
    ends(silent, status, __WCLONE);
    pid_t told = 0, child = by_call(n % CALLS, &told);
    if (child == 0) _exit(status);
    CHECK(told == child);
    ends(child, status, 0);
    CHECK(waitpid(children[CALLS + 1], NULL, WNOHANG) < 0 && errno == ECHILD);
    CHECK(waitid(P_PID, children[CALLS + 1], NULL, WEXITED | WNOHANG | WNOWAIT | __WCLONE) == 0);
    step("main", n);
    rest(5);
  }
  for (int i = 0; i < CALLS + 1; i++) ends(children[i], 20, 0);
  ends(children[CALLS + 1], 20, __WCLONE);
  CHECK(waitpid(-1, NULL, __WALL) < 0 && errno == ECHILD);
}

/* A child that gives its parent another child. */
static void given(void) {
  int told[2];
  CHECK(pipe(told) == 0);
  pid_t giver = fork();
  if (giver == 0) {
    pid_t sibling = by_clone(work, CLONE_PARENT | SIGCHLD, "sibling");
    CHECK(write(told[1], &sibling, sizeof sibling) == sizeof sibling);
    CHECK(waitpid(sibling, NULL, WNOHANG) < 0 && errno == ECHILD);
    work("giver");
  }
  pid_t sibling;
  CHECK(read(told[0], &sibling, sizeof sibling) == sizeof sibling);
  for (long n = 1; !stopping(); n++) {
    siginfo_t info;
    CHECK(waitid(P_PID, sibling, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    step("main", n);
    rest(10);
  }
  ends(giver, 20, 0);
  ends(sibling, 20, 0);
}

/* By vfork: children that take their time, that lead groups, that have children of their own before they end. */
static void *vforks(void *stream) {
  for (long n = 1; !stopping(); n++) {
    volatile int seen = 0;
    int status = n % 40, how = n % 4;
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
      seen = getpid();
      struct timespec moment = {0, 7000000};
      switch (how) {
        case 0: break;
        case 1: nanosleep(&moment, NULL); break;
        case 2: setpgid(0, 0); break;
        case 3: {
          pid_t inner = vfork();
          if (inner == 0) execl("/bin/sh", "sh", "-c", "exit 9", NULL);
          int inner_status;
          while (waitpid(inner, &inner_status, 0) < 0) {}
          if (WEXITSTATUS(inner_status) != 9) status = 60;
        }
      }
      if (how < 2) execl("/bin/sh", "sh", "-c", "exit $0", (char[]){'0' + status / 10, '0' + status % 10, 0}, NULL);
      _exit(status);
    }
    CHECK(seen == child);
    ends(child, status, 0);
    step(stream, n);
  }
  return stream;
}

static void vforked(void) {
  pthread_t thread;
  OK(pthread_create(&thread, NULL, vforks, "thread"));
  vforks("main");
  OK(pthread_join(thread, NULL));
}

int main(int count, char **kinds) {
  CHECK(count == 2);
  const struct { const char *name; void (*run)(void); } all[] = {{"cloned", cloned}, {"given", given}, {"vforked", vforked}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (strcmp(all[i].name, kinds[1]) == 0) {
      all[i].run();
      return done();
    }
  FAIL("no kind %s", kinds[1]);
}
