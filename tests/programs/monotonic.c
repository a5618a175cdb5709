/* Reads the clocks that count from the start of the machine, and waits for points of them: they must not go back, nor leap.
   With the argument `real` the distance to the wall clock must stay. */
#include "steps.h"

#define SECOND 1000000000LL

static long long now(clockid_t clock) {
  struct timespec t;
  CHECK(clock_gettime(clock, &t) == 0);
  return t.tv_sec * SECOND + t.tv_nsec;
}

int main(int argc, char **argv) {
  static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE};
  const int count = sizeof clocks / sizeof *clocks, real = argc > 1 && strcmp(argv[1], "real") == 0;
  long long last[4] = {0}, distance = now(CLOCK_MONOTONIC) - now(CLOCK_REALTIME);
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < count; i++) {
      long long t = now(clocks[i]);
      CHECK(t >= last[i]);
      CHECK(last[i] == 0 || real || t - last[i] < 60 * SECOND);
      last[i] = t;
    }
    long long apart = now(CLOCK_MONOTONIC) - now(CLOCK_REALTIME) - distance;
    CHECK(!real || llabs(apart) < 4 * SECOND);
    long long deadline = now(CLOCK_MONOTONIC) + SECOND / 50;
    struct timespec until = {deadline / SECOND, deadline % SECOND};
    OK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    CHECK(now(CLOCK_MONOTONIC) >= deadline);
    step("main", n);
  }
  return done();
}
