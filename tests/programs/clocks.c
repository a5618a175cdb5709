/* Polls the clocks, which live in the kernel's vdso, without a pause: most checkpoints find it there. */
#include "steps.h"
#include <sched.h>
#include <sys/time.h>

static long long in_ns(clockid_t clock) {
  struct timespec t;
  CHECK(clock_gettime(clock, &t) == 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void) {
  for (long n = 1; !stopping(); n++) {
    long long start = in_ns(CLOCK_MONOTONIC), last = start;
    for (int i = 0; i < 100000; i++) {
      long long t = in_ns(CLOCK_MONOTONIC);
      CHECK(t >= last);
      last = t;
      if (i % 100 == 0) {
        struct timeval tv;
        CHECK(gettimeofday(&tv, NULL) == 0 && tv.tv_sec > 1000000000 && time(NULL) > 1000000000);
        CHECK(sched_getcpu() >= 0);
        in_ns(CLOCK_PROCESS_CPUTIME_ID), in_ns(CLOCK_THREAD_CPUTIME_ID);
      }
    }
    step("main", n);
  }
  return done();
}
