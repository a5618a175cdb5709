// TBB inside of OpenMP inside of threads: pools of several run times in one process.
#include "steps.h"
#include <numeric>
#include <omp.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_reduce.h>
#include <thread>
#include <vector>

static long long sum_of(const std::vector<long long> &values) {
  return tbb::parallel_reduce(
      tbb::blocked_range<size_t>(0, values.size(), 100), 0LL,
      [&](const tbb::blocked_range<size_t> &range, long long sum) {
        for (size_t i = range.begin(); i != range.end(); i++) sum += values[i];
        return sum;
      },
      std::plus<long long>());
}

static void work(int id) {
  char stream[16];
  snprintf(stream, sizeof stream, "t%d", id);
  for (long n = 1; !stopping(); n++) {
    long long total = 0;
#pragma omp parallel for num_threads(3) reduction(+ : total)
    for (int part = 0; part < 6; part++) {
      std::vector<long long> values(2000);
      std::iota(values.begin(), values.end(), n + part);
      total += sum_of(values);
    }
    long long want = 0;
    for (int part = 0; part < 6; part++) want += 2000LL * (n + part) + 1999000;
    CHECK(total == want);
    step(stream, n);
    rest(10);
  }
}

int main() {
  std::thread one(work, 1), two(work, 2);
  one.join();
  two.join();
  return done();
}
