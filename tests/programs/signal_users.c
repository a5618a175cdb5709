/* Threads that take signals by waiting for them, with sets that hold every signal; an application that uses every
   real-time signal, the one that stops its threads among them. */
#include "steps.h"
#include <poll.h>
#include <sys/signalfd.h>

static volatile long seen[65];
static pthread_t waiters[3];
static int descriptor;
static int over;
static long described;

static void on_any(int sig, siginfo_t *info, void *context) {
  (void)context;
  seen[sig] = info->si_value.sival_int;
}

static int is_over(void) { return __atomic_load_n(&over, __ATOMIC_SEQ_CST); }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void *in_sigwait(void *arg) {
  sigset_t set;
  int sig;
  sigfillset(&set);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  for (long n = 1; sigwait(&set, &sig) == 0 && !is_over(); n++) {
    CHECK(sig == SIGUSR1);
    step("sigwait", n);
  }
  return arg;
}

static void *in_sigtimedwait(void *arg) {
  sigset_t set, all;
  struct timespec brief = {0, 30000000};
  sigemptyset(&set), sigaddset(&set, SIGUSR2), sigfillset(&all);
  OK(pthread_sigmask(SIG_BLOCK, &all, NULL));
  for (long n = 1; !is_over(); n++) {
    double start = now();
    CHECK(sigtimedwait(&set, NULL, &brief) == -1 && errno == EAGAIN);
    CHECK(now() - start >= 0.03);
    step("sigtimedwait", n);
  }
  return arg;
}

static void *in_signalfd(void *arg) {
  sigset_t set;
  sigfillset(&set);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  sigemptyset(&set), sigaddset(&set, SIGWINCH);
  for (long n = 1;; n++) {
    struct signalfd_siginfo info;
    struct pollfd p = {descriptor, POLLIN, 0};
    CHECK(poll(&p, 1, -1) == 1);
    CHECK(read(descriptor, &info, sizeof info) == sizeof info && info.ssi_signo == SIGWINCH);
    if (info.ssi_int != n) FAIL("descriptor brought %d in step %ld", info.ssi_int, n);
    __atomic_store_n(&described, n, __ATOMIC_SEQ_CST);
    if (is_over()) return arg;
    step("signalfd", n);
  }
}

int main(void) {
  sigset_t set;
  struct sigaction action = {.sa_sigaction = on_any, .sa_flags = SA_SIGINFO | SA_RESTART}, old;
  sigfillset(&action.sa_mask);
  for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++) CHECK(sigaction(sig, &action, NULL) == 0);
  sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGUSR2), sigaddset(&set, SIGWINCH);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  sigemptyset(&set), sigaddset(&set, SIGWINCH);
  CHECK((descriptor = signalfd(-1, &set, SFD_CLOEXEC)) >= 0);
  void *(*work[])(void *) = {in_sigwait, in_sigtimedwait, in_signalfd};
  for (int i = 0; i < 3; i++) OK(pthread_create(&waiters[i], NULL, work[i], NULL));
  long n = 1;
  for (;; n++) {
    int last = stopping();
    if (last) __atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
    OK(pthread_kill(waiters[0], SIGUSR1));
    /* Of this signal the kernel keeps one at a time. */
    while (__atomic_load_n(&described, __ATOMIC_SEQ_CST) < n - 1) rest(1);
    OK(pthread_sigqueue(waiters[2], SIGWINCH, (union sigval){.sival_int = (int)n}));
    if (last) break;
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++) {
      OK(pthread_sigqueue(pthread_self(), sig, (union sigval){.sival_int = (int)n * 100 + sig}));
      if (seen[sig] != n * 100 + sig) FAIL("signal %d brought %ld in step %ld", sig, seen[sig], n);
      CHECK(sigaction(sig, NULL, &old) == 0 && old.sa_sigaction == on_any);
      CHECK((old.sa_flags & ~0x04000000) == (SA_SIGINFO | SA_RESTART) && sigismember(&old.sa_mask, SIGHUP));
    }
    step("handlers", n);
    rest(20);
  }
  for (int i = 0; i < 3; i++) OK(pthread_join(waiters[i], NULL));
  return done();
}
