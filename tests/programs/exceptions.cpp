// C++ threads that throw through several frames, with destructors in between, futures and a call_once.
#include "steps.h"
#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static std::atomic<long> alive{0};

struct Counted {
  Counted() { alive++; }
  ~Counted() { alive--; }
};

static long deep(int level, long n) {
  Counted here;
  if (level == 0) throw std::runtime_error("step " + std::to_string(n));
  return deep(level - 1, n) + 1;
}

static void work(int id) {
  std::string stream = "t" + std::to_string(id);
  std::map<long, std::string> seen;
  thread_local std::vector<long> mine;
  for (long n = 1; !stopping(); n++) {
    try {
      deep(20, n);
      FAIL("nothing was thrown");
    } catch (const std::exception &e) {
      CHECK(std::string(e.what()) == "step " + std::to_string(n));
      seen[n] = e.what();
    }
    mine.push_back(n);
    step(stream.c_str(), n);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(seen.size() == mine.size());
}

int main() {
  std::vector<std::future<void>> all;
  for (int i = 0; i < 4; i++) all.push_back(std::async(std::launch::async, work, i));
  for (auto &f : all) f.get();
  CHECK(alive == 0);
  return done();
}
