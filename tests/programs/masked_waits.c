/* Waits with a signal mask of their own: a signal that is blocked at all other times ends each, and afterwards the mask
   is what it was. One that only the wait blocks does not end it, and comes when it is over; one that is blocked by both
   never comes: it would end the program. */
#include "steps.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

enum { SUSPEND, POLL, TIMED_POLL, SELECT, TIMED_SELECT, EPOLL, TIMED_EPOLL, WAYS };
static const char *const names[WAYS] = {"suspend", "poll", "timed_poll", "select", "timed_select", "epoll", "timed_epoll"};

static pthread_t waiting[WAYS];
static __thread volatile int woken;

static void wakes(int sig) {
  (void)sig;
  woken++;
}

static void comes_when_it_is_over(int sig) { (void)sig; }

static int wait_by(long way, int epoll, const sigset_t *mask) {
  const struct timespec day = {86400, 0};
  struct epoll_event event;
  switch (way) {
  case SUSPEND: return sigsuspend(mask);
  case POLL: return ppoll(NULL, 0, NULL, mask);
  case TIMED_POLL: return ppoll(NULL, 0, &day, mask);
  case SELECT: return pselect(0, NULL, NULL, NULL, NULL, mask);
  case TIMED_SELECT: return pselect(0, NULL, NULL, NULL, &day, mask);
  case EPOLL: return epoll_pwait(epoll, &event, 1, -1, mask);
  default: return epoll_pwait(epoll, &event, 1, 86400000, mask);
  }
}

static void *waits(void *arg) {
  long way = (long)arg;
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  sigset_t usual, during, now;
  CHECK(epoll >= 0);
  OK(pthread_sigmask(SIG_BLOCK, NULL, &usual));
  during = usual;
  sigdelset(&during, SIGUSR2), sigaddset(&during, SIGWINCH);
  for (long n = 1; !stopping(); n++) {
    woken = 0;
    int result = wait_by(way, epoll, &during);
    if (result != -1 || errno != EINTR || !woken) FAIL("%s gives %d (errno %d), woken: %d", names[way], result, errno, woken);
    OK(pthread_sigmask(SIG_BLOCK, NULL, &now));
    for (int sig = 1; sig < 65; sig++)
      if (sigismember(&now, sig) != sigismember(&usual, sig)) FAIL("signal %d in the mask after %s", sig, names[way]);
    step(names[way], n);
  }
  OK(close(epoll));
  return arg;
}

/* A thread that is to end may have ended: older libcs say so. */
static void send_to(pthread_t thread, int signal) {
  int error = pthread_kill(thread, signal);
  CHECK(error == 0 || (error == ESRCH && stopping()));
}

int main(void) {
  sigset_t set;
  struct sigaction wake = {.sa_handler = wakes}, end = {.sa_handler = comes_when_it_is_over, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGUSR2, &wake, NULL) == 0 && sigaction(SIGWINCH, &end, NULL) == 0);
  sigemptyset(&set), sigaddset(&set, SIGUSR2), sigaddset(&set, SIGHUP);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  for (long way = 0; way < WAYS; way++) OK(pthread_create(&waiting[way], NULL, waits, (void *)way));
  while (!stopping()) {
    rest(50);
    for (int way = 0; way < WAYS; way++) {
      send_to(waiting[way], SIGHUP);
      send_to(waiting[way], SIGWINCH);
      send_to(waiting[way], SIGUSR2);
    }
  }
  for (int way = 0; way < WAYS; way++) {
    send_to(waiting[way], SIGUSR2);
    OK(pthread_join(waiting[way], NULL));
  }
  return done();
}
