/* A family with a member that cannot be stopped for a while: it waits in the kernel for a child that shares its memory
   (vfork), and that lets it go on when a file is there. */
#include "steps.h"
#include <sys/wait.h>

static void member(void) {
  const char *go = in_dir("go");
  step("member", 1);
  pid_t child = vfork();
  CHECK(child >= 0);
  if (child == 0) {
    struct timespec t = {0, 10000000};
    while (access(go, F_OK) != 0) nanosleep(&t, NULL);
    _exit(3);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3);
  for (long n = 2; !stopping(); n++) {
    step("member", n);
    rest(10);
  }
  _exit(4);
}

int main(void) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) member();
  for (long n = 1; !stopping(); n++) {
    step("main", n);
    rest(10);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 4);
  return done();
}
