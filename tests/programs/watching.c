/* A child that has files of its parent in /proc open: they stay the parent's, whatever ids both have. */
#include "steps.h"
#include <sys/prctl.h>
#include <sys/wait.h>

static int below_parent(const char *name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d%s", getppid(), name);
  int number = open(path, O_RDONLY);
  CHECK(number >= 0);
  return number;
}

static void is_of_parent(int number) {
  char name[32];
  CHECK(pread(number, name, sizeof name, 0) == 7 && memcmp(name, "parent\n", 7) == 0);
}

int main(void) {
  CHECK(prctl(PR_SET_NAME, "parent") == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK(prctl(PR_SET_NAME, "child") == 0);
    int file = below_parent("/comm"), directory = below_parent("");
    for (long n = 1; !stopping(); n++) {
      is_of_parent(file);
      int again = openat(directory, "comm", O_RDONLY);
      CHECK(again >= 0);
      is_of_parent(again);
      CHECK(close(again) == 0);
      step("child", n);
      rest(10);
    }
    _exit(3);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3);
  return done();
}
