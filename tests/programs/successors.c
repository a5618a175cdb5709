/* Lines of succession: each process makes the next one by way of a child that is killed as soon as that one is born, and
   ends. So nobody is left who knows of the newborn. */
#include "steps.h"
#include <sys/wait.h>

enum { LINES = 4, REIGN = 4 };

static void killed(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* True in the successor. */
static int succeed(void) {
  pid_t between = fork();
  CHECK(between >= 0);
  if (between > 0) {
    killed(between);
    return 0;
  }
  pid_t successor = fork();
  CHECK(successor >= 0);
  if (successor > 0) kill(getpid(), SIGKILL);
  return 1;
}

static void line(int number) {
  static const char *const NAMES[LINES] = {"first", "second", "third", "fourth"};
  for (long n = 1;; n++) {
    step(NAMES[number], n);
    if (stopping()) _exit(0);
    rest(5);
    if (n % REIGN == 0 && !succeed()) _exit(0);
  }
}

int main(void) {
  for (int number = 0; number < LINES; number++)
    if (succeed()) line(number);
  for (long n = 1; !stopping(); n++) {
    step("main", n);
    rest(10);
  }
  return done();
}
