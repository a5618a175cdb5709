/* A vfork whose child does nothing for a long time: while one thread of the parent waits for it, another one makes steps. */
#include "steps.h"
#include <sys/wait.h>

static int ends[2];

static void *starts(void *unused) {
  char byte;
  int status;
  pid_t child = vfork();
  CHECK(child >= 0);
  if (child == 0) {
    close(ends[1]);
    _exit(read(ends[0], &byte, 1) == 1 && byte == 'x' ? 5 : 6);
  }
  note("vfork is over");
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
  return unused;
}

int main(void) {
  pthread_t thread;
  CHECK(pipe(ends) == 0);
  OK(pthread_create(&thread, NULL, starts, NULL));
  for (long n = 1; !stopping(); n++) {
    step("main", n);
    rest(10);
  }
  note("stopping");
  CHECK(write(ends[1], "x", 1) == 1);
  OK(pthread_join(thread, NULL));
  return done();
}
