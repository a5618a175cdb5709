/* A thread in each call that a signal interrupts, with a time limit that passes: it must pass neither early nor much too
   late, however often the thread is stopped meanwhile, and no call may fail with EINTR. With the argument `all`, calls on
   objects that no restart brings back are among them; with `continued`, those are not that fail after SIGCONT anyway. */
#include "steps.h"
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/wait.h>

/* How long each waits, and how much later it may come back: stops take their time, and so do slow machines. */
static const double WAIT = 1.0, LATE = 20.0;

static int empty[2], epoll, semaphores, messages;
static mqd_t queue;
static sem_t never;
static pthread_mutex_t locked = PTHREAD_MUTEX_INITIALIZER, mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int word;

static double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static struct timespec in_a_while(clockid_t clock) {
  struct timespec t;
  CHECK(clock_gettime(clock, &t) == 0);
  t.tv_sec++;
  return t;
}

static const struct timespec second = {1, 0};

/* After a restart monotonic time may go on where it was, and the time of day does not. */
#define LIMITED(NAME, ...) LIMITED_ON(CLOCK_MONOTONIC, NAME, __VA_ARGS__)
#define LIMITED_ON(CLOCK, NAME, ...) \
  static void *NAME(void *arg) { \
    for (long n = 1; !stopping(); n++) { \
      double start = now(CLOCK); \
      __VA_ARGS__ \
      double took = now(CLOCK) - start; \
      if (took < WAIT - 0.001) FAIL("%s came back after %f s", #NAME, took); \
      if (took > WAIT + LATE) FAIL("%s came back only after %f s", #NAME, took); \
      step(#NAME, n); \
    } \
    return arg; \
  }
#define ONE_EVENT struct epoll_event e
#define NO_TIME CHECK(errno == ETIMEDOUT)

#if !__GLIBC_PREREQ(2, 35)
#define epoll_pwait2(epoll, events, count, limit, mask) epoll_pwait(epoll, events, count, 1000, mask)
#endif

LIMITED(in_poll, struct pollfd p = {empty[0], POLLIN, 0}; CHECK(poll(&p, 1, 1000) == 0);)
LIMITED(in_ppoll, struct pollfd p = {empty[0], POLLIN, 0}; sigset_t s; sigfillset(&s); CHECK(ppoll(&p, 1, &second, &s) == 0);)
LIMITED(in_select, struct timeval t = {1, 0}; fd_set s; FD_ZERO(&s); FD_SET(empty[0], &s);
        CHECK(select(empty[0] + 1, &s, NULL, NULL, &t) == 0);)
LIMITED(in_pselect, CHECK(pselect(0, NULL, NULL, NULL, &second, NULL) == 0);)
LIMITED(in_epoll_wait, ONE_EVENT; CHECK(epoll_wait(epoll, &e, 1, 1000) == 0);)
LIMITED(in_epoll_pwait, ONE_EVENT; sigset_t s; sigfillset(&s); CHECK(epoll_pwait(epoll, &e, 1, 1000, &s) == 0);)
LIMITED(in_epoll_pwait2, ONE_EVENT; CHECK(epoll_pwait2(epoll, &e, 1, &second, NULL) == 0);)
LIMITED(in_nanosleep, CHECK(nanosleep(&second, NULL) == 0);)
LIMITED(in_clock_nanosleep, CHECK(clock_nanosleep(CLOCK_REALTIME, 0, &second, NULL) == 0);)
LIMITED_ON(CLOCK_BOOTTIME, in_boottime, CHECK(clock_nanosleep(CLOCK_BOOTTIME, 0, &second, NULL) == 0);)
LIMITED(in_usleep, CHECK(usleep(1000000) == 0);)
LIMITED(in_sleep, CHECK(sleep(1) == 0);)
LIMITED(in_sigtimedwait, sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1);
        CHECK(sigtimedwait(&s, NULL, &second) == -1 && errno == EAGAIN);)
LIMITED_ON(CLOCK_REALTIME, in_sem_timedwait, struct timespec t = in_a_while(CLOCK_REALTIME); CHECK(sem_timedwait(&never, &t) == -1); NO_TIME;)
LIMITED_ON(CLOCK_REALTIME, in_timedlock, struct timespec t = in_a_while(CLOCK_REALTIME); CHECK(pthread_mutex_timedlock(&locked, &t) == ETIMEDOUT);)
LIMITED(in_clockrdlock, struct timespec t = in_a_while(CLOCK_MONOTONIC);
        CHECK(pthread_rwlock_clockrdlock(&rwlock, CLOCK_MONOTONIC, &t) == ETIMEDOUT);)
LIMITED(in_cond, OK(pthread_mutex_lock(&mutex)); struct timespec t = in_a_while(CLOCK_MONOTONIC); int rc = 0;
        while (rc == 0) rc = pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &t);
        CHECK(rc == ETIMEDOUT); OK(pthread_mutex_unlock(&mutex));)
LIMITED(in_futex_until, struct timespec t = in_a_while(CLOCK_MONOTONIC);
        CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, -1) == -1); NO_TIME;)
LIMITED_ON(CLOCK_REALTIME, in_mq_timedreceive, char text[8192]; struct timespec t = in_a_while(CLOCK_REALTIME);
        CHECK(mq_timedreceive(queue, text, sizeof text, NULL, &t) == -1); NO_TIME;)
LIMITED(in_semtimedop, struct sembuf op = {0}; op.sem_op = -1;
        CHECK(semtimedop(semaphores, &op, 1, &second) == -1 && errno == EAGAIN);)

/* These have no limit: something comes after a second. */
static void *sends(void *arg) {
  struct { long type; } message = {1};
  struct sembuf up = {1, 1, 0};
  (void)arg;
  for (;;) {
    rest(1000);
    if (stopping()) break;
    CHECK(msgsnd(messages, &message, 0, 0) == 0 && semop(semaphores, &up, 1) == 0);
  }
  CHECK(msgsnd(messages, &message, 0, 0) == 0 && semop(semaphores, &up, 1) == 0);
  return arg;
}

static void *in_msgrcv(void *arg) {
  struct { long type; } message;
  for (long n = 1; !stopping(); n++) {
    CHECK(msgrcv(messages, &message, 0, 0, 0) == 0);
    step("in_msgrcv", n);
  }
  return arg;
}

static void *in_semop(void *arg) {
  for (long n = 1; !stopping(); n++) {
    struct sembuf down = {1, -1, 0};
    CHECK(semop(semaphores, &down, 1) == 0);
    step("in_semop", n);
  }
  return arg;
}

static void *in_waitpid(void *arg) {
  for (long n = 1; !stopping(); n++) {
    int status;
    pid_t child = fork();
    if (child == 0) {
      rest(300);
      _exit(5);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
    step("in_waitpid", n);
  }
  return arg;
}

static void *in_flock(void *arg) {
  char path[512];
  snprintf(path, sizeof path, "%s", in_dir("locked"));
  for (long n = 1; !stopping(); n++) {
    int a = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), b = open(path, O_RDWR | O_CLOEXEC);
    struct timespec half = {0, 500000000};
    CHECK(a >= 0 && b >= 0 && flock(a, LOCK_EX) == 0);
    pid_t holder = vfork();
    if (holder == 0) _exit(0);
    CHECK(waitpid(holder, NULL, 0) == holder);
    CHECK(flock(b, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
    CHECK(nanosleep(&half, NULL) == 0 && close(a) == 0 && flock(b, LOCK_EX) == 0 && close(b) == 0);
    step("in_flock", n);
  }
  return arg;
}

int main(int argc, char **argv) {
  int all = argc > 1 && strcmp(argv[1], "all") == 0, count = 0;
  pthread_t t[40];
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGUSR1);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  CHECK(pipe(empty) == 0 && (epoll = epoll_create1(EPOLL_CLOEXEC)) >= 0 && sem_init(&never, 0, 0) == 0);
  struct epoll_event event = {EPOLLIN, {0}};
  CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, empty[0], &event) == 0);
  OK(pthread_mutex_lock(&locked));
  OK(pthread_rwlock_wrlock(&rwlock));
  void *(*work[])(void *) = {in_poll, in_ppoll, in_select, in_pselect, in_nanosleep, in_clock_nanosleep, in_boottime,
                             in_usleep, in_sleep, in_sem_timedwait, in_timedlock, in_clockrdlock, in_cond, in_futex_until,
                             in_epoll_wait, in_epoll_pwait, in_epoll_pwait2, in_sigtimedwait};
  void *(*more[])(void *) = {in_mq_timedreceive, in_semtimedop, in_msgrcv, in_semop, sends, in_waitpid, in_flock};
  if (all) {
    char name[64];
    snprintf(name, sizeof name, "/waits_with_limits.%d", (int)getpid());
    CHECK((queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, NULL)) >= 0 && mq_unlink(name) == 0);
    CHECK((semaphores = semget(IPC_PRIVATE, 2, 0600)) >= 0 && (messages = msgget(IPC_PRIVATE, 0600)) >= 0);
  }
  size_t works = sizeof work / sizeof *work;
  if (argc > 1 && strcmp(argv[1], "continued") == 0) works -= 4;
  for (size_t i = 0; i < works; i++) OK(pthread_create(&t[count++], NULL, work[i], NULL));
  for (size_t i = 0; all && i < sizeof more / sizeof *more; i++) OK(pthread_create(&t[count++], NULL, more[i], NULL));
  for (int i = 0; i < count; i++) OK(pthread_join(t[i], NULL));
  if (all) CHECK(semctl(semaphores, 0, IPC_RMID) == 0 && msgctl(messages, IPC_RMID, NULL) == 0);
  return done();
}
