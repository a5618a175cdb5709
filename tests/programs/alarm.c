/* alarm(2): comes once, and never early; blocked when it comes, it stays pending. */
#include "steps.h"

static volatile long hits;
static void on_alarm(int sig) { (void)sig, hits++; }

static double now(void) {
  struct timespec t;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* A rest that a handler may interrupt. */
static void nap(int ms) {
  struct timespec t = {0, ms * 1000000L};
  while (nanosleep(&t, &t) != 0) CHECK(errno == EINTR);
}

int main(void) {
  enum { SECONDS = 3 };
  sigset_t set, pending;
  sigemptyset(&set), sigaddset(&set, SIGALRM);
  signal(SIGALRM, on_alarm);
  double start = now();
  CHECK(alarm(SECONDS) == 0);
  for (long n = 1; !stopping() || !hits; n++) {
    if (hits) CHECK(now() - start >= SECONDS - 0.01);
    CHECK(hits <= 1 && now() - start < 100);
    step("main", n);
    nap(10);
  }
  CHECK(hits == 1 && alarm(1) == 0);
  CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
  for (start = now(); now() - start < 1.5;) nap(10);
  CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGALRM) && hits == 1);
  CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0 && hits == 2);
  return done();
}
