/* Queues of blocked signals: hundreds of them, for the process and for a thread, with values, senders and codes. Each step
   takes the oldest of each queue, compares all of it, and adds a new one at the end. A thread that blocks every signal, past
   libc, and so is stopped later than the others, looks on: nothing is ever missing. */
#include "steps.h"

enum { DEPTH = 300 };

static int timer_is(const siginfo_t *info, long value) {
  return info->si_code == SI_QUEUE && info->si_value.sival_ptr == (void *)value && info->si_pid == getpid() &&
         info->si_uid == getuid();
}

/* The oldest of the signals with this number. */
static void take(int signal, long value) {
  siginfo_t info;
  sigset_t set;
  struct timespec now = {0, 0};
  sigemptyset(&set), sigaddset(&set, signal);
  CHECK(sigtimedwait(&set, &info, &now) == signal);
  if (!timer_is(&info, value))
    FAIL("signal %d: code %d value %p instead of %ld from %d", signal, info.si_code, info.si_value.sival_ptr, value,
         info.si_pid);
}

static void *own_queue(void *arg) {
  int own = SIGRTMIN + 4;
  pthread_t me = pthread_self();
  for (long v = 0; v < DEPTH; v++) OK(pthread_sigqueue(me, own, (union sigval){.sival_ptr = (void *)v}));
  OK(pthread_kill(me, SIGUSR1));
  for (long n = 1; !stopping(); n++) {
    sigset_t pending;
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGRTMIN + 2));
    take(own, n - 1);
    OK(pthread_sigqueue(me, own, (union sigval){.sival_ptr = (void *)(n - 1 + DEPTH)}));
    step("own", n);
    rest(10);
  }
  return arg;
}

static void *looks_on(void *arg) {
  uint64_t all = ~0ULL, pending = 0;
  for (long n = 1; !stopping(); n++) {
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8) == 0);
    for (int i = 0; i < 2000; i++) {
      CHECK(syscall(SYS_rt_sigpending, &pending, 8) == 0);
      if (!(pending & 1ULL << (SIGHUP - 1))) FAIL("SIGHUP was not pending for a moment in step %ld", n);
    }
    step("onlooker", n);
  }
  return arg;
}

int main(void) {
  pthread_t thread, onlooker;
  sigset_t set, pending;
  int kinds[] = {SIGRTMIN + 1, SIGRTMIN + 2, SIGRTMIN + 3};
  sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGHUP), sigaddset(&set, SIGCHLD);
  for (int i = 1; i <= 4; i++) sigaddset(&set, SIGRTMIN + i);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  for (long v = 0; v < DEPTH; v++)
    for (int k = 0; k < 3; k++) CHECK(sigqueue(getpid(), kinds[k], (union sigval){.sival_ptr = (void *)v}) == 0);
  OK(pthread_create(&thread, NULL, own_queue, NULL));
  CHECK(kill(getpid(), SIGHUP) == 0);
  OK(pthread_create(&onlooker, NULL, looks_on, NULL));
  for (long n = 1; !stopping(); n++) {
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGHUP) && !sigismember(&pending, SIGUSR1));
    int kind = kinds[n % 3];
    take(kind, (n - n % 3) / 3 - (n % 3 == 0));
    CHECK(sigqueue(getpid(), kind, (union sigval){.sival_ptr = (void *)((n - n % 3) / 3 - (n % 3 == 0) + DEPTH)}) == 0);
    step("shared", n);
    rest(10);
  }
  OK(pthread_join(thread, NULL));
  OK(pthread_join(onlooker, NULL));
  siginfo_t info;
  sigemptyset(&set), sigaddset(&set, SIGHUP);
  CHECK(sigwaitinfo(&set, &info) == SIGHUP && info.si_code == SI_USER && info.si_pid == getpid());
  return done();
}
