/* Timers with intervals so short that they have expired again as soon as their signal is taken: whoever takes all that is
   pending is never done. Signals of the same number that were sent come in their order between those of the timer. */
#include "steps.h"
#include <sys/time.h>

enum { QUEUED = 5 };

static sigset_t only(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  return set;
}

/* The next signal of that number; those of the timer are counted on the way to one that was sent. */
static int next_sent(sigset_t *set, long *expired) {
  for (;;) {
    siginfo_t info;
    CHECK(sigwaitinfo(set, &info) > 0);
    if (info.si_code == SI_QUEUE) return info.si_value.sival_int;
    CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == -1);
    ++*expired;
  }
}

static void send_one(int number, int value) {
  union sigval it = {.sival_int = value};
  CHECK(sigqueue(getpid(), number, it) == 0);
}

int main(void) {
  int number = SIGRTMIN + 2;
  sigset_t real_time = only(number), alarm_only = only(SIGALRM), both = real_time;
  sigaddset(&both, SIGALRM);
  OK(pthread_sigmask(SIG_BLOCK, &both, NULL));
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number, .sigev_value.sival_int = -1};
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  struct itimerspec often = {{0, 500}, {0, 500}};
  CHECK(timer_settime(timer, 0, &often, NULL) == 0);
  struct itimerval alarms = {{0, 1}, {0, 1}};
  CHECK(setitimer(ITIMER_REAL, &alarms, NULL) == 0);
  int sent = 0, seen = 0;
  while (sent < QUEUED) send_one(number, ++sent);
  for (long n = 1, expired = 0; !stopping(); n++) {
    rest(5);
    send_one(number, ++sent);
    CHECK(next_sent(&real_time, &expired) == ++seen);
    siginfo_t info;
    CHECK(sigwaitinfo(&alarm_only, &info) == SIGALRM);
    if (n % 10) continue;
    CHECK(expired > 0);
    expired = 0;
    step("both", n / 10);
  }
  return done();
}
