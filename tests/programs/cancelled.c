/* Cancellation in every call that can wait and is a cancellation point: threads wait in it over checkpoints and restarts,
   and others, made and cancelled in each step. Each ends as cancelled, with its cleanup handler run, and none returns. */
#include "steps.h"
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int empty[2], full[2], event, timer, signals, epoll, locked;
static char fifo[512], written[512];
static pid_t child;
static pthread_t forever;
static sem_t never;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int cleaned;
static const struct timespec day = {86400, 0};
static struct pollfd polled;
static char bytes[1 << 16];

static void unlock(void *m) { OK(pthread_mutex_unlock(m)); }

static struct timespec tomorrow(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  t.tv_sec += 86400;
  return t;
}

static void in_cond(int timed) {
  struct timespec t = tomorrow();
  OK(pthread_mutex_lock(&mutex));
  pthread_cleanup_push(unlock, &mutex);
  if (timed == 2) pthread_cond_clockwait(&cond, &mutex, CLOCK_REALTIME, &t);
  else if (timed) pthread_cond_timedwait(&cond, &mutex, &t);
  else pthread_cond_wait(&cond, &mutex);
  pthread_cleanup_pop(1);
}

#define CALLS(X) \
  X(read, read(empty[0], bytes, 1)) \
  X(readv, struct iovec v = {bytes, 1}; readv(empty[0], &v, 1)) \
  X(write, write(full[1], bytes, sizeof bytes)) \
  X(writev, struct iovec v = {bytes, sizeof bytes}; writev(full[1], &v, 1)) \
  X(event, read(event, bytes, 8)) \
  X(timer, read(timer, bytes, 8)) \
  X(signals, read(signals, bytes, sizeof bytes)) \
  X(open, open(fifo, O_RDONLY)) \
  X(openat, openat(AT_FDCWD, fifo, O_RDONLY)) \
  X(creat, creat(written, 0600)) \
  X(fopen, fopen(fifo, "r")) \
  X(poll, poll(&polled, 1, -1)) \
  X(ppoll, ppoll(&polled, 1, &day, NULL)) \
  X(select, fd_set s; FD_ZERO(&s); FD_SET(empty[0], &s); select(empty[0] + 1, &s, NULL, NULL, NULL)) \
  X(pselect, fd_set s; FD_ZERO(&s); FD_SET(empty[0], &s); pselect(empty[0] + 1, &s, NULL, NULL, &day, NULL)) \
  X(epoll_wait, struct epoll_event e; epoll_wait(epoll, &e, 1, -1)) \
  X(epoll_pwait, struct epoll_event e; epoll_pwait(epoll, &e, 1, -1, NULL)) \
  X(pause, pause()) \
  X(sigpause, sigpause(SIGUSR1)) \
  X(sigsuspend, sigset_t s; sigemptyset(&s); sigsuspend(&s)) \
  X(sigwait, sigset_t s; int n; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigwait(&s, &n)) \
  X(sigwaitinfo, sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigwaitinfo(&s, NULL)) \
  X(sigtimedwait, sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigtimedwait(&s, NULL, &day)) \
  X(sleep, sleep(86400)) \
  X(usleep, for (;;) usleep(900000)) \
  X(nanosleep, nanosleep(&day, NULL)) \
  X(clock_nanosleep, clock_nanosleep(CLOCK_MONOTONIC, 0, &day, NULL)) \
  X(clock_until, struct timespec t = tomorrow(); clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL)) \
  X(sem_wait, sem_wait(&never)) \
  X(sem_timedwait, struct timespec t = tomorrow(); sem_timedwait(&never, &t)) \
  X(sem_clockwait, struct timespec t = tomorrow(); sem_clockwait(&never, CLOCK_REALTIME, &t)) \
  X(cond_wait, in_cond(0)) \
  X(cond_timedwait, in_cond(1)) \
  X(cond_clockwait, in_cond(2)) \
  X(join, pthread_join(forever, NULL)) \
  X(timedjoin, struct timespec t = tomorrow(); pthread_timedjoin_np(forever, NULL, &t)) \
  X(wait, int s; wait(&s)) \
  X(wait3, int s; wait3(&s, 0, NULL)) \
  X(wait4, int s; wait4(child, &s, 0, NULL)) \
  X(waitpid, int s; waitpid(child, &s, 0)) \
  X(waitid, siginfo_t i; waitid(P_PID, (id_t)child, &i, WEXITED)) \
  X(setlkw, struct flock l = {.l_type = F_WRLCK}; fcntl(locked, F_OFD_SETLKW, &l)) \
  X(lockf, lockf(locked, F_LOCK, 0)) \
  X(testcancel, for (;;) { pthread_testcancel(); sched_yield(); usleep(1000); }) \
  X(busy, OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL)); for (volatile long i = 0;; i = i + 1) {})

static void clean(void *arg) {
  (void)arg;
  __atomic_add_fetch(&cleaned, 1, __ATOMIC_SEQ_CST);
}

#define THREAD(NAME, ...) \
  static void *in_##NAME(void *arg) { \
    pthread_cleanup_push(clean, NULL); \
    __VA_ARGS__; \
    FAIL(#NAME " has returned (errno %d)", errno); \
    pthread_cleanup_pop(0); \
    return arg; \
  }
#pragma GCC diagnostic ignored "-Wunused-result"
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
CALLS(THREAD)

#define ENTRY(NAME, ...) {#NAME, in_##NAME},
static const struct { const char *name; void *(*run)(void *); } calls[] = {CALLS(ENTRY)};
enum { COUNT = sizeof calls / sizeof *calls };

/* Only one at a time may wait for a thread. */
static int waits_long(int i) {
  return calls[i].run != in_busy && calls[i].run != in_join && calls[i].run != in_timedjoin;
}

static void *sleeps(void *arg) {
  for (;;) pause();
  return arg;
}

static void cancel(pthread_t thread, const char *name) {
  void *result;
  OK(pthread_cancel(thread));
  OK(pthread_join(thread, &result));
  if (result != PTHREAD_CANCELED) FAIL("%s ended with %p", name, result);
}

int main(void) {
  pthread_t waiting[COUNT], brief;
  sigset_t set;
  strcpy(fifo, in_dir("fifo"));
  strcpy(written, in_dir("written"));
  CHECK(mkfifo(fifo, 0600) == 0 && mkfifo(written, 0600) == 0 && pipe(empty) == 0 && pipe(full) == 0);
  CHECK(fcntl(full[1], F_SETFL, O_NONBLOCK) == 0);
  while (write(full[1], bytes, 4096) > 0) {}
  CHECK(fcntl(full[1], F_SETFL, 0) == 0);
  CHECK((event = eventfd(0, 0)) >= 0 && (timer = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0);
  sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGUSR2);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  sigdelset(&set, SIGUSR1);
  CHECK((signals = signalfd(-1, &set, 0)) >= 0 && (epoll = epoll_create1(0)) >= 0 && sem_init(&never, 0, 0) == 0);
  int holder = open(in_dir("locked"), O_RDWR | O_CREAT, 0600);
  CHECK(holder >= 0 && (locked = open(in_dir("locked"), O_RDWR)) >= 0);
  struct flock all = {.l_type = F_WRLCK};
  CHECK(fcntl(holder, F_OFD_SETLK, &all) == 0);
  polled.fd = empty[0], polled.events = POLLIN;
  CHECK((child = fork()) >= 0);
  if (child == 0)
    for (;;) pause();
  OK(pthread_create(&forever, NULL, sleeps, NULL));
  for (int i = 0; i < COUNT; i++)
    if (waits_long(i)) OK(pthread_create(&waiting[i], NULL, calls[i].run, NULL));
  long made = 0;
  for (long n = 1; !stopping(); n++) {
    int k = (int)(n % COUNT);
    OK(pthread_create(&brief, NULL, calls[k].run, NULL));
    rest(20);
    cancel(brief, calls[k].name);
    made++;
    CHECK(__atomic_load_n(&cleaned, __ATOMIC_SEQ_CST) == made);
    step("main", n);
  }
  for (int i = 0; i < COUNT; i++)
    if (waits_long(i)) cancel(waiting[i], calls[i].name), made++;
  cancel(forever, "pause");
  CHECK(__atomic_load_n(&cleaned, __ATOMIC_SEQ_CST) == made);
  CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
  return done();
}
