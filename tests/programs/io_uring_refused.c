/* Asks for an io_uring, in itself and in a child that executes this program again: there must be none. */
#include "steps.h"
#include <spawn.h>
#include <sys/wait.h>

static int refused(void) {
  char parameters[120] = {0};
  return syscall(SYS_io_uring_setup, 4, parameters) == -1 && errno == ENOSYS;
}

static void *ask(void *unused) {
  CHECK(refused());
  return unused;
}

int main(int argc, char **argv) {
  if (argc > 1) return refused() ? 0 : 1;
  for (long n = 1; !stopping(); n++) {
    pthread_t thread;
    OK(pthread_create(&thread, NULL, ask, NULL));
    OK(pthread_join(thread, NULL));
    CHECK(refused());
    pid_t child;
    char *args[] = {argv[0], "child", NULL};
    OK(posix_spawn(&child, argv[0], NULL, NULL, args, environ));
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    step("main", n);
    rest(30);
  }
  return done();
}
