/* Threads that call a wrapped function all the time, from their work and from the handlers of signals that interrupt it; one
   of the handlers jumps out if the first argument says so. */
#include "steps.h"
#include <setjmp.h>

enum { THREADS = 3 };
static pthread_t threads[THREADS];
static sigjmp_buf out;
static int jumps;
static volatile sig_atomic_t can_jump;
static __thread long id;

static void handler(int number) {
  int before = errno;
  (void)number;
  CHECK(getppid() > 0);
  errno = before;
  static int signals;
  if (id == THREADS - 1 && ++signals % 50 == 0 && can_jump) {
    can_jump = 0;
    siglongjmp(out, 1);
  }
}

static void *work(void *argument) {
  char stream[16];
  id = (long)argument;
  snprintf(stream, sizeof stream, "t%ld", id);
  for (volatile long n = 1; !stopping(); n = n + 1) {
    for (volatile int i = 0; i < 300; i = i + 1) {
      if (jumps && id == THREADS - 1) {
        if (sigsetjmp(out, 1) == 0) can_jump = 1;
      }
      CHECK(getppid() > 0);
      can_jump = id == THREADS - 1 ? 0 : can_jump;
    }
    step(stream, n);
  }
  return NULL;
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  jumps = argc > 1 && strcmp(argv[1], "jumping") == 0;
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  for (long i = 0; i < THREADS; i++) OK(pthread_create(&threads[i], NULL, work, (void *)i));
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 300; i++) {
      OK(pthread_kill(threads[i % THREADS], SIGUSR1));
      struct timespec t = {0, 50000};
      nanosleep(&t, NULL);
    }
    step("main", n);
  }
  for (long i = 0; i < THREADS; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
