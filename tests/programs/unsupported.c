/* Holds an object that no plugin supports, and works on. Argument: what to hold. */
#include "steps.h"

int main(int argc, char **argv) {
  char params[256] = {0};
  long fd = -1;
  if (argc > 1 && strcmp(argv[1], "io_uring") == 0) fd = syscall(SYS_io_uring_setup, 4, params);
  if (argc > 1 && strcmp(argv[1], "userfaultfd") == 0) fd = syscall(SYS_userfaultfd, O_CLOEXEC | 1);
  CHECK(fd >= 0);
  note("holds %ld", fd);
  for (long n = 1; !stopping(); n++) {
    CHECK(fcntl((int)fd, F_GETFD) >= 0);
    step("main", n);
    rest(10);
  }
  return done();
}
