/* A thread in each common blocking call. None has a signal handler, so EINTR is fatal everywhere, and each call must
   end for its own reason: the byte, the post, the signal that the main thread sends, or the full time. */
#include "steps.h"
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/select.h>

#define COMMA ,
enum { ROUND_MS = 40 };
enum { READ, POLL, PPOLL, SELECT, PSELECT, EVENT, PIPES };
static int fd[PIPES][2];
static sem_t sem, timed_sem;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long condition, timed_condition;
static int word;
static int over;
static pthread_t waiting_for_signal, waiting_for_info;
static const struct timespec hour = {3600, 0};

static struct timespec in_an_hour(clockid_t clock) {
  struct timespec t;
  CHECK(clock_gettime(clock, &t) == 0);
  t.tv_sec += 3600;
  return t;
}

static int is_over(void) { return __atomic_load_n(&over, __ATOMIC_SEQ_CST); }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void take(int which) {
  char text[8];
  ssize_t got = read(fd[which][0], text, which == EVENT ? 8 : 1);
  CHECK(got == (which == EVENT ? 8 : 1));
}

#define BLOCKED(NAME, ...) \
  static void *NAME(void *arg) { \
    for (long n = 1;; n++) { \
      __VA_ARGS__ \
      if (is_over()) return arg; \
      step(#NAME, n); \
    } \
  }

BLOCKED(in_read, take(READ);)
BLOCKED(in_event, take(EVENT);)
BLOCKED(in_poll, struct pollfd p = {fd[POLL][0], POLLIN, 0}; CHECK(poll(&p, 1, 3600000) == 1); take(POLL);)
BLOCKED(in_ppoll, struct pollfd p = {fd[PPOLL][0], POLLIN, 0}; sigset_t s; sigemptyset(&s);
        CHECK(ppoll(&p, 1, &hour, &s) == 1); take(PPOLL);)
BLOCKED(in_select, fd_set s; FD_ZERO(&s); FD_SET(fd[SELECT][0], &s); struct timeval t = {3600 COMMA 0};
        CHECK(select(fd[SELECT][0] + 1, &s, NULL, NULL, &t) == 1); take(SELECT);)
BLOCKED(in_pselect, fd_set s; FD_ZERO(&s); FD_SET(fd[PSELECT][0], &s);
        CHECK(pselect(fd[PSELECT][0] + 1, &s, NULL, NULL, NULL, NULL) == 1); take(PSELECT);)
BLOCKED(in_sem_wait, CHECK(sem_wait(&sem) == 0);)
BLOCKED(in_sem_timedwait, struct timespec t = in_an_hour(CLOCK_REALTIME); CHECK(sem_timedwait(&timed_sem, &t) == 0);)
BLOCKED(in_cond_wait, OK(pthread_mutex_lock(&mutex));
        while (condition < n && !is_over()) OK(pthread_cond_wait(&cond, &mutex));
        OK(pthread_mutex_unlock(&mutex));)
BLOCKED(in_cond_timedwait, OK(pthread_mutex_lock(&mutex)); struct timespec t = in_an_hour(CLOCK_REALTIME);
        while (timed_condition < n && !is_over()) OK(pthread_cond_timedwait(&cond, &mutex, &t));
        OK(pthread_mutex_unlock(&mutex));)
BLOCKED(in_futex, while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) < n && !is_over()) {
          int seen = (int)n - 1;
          if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, &hour, NULL, 0)) CHECK(errno == EAGAIN);
        })
BLOCKED(in_sigwaitinfo, sigset_t s; sigemptyset(&s); sigaddset(&s, SIGRTMIN + 8); siginfo_t i;
        CHECK(sigwaitinfo(&s, &i) == SIGRTMIN + 8);)
BLOCKED(in_sigtimedwait, sigset_t s; sigemptyset(&s); sigaddset(&s, SIGRTMIN + 9);
        CHECK(sigtimedwait(&s, NULL, &hour) == SIGRTMIN + 9);)
BLOCKED(in_nanosleep, double t = now(); struct timespec d = {0 COMMA 90000000};
        CHECK(nanosleep(&d, NULL) == 0); CHECK(now() - t >= 0.09);)
BLOCKED(in_clock_nanosleep, struct timespec t; CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
        t.tv_nsec += 70000000; if (t.tv_nsec >= 1000000000) t.tv_nsec -= 1000000000, t.tv_sec++;
        CHECK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL) == 0);)
BLOCKED(in_usleep, CHECK(usleep(60000) == 0);)
BLOCKED(in_poll_timeout, double t = now(); CHECK(poll(NULL, 0, 80) == 0); CHECK(now() - t >= 0.08);)

static void wake_all(long n) {
  for (int i = 0; i < PIPES; i++) {
    uint64_t one = 1;
    CHECK(write(fd[i][1], &one, i == EVENT ? 8 : 1) > 0);
  }
  CHECK(sem_post(&sem) == 0 && sem_post(&timed_sem) == 0);
  OK(pthread_mutex_lock(&mutex));
  condition = timed_condition = n;
  OK(pthread_cond_broadcast(&cond));
  OK(pthread_mutex_unlock(&mutex));
  __atomic_store_n(&word, (int)n, __ATOMIC_SEQ_CST);
  CHECK(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0) >= 0);
  OK(pthread_kill(waiting_for_info, SIGRTMIN + 8));
  OK(pthread_kill(waiting_for_signal, SIGRTMIN + 9));
}

int main(void) {
  void *(*work[])(void *) = {in_read, in_event, in_poll, in_ppoll, in_select, in_pselect, in_sem_wait,
                             in_sem_timedwait, in_cond_wait, in_cond_timedwait, in_futex, in_nanosleep,
                             in_clock_nanosleep, in_usleep, in_poll_timeout, in_sigwaitinfo, in_sigtimedwait};
  enum { COUNT = sizeof work / sizeof *work };
  pthread_t threads[COUNT];
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGRTMIN + 8), sigaddset(&set, SIGRTMIN + 9);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  for (int i = 0; i < PIPES; i++) {
    if (i == EVENT) CHECK((fd[i][0] = fd[i][1] = eventfd(0, 0)) >= 0);
    else CHECK(pipe(fd[i]) == 0);
  }
  CHECK(sem_init(&sem, 0, 0) == 0 && sem_init(&timed_sem, 0, 0) == 0);
  for (int i = 0; i < COUNT; i++) OK(pthread_create(&threads[i], NULL, work[i], NULL));
  waiting_for_info = threads[COUNT - 2], waiting_for_signal = threads[COUNT - 1];
  long n = 1;
  for (; !stopping(); n++) {
    rest(ROUND_MS);
    wake_all(n);
  }
  rest(ROUND_MS);
  __atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
  wake_all(n);
  for (int i = 0; i < COUNT; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
