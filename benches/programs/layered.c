// The cost of one call of a function in a library: prints `call NANOSECONDS`, the least of some runs.
// With -DLIBRARY: that library.
#ifdef LIBRARY
int dmtcp_bench_call(int value);
int dmtcp_bench_call(int value) { return value + 1; }
#else
#include <stdio.h>
#include <time.h>

int dmtcp_bench_call(int value);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(void) {
  enum { ROUNDS = 20, CALLS = 1000000 };
  double least = 1e18;
  int value = 0;
  for (int round = 0; round < ROUNDS; round++) {
    double start = now();
    for (int i = 0; i < CALLS; i++) value = dmtcp_bench_call(value);
    double took = (now() - start) / CALLS;
    if (took < least) least = took;
  }
  printf("call %.4f\n", least);
  return value != ROUNDS * CALLS;
}
#endif
