/* A process that asks for ids all the time: whatever a checkpoint meets is the answer to such a call, on its way from the
   kernel to the program. It leads a session, and its children begin others all the time. */
#include "steps.h"
#include <sys/wait.h>

static pid_t parent, own, group, session;

static void is(const char *call, long id, pid_t wanted) {
  if (id != wanted) FAIL("%s says %ld instead of %d (errno %d)", call, id, wanted, errno);
}

static void *asks(void *arg) {
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 20000; i++) {
      is("getpid", getpid(), own), is("getppid", getppid(), parent);
      is("getpgrp", getpgrp(), group), is("getpgid", getpgid(0), group), is("getsid", getsid(own), session);
    }
    step("libc", n);
  }
  return arg;
}

static void *asks_by_number(void *arg) {
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 20000; i++) {
      is("getpid", syscall(SYS_getpid), own), is("getppid", syscall(SYS_getppid), parent);
      is("getpgrp", syscall(SYS_getpgrp), group), is("getpgid", syscall(SYS_getpgid, 0), group);
      is("getsid", syscall(SYS_getsid, own), session);
    }
    step("number", n);
  }
  return arg;
}

int main(void) {
  pthread_t libc, number;
  pid_t child = fork();
  CHECK(child >= 0);
  if (child > 0) {
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
  }
  CHECK(setsid() > 0);
  parent = getppid(), own = getpid(), group = getpgrp(), session = getsid(0);
  OK(pthread_create(&libc, NULL, asks, NULL));
  OK(pthread_create(&number, NULL, asks_by_number, NULL));
  for (long n = 1; !stopping(); n++) {
    pid_t leader = fork();
    CHECK(leader >= 0);
    if (leader == 0) {
      pid_t begun = n % 2 ? setsid() : (pid_t)syscall(SYS_setsid);
      if (begun != getpid() || getsid(0) != begun) FAIL("session %d of %d", begun, getpid());
      _exit(0);
    }
    int status;
    CHECK(waitpid(leader, &status, 0) == leader && status == 0);
    step("sessions", n);
  }
  OK(pthread_join(libc, NULL));
  OK(pthread_join(number, NULL));
  return done();
}
