/* Processes that execute themselves at each step, though no process of the computation is their parent: the one that was
   launched, and an orphan. A third one only makes steps. */
#include "steps.h"
#include <sys/wait.h>

static char self[512];

static void again(const char *role, long n) {
  char number[24];
  snprintf(number, sizeof number, "%ld", n);
  execl(self, self, role, number, NULL);
  FAIL("exec: errno %d", errno);
}

static void make_relatives(void) {
  pid_t steady = fork();
  CHECK(steady >= 0);
  if (steady == 0) {
    for (long n = 1; !stopping(); n++) step("steady", n), rest(10);
    _exit(0);
  }
  pid_t between = fork();
  CHECK(between >= 0);
  if (between == 0) {
    pid_t child = getpid(), orphan = fork();
    CHECK(orphan >= 0);
    if (orphan > 0) _exit(0);
    while (getppid() == child) rest(1);
    again("orphan", 1);
  }
  int status;
  CHECK(waitpid(between, &status, 0) == between && status == 0);
}

int main(int count, char **args) {
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK(length > 0);
  if (count < 3) {
    make_relatives();
    again("first", 1);
  }
  long n = atol(args[2]);
  step(args[1], n);
  rest(20);
  if (stopping()) return strcmp(args[1], "first") == 0 ? done() : 0;
  again(args[1], n + 1);
}
