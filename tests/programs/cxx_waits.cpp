// What libstdc++ offers for threads to wait for each other, in use all the time.
#include "steps.h"
#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <future>
#include <latch>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <stop_token>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

static std::atomic<bool> over;

static void shares() {
  static std::shared_timed_mutex mutex;
  static long a, b;
  std::jthread reader([] {
    while (!over) {
      std::shared_lock lock(mutex);
      CHECK(a == b);
      std::this_thread::sleep_for(3ms);
      CHECK(a == b);
      lock.unlock();
      std::this_thread::sleep_for(1ms);
    }
  });
  for (long n = 1; !over; n++) {
    std::unique_lock lock(mutex, std::defer_lock);
    CHECK(lock.try_lock_for(1h));
    a++;
    std::this_thread::sleep_for(4ms);
    b++;
    lock.unlock();
    step("shared", n);
    std::this_thread::sleep_for(1ms);
  }
}

static void promises() {
  for (long n = 1; !over; n++) {
    std::promise<long> promise;
    auto answer = promise.get_future();
    auto doubled = std::async(std::launch::async, [&] { return 2 * answer.get(); });
    CHECK(doubled.wait_for(10ms) == std::future_status::timeout);
    promise.set_value(n);
    CHECK(doubled.get() == 2 * n);
    step("future", n);
  }
}

static void counts() {
  std::counting_semaphore<8> full(0), room(1);
  std::atomic<long> cell{0};
  std::jthread producer([&] {
    for (long n = 1; !over; n++) {
      room.acquire();
      cell = n;
      full.release();
    }
    full.release();
  });
  for (long n = 1; !over; n++) {
    CHECK(full.try_acquire_for(1h));
    CHECK(over || cell == n);
    std::this_thread::sleep_for(5ms);
    step("semaphore", n);
    room.release();
  }
  room.release();
}

static void meets() {
  long done = 0;
  bool last = false;
  std::barrier barrier(3, [&]() noexcept {
    last = over;
    step("barrier", ++done);
  });
  auto work = [&](int pause) {
    while (!last) {
      std::this_thread::sleep_for(std::chrono::milliseconds(pause));
      barrier.arrive_and_wait();
    }
  };
  std::jthread a(work, 2), b(work, 4), c(work, 6);
}

static void latches() {
  for (long n = 1; !over; n++) {
    std::latch latch(2);
    std::jthread a([&] { std::this_thread::sleep_for(6ms); latch.count_down(); });
    std::jthread b([&] { latch.arrive_and_wait(); });
    latch.wait();
    step("latch", n);
  }
}

static void notifies() {
  std::atomic<int> turn{0};
  std::jthread other([&] {
    for (;;) {
      turn.wait(0);
      if (turn == 2) return;
      turn = 0;
      turn.notify_one();
    }
  });
  for (long n = 1; !over; n++) {
    turn = 1;
    turn.notify_one();
    turn.wait(1);
    std::this_thread::sleep_for(5ms);
    step("atomic", n);
  }
  turn = 2;
  turn.notify_one();
}

static void any_lock() {
  std::recursive_timed_mutex mutex;
  std::condition_variable_any changed;
  long value = 0;
  std::jthread setter([&](std::stop_token stop) {
    while (!stop.stop_requested()) {
      std::this_thread::sleep_for(6ms);
      std::lock_guard lock(mutex);
      value++;
      changed.notify_all();
    }
  });
  for (long n = 1; !over; n++) {
    std::unique_lock lock(mutex);
    long before = value;
    CHECK(changed.wait_for(lock, 1h, [&] { return value != before; }));
    step("any", n);
  }
}

int main() {
  std::vector<std::thread> all;
  for (auto work : {shares, promises, counts, meets, latches, notifies, any_lock}) all.emplace_back(work);
  while (!stopping()) std::this_thread::sleep_for(20ms);
  over = true;
  for (auto &thread : all) thread.join();
  return done();
}
