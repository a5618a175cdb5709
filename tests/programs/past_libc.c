/* Children that are made by machine instructions of their own, past libc: by fork, clone and clone3. Some live all the time,
   each busy in another way, and have children of their own; `brief`: others end at once, or execute a program that way. */
#include "steps.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/wait.h>

extern char **environ;

static char self[512];
static int makes_brief;

static long past_libc(long number, long a, long b, long c, long d, long e) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
}

enum { CALLS = 4, CHILDREN = 5 };

static pid_t born(int how) {
  struct clone_args args = {.exit_signal = SIGCHLD};
  long pid;
  switch (how % CALLS) {
    case 0: pid = past_libc(SYS_fork, 0, 0, 0, 0, 0); break;
    case 1: pid = past_libc(SYS_clone, SIGCHLD, 0, 0, 0, 0); break;
    case 2: pid = past_libc(SYS_clone3, (long)&args, sizeof args, 0, 0, 0); break;
    default: pid = past_libc(SYS_clone, 0, 0, 0, 0, 0);
  }
  CHECK(pid >= 0);
  return pid;
}

static void ends(pid_t child, int with) {
  int status;
  pid_t ended;
  while ((ended = waitpid(child, &status, __WALL)) < 0) CHECK(errno == EINTR);
  CHECK(ended == child && WIFEXITED(status) && WEXITSTATUS(status) == with);
}

/* Children that end at once, by themselves or as another program, and one by libc. */
static void brief(long n) {
  int status = 1 + n % 90;
  pid_t child = born(n);
  if (child == 0) past_libc(SYS_exit_group, status, 0, 0, 0, 0);
  ends(child, status);
  child = born(n + 1);
  if (child == 0) {
    char code[16], *args[] = {self, code, NULL};
    snprintf(code, sizeof code, "%d", status);
    past_libc(SYS_execve, (long)self, (long)args, (long)environ, 0, 0);
    past_libc(SYS_exit_group, 96, 0, 0, 0, 0);
  }
  ends(child, status);
  child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(status);
  ends(child, status);
}

static int from, to;

static void exchange(const char *stream) {
  char byte = 1;
  for (long n = 1; !stopping(); n++) {
    CHECK(write(to, &byte, 1) == 1 && read(from, &byte, 1) == 1 && byte == 1);
    step(stream, n);
  }
}

static void waits_in_epoll(const char *stream) {
  int set = epoll_create1(EPOLL_CLOEXEC), none[2];
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(set >= 0 && pipe(none) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, none[0], &event) == 0);
  for (long n = 1; !stopping(); n++) {
    CHECK(past_libc(SYS_epoll_wait, set, (long)&event, 1, 30, 0) == 0);
    step(stream, n);
  }
}

static void allocates(const char *stream) {
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 20000; i++) {
      char *volatile memory = malloc(16 + (i * 7 + n) % 4000);
      CHECK(memory);
      free(memory);
    }
    step(stream, n);
  }
}

static void is_a_parent(const char *stream) {
  pid_t child = born(0);
  if (child == 0) {
    pid_t parent = getppid();
    for (long n = 1; !stopping(); n++) {
      CHECK(getppid() == parent);
      step("grandchild", n);
      rest(10);
    }
    _exit(20);
  }
  for (long n = 1; !stopping(); n++) {
    if (makes_brief) brief(n);
    step(stream, n);
    rest(10);
  }
  ends(child, 20);
}

static void *in_thread(void *none) {
  for (long n = 1; !stopping(); n++) {
    step("thread", n);
    rest(10);
  }
  return none;
}

static void makes_threads(const char *stream) {
  pthread_t thread;
  OK(pthread_create(&thread, NULL, in_thread, NULL));
  for (long n = 1; !stopping(); n++) {
    step(stream, n);
    rest(10);
  }
  OK(pthread_join(thread, NULL));
}

static const struct { const char *name; void (*work)(const char *); } WORKERS[CHILDREN] = {
    {"exchange", exchange}, {"epoll", waits_in_epoll}, {"allocates", allocates}, {"parent", is_a_parent},
    {"threaded", makes_threads}};

int main(int count, char **args) {
  makes_brief = count > 1 && strcmp(args[1], "brief") == 0;
  if (count > 1 && !makes_brief) return atoi(args[1]);
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK(length > 0);
  int there[2], back[2];
  CHECK(pipe(there) == 0 && pipe(back) == 0);
  pid_t children[CHILDREN];
  for (int i = 0; i < CHILDREN; i++) {
    pid_t parent = getpid();
    children[i] = born(i);
    if (children[i] == 0) {
      CHECK(getppid() == parent);
      from = there[0];
      to = back[1];
      WORKERS[i].work(WORKERS[i].name);
      _exit(20);
    }
  }
  from = back[0];
  to = there[1];
  fcntl(from, F_SETFL, O_NONBLOCK);
  char byte;
  for (long n = 1; !stopping(); n++) {
    if (read(from, &byte, 1) == 1) CHECK(write(to, &byte, 1) == 1);
    if (makes_brief && n % 4 == 0) brief(n);
    step("main", n);
    rest(5);
  }
  byte = 1;
  CHECK(write(to, &byte, 1) == 1);
  for (int i = 0; i < CHILDREN; i++) ends(children[i], 20);
  CHECK(waitpid(-1, NULL, __WALL) < 0 && errno == ECHILD);
  return done();
}
