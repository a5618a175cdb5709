/* Signals with values, queued for the process and for a thread until the kernel takes no more. After each restart all of
   them are taken, in their order, and as many are queued again. */
#include "steps.h"
#include <sys/resource.h>

enum { ROOM = 1000, LEAST = 100, MOST = 10 * ROOM };

/* Sets the limit so that there is room; what other processes of the same user have queued counts as well. */
static void limit(void) {
  struct rlimit limit;
  char line[128];
  unsigned long queued = 0;
  FILE *status = fopen("/proc/self/status", "r");
  CHECK(status);
  while (fgets(line, sizeof line, status) && sscanf(line, "SigQ: %lu/", &queued) != 1) {}
  CHECK(fclose(status) == 0 && getrlimit(RLIMIT_SIGPENDING, &limit) == 0);
  limit.rlim_cur = queued + ROOM;
  CHECK(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
}

/* Sends with these values until the queue is full; how many there are. */
static int fill(pthread_t to, int first) {
  int sent = 0;
  limit();
  for (;; sent++) {
    union sigval value = {.sival_int = first + sent};
    int of_thread = sent % 2;
    int rc = of_thread ? pthread_sigqueue(to, SIGRTMIN + 4, value) : sigqueue(getpid(), SIGRTMIN + 5, value) ? errno : 0;
    if (rc == EAGAIN) return sent;
    OK(rc);
    CHECK(sent < MOST);
  }
}

int main(void) {
  sigset_t set;
  int first = 1000;
  sigemptyset(&set), sigaddset(&set, SIGRTMIN + 4), sigaddset(&set, SIGRTMIN + 5);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  int count = fill(pthread_self(), first);
  CHECK(count > LEAST);
  for (long n = 1; !stopping(); n++) {
    siginfo_t info;
    struct timespec none = {0, 0};
    int next[2] = {first, first + 1};
    rest(100);
    for (int taken = 0; taken < count; taken++) {
      int sig = sigtimedwait(&set, &info, &none);
      if (sig < 0) FAIL("%d of %d signals are there in step %ld", taken, count, n);
      int of_thread = sig == SIGRTMIN + 4;
      CHECK(info.si_code == SI_QUEUE && info.si_pid == getpid() && info.si_uid == getuid());
      if (info.si_value.sival_int != next[of_thread]) FAIL("value %d instead of %d in step %ld", info.si_value.sival_int, next[of_thread], n);
      next[of_thread] += 2;
    }
    CHECK(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN);
    first += count;
    count = fill(pthread_self(), first);
    CHECK(count > LEAST);
    step("main", n);
  }
  return done();
}
