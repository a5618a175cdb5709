/* Timers that expire all the time, some of them while the program stands still: each comes once for each time it is set. */
#include "steps.h"
#include <sys/time.h>

enum { FIRST = 40, POSIX = 8, ALL = POSIX + 1, ROUNDS = 10 };
static volatile long came[ALL];

static void on_signal(int sig) { came[sig == SIGALRM ? POSIX : sig - FIRST]++; }

static double now(void) {
  struct timespec t;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
  return t.tv_sec + t.tv_nsec / 1e9;
}

int main(void) {
  struct sigaction action = {.sa_flags = SA_RESTART, .sa_handler = on_signal};
  timer_t timers[POSIX];
  uint64_t random = 7;
  long set = 0;
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  for (int i = 0; i < POSIX; i++) {
    struct sigevent event = {.sigev_notify = i % 2 ? SIGEV_THREAD_ID : SIGEV_SIGNAL, .sigev_signo = FIRST + i};
    event._sigev_un._tid = gettid();
    CHECK(sigaction(FIRST + i, &action, NULL) == 0);
    CHECK(timer_create(i % 3 ? CLOCK_MONOTONIC : CLOCK_REALTIME, &event, &timers[i]) == 0);
  }
  for (long n = 1; !stopping(); n++) {
    for (int round = 0; round < ROUNDS; round++) {
      set++;
      for (int i = 0; i < POSIX; i++) {
        struct itimerspec time = {{0, 0}, {0, 1 + random_number(&random) % 4000000}};
        CHECK(timer_settime(timers[i], 0, &time, NULL) == 0);
      }
      struct itimerval time = {{0, 0}, {0, 1 + random_number(&random) % 4000}};
      CHECK(setitimer(ITIMER_REAL, &time, NULL) == 0);
      double start = now();
      for (int i = 0; i < ALL; i++)
        while (came[i] < set)
          if (now() - start > 10) FAIL("timer %d came %ld times, was set %ld times", i, came[i], set);
      for (int i = 0; i < ALL; i++)
        if (came[i] != set) FAIL("timer %d came %ld times, was set %ld times", i, came[i], set);
    }
    step("main", n);
  }
  return done();
}
