/* setitimer(2) of the three kinds: each goes on with its interval, and none comes twice in the time of one. */
#include "steps.h"
#include <sys/time.h>

enum { KINDS = 3, PERIOD_US = 30000 };
static const int signals[KINDS] = {SIGALRM, SIGVTALRM, SIGPROF};
static volatile long count[KINDS];

static void on_signal(int sig) {
  for (int i = 0; i < KINDS; i++) count[i] += sig == signals[i];
}

static double now(void) {
  struct timespec t;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
  return t.tv_sec + t.tv_nsec / 1e9;
}

int main(void) {
  struct sigaction action = {.sa_flags = SA_RESTART, .sa_handler = on_signal};
  struct itimerval time = {{0, PERIOD_US}, {0, PERIOD_US}}, got;
  double start = now();
  for (int i = 0; i < KINDS; i++) CHECK(sigaction(signals[i], &action, NULL) == 0 && setitimer(i, &time, NULL) == 0);
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < KINDS; i++) {
      long before = count[i];
      for (double from = now(); count[i] == before;)
        if (now() - from > 20) FAIL("timer %d: no more signals after %ld", i, before);
      CHECK(getitimer(i, &got) == 0 && got.it_interval.tv_usec == PERIOD_US && got.it_value.tv_sec == 0);
    }
    CHECK(count[ITIMER_REAL] <= (now() - start) * 1e6 / PERIOD_US + 3);
    step("main", n);
  }
  return done();
}
