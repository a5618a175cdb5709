/* POSIX timers of every kind: each expires as it should, and keeps its id, its clock and the time that is left of it. */
#include "steps.h"

enum { PERIOD = 30000000, FAR = 3600, SIGNAL = 40, THREAD_SIGNAL = 41, ONCE_SIGNAL = 42, CPU_SIGNAL = 43 };
static volatile long signals, in_thread, called, once, cpu;
static timer_t by_signal, by_thread, by_call, silent, single, of_process, of_thread, idle, far[4];
static const clockid_t far_clocks[4] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI};
static pid_t target;
static int stop_now;

static double now(void) {
  struct timespec t;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void on_signal(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)context;
  CHECK(info->si_code == SI_TIMER && info->si_value.sival_ptr == &signals);
  signals++;
}

static void on_thread(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)context;
  CHECK(info->si_code == SI_TIMER && gettid() == target);
  in_thread++;
}

static void on_once(int sig) { (void)sig, once++; }
static void on_cpu(int sig) { (void)sig, cpu++; }

static void on_call(union sigval value) {
  CHECK(value.sival_int == 77);
  __sync_fetch_and_add(&called, 1);
}

static timer_t timer(clockid_t clock, int how, int sig, void *value) {
  timer_t out;
  struct sigevent event = {.sigev_notify = how, .sigev_signo = sig, .sigev_value.sival_ptr = value};
  if (how == SIGEV_THREAD_ID) event._sigev_un._tid = target;
  if (how == SIGEV_THREAD) event.sigev_notify_function = on_call, event.sigev_value.sival_int = 77;
  CHECK(timer_create(clock, &event, &out) == 0);
  return out;
}

static void set(timer_t timer, int flags, time_t seconds, long first, long every) {
  struct itimerspec time = {{0, every}, {seconds, first}};
  CHECK(timer_settime(timer, flags, &time, NULL) == 0);
}

static double left(timer_t timer) {
  struct itimerspec time;
  CHECK(timer_gettime(timer, &time) == 0);
  return time.it_value.tv_sec + time.it_value.tv_nsec / 1e9;
}

/* Until a count has grown. */
static void more(volatile long *count, const char *what) {
  long before = *count;
  for (double start = now(); *count == before; rest(2))
    if (now() - start > 10) FAIL("%s: no more expirations after %ld", what, before);
}

static void action(int sig, void (*handler)(int, siginfo_t *, void *)) {
  struct sigaction sa = {.sa_flags = SA_SIGINFO | SA_RESTART, .sa_sigaction = handler};
  CHECK(sigaction(sig, &sa, NULL) == 0);
}

static void *receiver(void *arg) {
  sigset_t set;
  __atomic_store_n(&target, gettid(), __ATOMIC_SEQ_CST);
  sigemptyset(&set), sigaddset(&set, SIGNAL), sigaddset(&set, CPU_SIGNAL);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  of_thread = timer(CLOCK_THREAD_CPUTIME_ID, SIGEV_NONE, 0, NULL);
  set_far:
  set(of_thread, 0, FAR, 0, 0);
  if (0) goto set_far;
  while (!__atomic_load_n(&stop_now, __ATOMIC_SEQ_CST)) rest(5);
  return arg;
}
