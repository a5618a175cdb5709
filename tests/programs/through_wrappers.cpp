// What may go through wrappers without passing their ends: a cancellation, a jump out of a signal handler, an exception.
// `sleep` and `call_back` are wrapped by plugins. The library with call_back comes by dlopen.
#include "steps.h"
#include <atomic>
#include <dlfcn.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdexcept>
#include <sys/time.h>
#include <thread>

static std::atomic<int> unwound{0};

struct Counted {
  ~Counted() { unwound++; }
};

static void *sleeper(void *ready) {
  Counted here;
  sem_post((sem_t *)ready);
  for (;;) sleep(1000);
}

static void cancel() {
  for (long n = 1; !stopping(); n++) {
    sem_t ready;
    pthread_t thread;
    void *result;
    int before = unwound;
    CHECK(sem_init(&ready, 0, 0) == 0);
    OK(pthread_create(&thread, nullptr, sleeper, &ready));
    while (sem_wait(&ready) != 0) CHECK(errno == EINTR);
    OK(pthread_cancel(thread));
    OK(pthread_join(thread, &result));
    CHECK(result == PTHREAD_CANCELED && unwound == before + 1);
    step("cancel", n);
    rest(2);
  }
}

static sigjmp_buf out;

static void jump_out(int) { siglongjmp(out, 1); }

static void jump() {
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGUSR1);
  OK(pthread_sigmask(SIG_UNBLOCK, &alarm, nullptr));
  for (volatile long n = 1; !stopping(); n = n + 1) {
    if (sigsetjmp(out, 1) == 0) {
      pthread_t me = pthread_self();
      std::thread([me] { rest(2); OK(pthread_kill(me, SIGUSR1)); }).detach();
      for (;;) sleep(1000);
    }
    step("jump", n);
  }
}

static int thrower(int value) {
  throw std::runtime_error(std::to_string(value));
}

static int doubler(int value) { return 2 * value; }

static void exceptions() {
  std::string path = std::string(getenv("STEPS_DIR")) + "/libcallback.so";
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  CHECK(library != nullptr);
  auto call_back = (int (*)(int (*)(int), int))dlsym(library, "call_back");
  CHECK(call_back != nullptr);
  Dl_info info;
  CHECK(dladdr((void *)call_back, &info) != 0);
  CHECK(getenv("WRAPPED") == nullptr || strstr(info.dli_fname, "libtest_early") != nullptr);
  for (long n = 1; !stopping(); n++) {
    CHECK(call_back(doubler, 21) == 42 && call_back(doubler, 4) == 8);
    try {
      call_back(thrower, (int)n);
      FAIL("no exception");
    } catch (const std::runtime_error &error) {
      CHECK(error.what() == std::to_string(n));
    }
    step("throw", n);
    rest(2);
  }
}

int main() {
  struct sigaction action = {};
  sigset_t usr1;
  action.sa_handler = jump_out;
  CHECK(sigaction(SIGUSR1, &action, nullptr) == 0);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  OK(pthread_sigmask(SIG_BLOCK, &usr1, nullptr));
  std::thread threads[] = {std::thread(cancel), std::thread(exceptions)};
  jump();
  for (std::thread &thread : threads) thread.join();
  note("DONE");
  return STATUS;
}
