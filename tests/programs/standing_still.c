/* A process that others stop and continue. It has no handler of SIGCONT, so no call of it may fail. */
#include "steps.h"
#include <poll.h>

static void *waits(void *arg) {
  for (long n = 1; !stopping(); n++) {
    CHECK(poll(NULL, 0, 10) == 0);
    step("poll", n);
  }
  return arg;
}

int main(void) {
  pthread_t thread;
  OK(pthread_create(&thread, NULL, waits, NULL));
  for (long n = 1; !stopping(); n++) {
    step("main", n);
    rest(10);
  }
  OK(pthread_join(thread, NULL));
  return done();
}
