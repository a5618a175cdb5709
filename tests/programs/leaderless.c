/* The main thread has ended, and signals of every origin are pending for the process: queued with values, sent by kill, by
   the end of a child, by a timer. Each step takes the oldest of the queue, compares it, and adds a new one at the end. */
#include "steps.h"
#include <sys/wait.h>

enum { DEPTH = 100 };

static pthread_t main_thread;
static pid_t child;
static timer_t timer;

static void take(int signal, siginfo_t *info) {
  sigset_t set;
  struct timespec now = {0, 0};
  sigemptyset(&set), sigaddset(&set, signal);
  if (sigtimedwait(&set, info, &now) != signal) FAIL("signal %d is not pending (errno %d)", signal, errno);
}

static void *work(void *arg) {
  siginfo_t info;
  sigset_t pending;
  int queued = SIGRTMIN + 1;
  OK(pthread_join(main_thread, NULL));
  for (long n = 1; !stopping(); n++) {
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGHUP) && sigismember(&pending, SIGCHLD));
    CHECK(sigismember(&pending, SIGRTMIN + 5) && !sigismember(&pending, SIGUSR2));
    take(queued, &info);
    if (info.si_code != SI_QUEUE || info.si_value.sival_ptr != (void *)n || info.si_pid != getpid())
      FAIL("code %d value %p from %d in step %ld", info.si_code, info.si_value.sival_ptr, info.si_pid, n);
    CHECK(sigqueue(getpid(), queued, (union sigval){.sival_ptr = (void *)(n + DEPTH)}) == 0);
    step("worker", n);
    rest(10);
  }
  take(SIGHUP, &info);
  CHECK(info.si_code == SI_USER && info.si_pid == getpid() && info.si_uid == getuid());
  take(SIGCHLD, &info);
  CHECK(info.si_code == CLD_EXITED && info.si_status == 3 && info.si_pid == child);
  int status;
  CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
  take(SIGRTMIN + 5, &info);
  CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 55);
  exit(done());
  return arg;
}

int main(void) {
  pthread_t thread;
  sigset_t set, pending;
  sigfillset(&set);
  OK(pthread_sigmask(SIG_SETMASK, &set, NULL));
  for (long v = 1; v <= DEPTH; v++)
    CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_ptr = (void *)v}) == 0);
  CHECK(kill(getpid(), SIGHUP) == 0);
  CHECK((child = fork()) >= 0);
  if (child == 0) _exit(3);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5, .sigev_value.sival_int = 55};
  struct itimerspec soon = {{0, 0}, {0, 1000000}};
  CHECK(timer_create(CLOCK_REALTIME, &event, &timer) == 0 && timer_settime(timer, 0, &soon, NULL) == 0);
  do {
    rest(1);
    CHECK(sigpending(&pending) == 0);
  } while (!sigismember(&pending, SIGCHLD) || !sigismember(&pending, SIGRTMIN + 5));
  main_thread = pthread_self();
  OK(pthread_create(&thread, NULL, work, NULL));
  pthread_exit(NULL);
}
