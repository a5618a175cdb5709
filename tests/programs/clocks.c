/* Polls the clocks, which live in the kernel's vdso, without a pause: most checkpoints find it there. What is read
   there costs less than a system call, and must go on to do so. */
#include "steps.h"
#include <sched.h>
#include <sys/time.h>

static long long in_ns(clockid_t clock) {
  struct timespec t;
  CHECK(clock_gettime(clock, &t) == 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Processor time that some readings of the clock cost, by the vdso or by the kernel: the best of a few. */
static long long cost(int by_kernel) {
  long long best = 0;
  for (int i = 0; i < 5; i++) {
    struct timespec t;
    long long start = in_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int k = 0; k < 2000; k++) CHECK((by_kernel ? syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t) : clock_gettime(CLOCK_MONOTONIC, &t)) == 0);
    long long took = in_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    /* Processor time counts from 0 again after a restart. */
    if (took > 0 && (best == 0 || took < best)) best = took;
  }
  return best;
}

int main(void) {
  /* Not on machines whose clock only the kernel can read. */
  int fast = 2 * cost(0) < cost(1);
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
    if (fast && 3 * cost(0) > 2 * cost(1)) FAIL("the vdso has lost its speed in step %ld", n);
    step("main", n);
  }
  return done();
}
