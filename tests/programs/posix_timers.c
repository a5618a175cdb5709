/* POSIX timers of every kind: each expires as it should, and keeps its id, its clock and the time that is left of it. */
#include "steps.h"

enum { PERIOD = 30000000, HOUR = 3600, SIGNAL = 40, TO_THREAD, ONCE, CPU };
static volatile long signals, in_thread, called, once, cpu;
static volatile pid_t target;
static timer_t of_thread;
static int over;

static double now(void) {
  struct timespec t;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* A rest that a handler may interrupt. */
static void nap(int ms) {
  struct timespec t = {0, ms * 1000000L};
  while (nanosleep(&t, &t) != 0) CHECK(errno == EINTR);
}

static void on_signal(int sig, siginfo_t *info, void *context) {
  (void)context;
  CHECK(info->si_code == SI_TIMER);
  CHECK(sig != TO_THREAD || gettid() == target);
  if (sig == SIGNAL) CHECK(info->si_value.sival_ptr == (void *)&signals);
  signals += sig == SIGNAL, in_thread += sig == TO_THREAD, once += sig == ONCE, cpu += sig == CPU;
}

static void on_call(union sigval value) {
  CHECK(value.sival_int == 77);
  __sync_fetch_and_add(&called, 1);
}

static timer_t timer(clockid_t clock, int how, int sig, time_t seconds, long every) {
  timer_t out;
  struct sigevent event = {.sigev_notify = how, .sigev_signo = sig, .sigev_value.sival_ptr = (void *)&signals};
  struct itimerspec time = {{0, every}, {seconds, every}};
  if (how == SIGEV_THREAD_ID) event._sigev_un._tid = target;
  if (how == SIGEV_THREAD) event.sigev_notify_function = on_call, event.sigev_value.sival_int = 77;
  CHECK(timer_create(clock, &event, &out) == 0 && timer_settime(out, 0, &time, NULL) == 0);
  return out;
}

static double left(timer_t timer) {
  struct itimerspec time;
  CHECK(timer_gettime(timer, &time) == 0);
  return time.it_value.tv_sec + time.it_value.tv_nsec / 1e9;
}

/* Until a count has grown: busy, for the sake of timers of processor time. */
static void more(volatile long *count, const char *what) {
  long before = *count;
  for (double start = now(); *count == before;)
    if (now() - start > 10) FAIL("%s: no more expirations after %ld", what, before);
}

static void *receiver(void *arg) {
  target = gettid();
  of_thread = timer(CLOCK_THREAD_CPUTIME_ID, SIGEV_NONE, 0, HOUR, 0);
  while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) nap(5);
  return arg;
}

static void *brief(void *arg) {
  pid_t main_thread = target;
  target = gettid();
  *(timer_t *)arg = timer(CLOCK_MONOTONIC, SIGEV_THREAD_ID, TO_THREAD, HOUR, 0);
  target = main_thread;
  return NULL;
}

int main(void) {
  static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI};
  enum { CLOCKS = sizeof clocks / sizeof *clocks };
  struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESTART, .sa_sigaction = on_signal};
  for (int sig = SIGNAL; sig <= CPU; sig++) CHECK(sigaction(sig, &action, NULL) == 0);
  timer_t far[CLOCKS], orphan;
  pthread_t thread;
  for (int i = 0; i < CLOCKS; i++) far[i] = timer(clocks[i], SIGEV_SIGNAL, ONCE, HOUR, 0);
  /* A gap in the ids. */
  CHECK(timer_delete(far[1]) == 0);
  far[1] = timer(clocks[1], SIGEV_SIGNAL, ONCE, HOUR, 0);
  OK(pthread_create(&thread, NULL, brief, &orphan));
  OK(pthread_join(thread, NULL));
  OK(pthread_create(&thread, NULL, receiver, NULL));
  while (!target) nap(1);
  nap(20);
  timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGNAL, 0, PERIOD);
  timer(CLOCK_REALTIME, SIGEV_THREAD_ID, TO_THREAD, 0, PERIOD);
  timer(CLOCK_MONOTONIC, SIGEV_THREAD, 0, 0, PERIOD);
  timer(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, CPU, 0, PERIOD);
  timer_t silent = timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, PERIOD), idle = timer(CLOCK_TAI, SIGEV_NONE, 0, 0, 0);
  timer_t once_more = timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, ONCE, 0, 0);
  double last = left(far[1]), last_now = now();

  for (long n = 1; !stopping(); n++) {
    more(&signals, "a signal");
    more(&in_thread, "a signal to a thread");
    more(&called, "a call in a thread");
    more(&cpu, "processor time");
    /* Each expires exactly once, whatever happens meanwhile. */
    struct itimerspec short_time = {{0, 0}, {0, 1 + n % 5 * 1000000}};
    CHECK(once == n - 1 && timer_settime(once_more, 0, &short_time, NULL) == 0);
    for (double start = now(); once < n; nap(1))
      if (now() - start > 10) FAIL("a single expiration is lost after %ld", n - 1);
    nap(5);
    CHECK(once == n && left(once_more) == 0 && left(idle) == 0 && left(silent) > 0 && left(silent) <= 0.03);
    /* The time away does not count, all other time does. */
    double rest_of = left(far[1]), moment = now();
    CHECK(rest_of < last && rest_of > last - (moment - last_now) - 0.05);
    last = rest_of, last_now = moment;
    for (int i = 0; i < CLOCKS; i++) CHECK(left(far[i]) - left(far[1]) < 0.5 && left(far[1]) - left(far[i]) < 0.5);
    CHECK(left(of_thread) > HOUR - 60 && left(of_thread) <= HOUR && left(orphan) > HOUR - 600);
    CHECK(timer_getoverrun(once_more) == 0);
    step("main", n);
  }
  __atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
  OK(pthread_join(thread, NULL));
  for (int i = 0; i < CLOCKS; i++) CHECK(timer_delete(far[i]) == 0);
  CHECK(timer_delete(orphan) == 0 && timer_delete(of_thread) == 0 && timer_delete(silent) == 0);
  return done();
}
