/* OpenMP: parallel loops, reductions, a critical section; libgomp's threads wait and spin in between. */
#include "steps.h"
#include <omp.h>

enum { SIZE = 400000 };

int main(void) {
  double *a = malloc(SIZE * sizeof *a);
  CHECK(a);
  omp_set_num_threads(4);
  for (long n = 1; !stopping(); n++) {
    double sum = 0;
    int entered = 0;
#pragma omp parallel for schedule(dynamic, 1000) reduction(+ : sum)
    for (int i = 0; i < SIZE; i++) {
      a[i] = (double)(i % 100) * n;
      sum += a[i];
    }
    CHECK(sum == 49.5 * SIZE * n);
#pragma omp parallel
    {
#pragma omp critical
      entered++;
    }
    CHECK(entered == 4);
    step("main", n);
    rest(5);
  }
  return done();
}
