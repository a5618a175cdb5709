/* A program of several threads whose children live on: one beside it, others for a moment each. What a run time does at a
   fork it does here, too: a sanitizer looks how many threads there are. */
#include "steps.h"
#include <sys/wait.h>

static void *counting(void *name) {
  for (long n = 1; !stopping(); n++) {
    step(name, n);
    rest(10);
  }
  return NULL;
}

/* A child's status; a signal's is none. */
static int status_of(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  if (!WIFEXITED(status)) FAIL("a child has ended with %#x", status);
  return WEXITSTATUS(status);
}

int main(void) {
  pthread_t threads[2];
  OK(pthread_create(&threads[0], NULL, counting, "one"));
  OK(pthread_create(&threads[1], NULL, counting, "two"));
  pid_t beside = fork();
  CHECK(beside >= 0);
  if (beside == 0) {
    counting("beside");
    _exit(STATUS);
  }
  for (long n = 1; !stopping(); n++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      rest(10);
      _exit(n % 60);
    }
    CHECK(status_of(child) == n % 60);
    step("children", n);
  }
  CHECK(status_of(beside) == STATUS);
  for (int i = 0; i < 2; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
