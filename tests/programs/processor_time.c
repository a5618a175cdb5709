/* Processor time and what else getrusage(2) counts: for the process, each thread and the children, by each of libc's
   functions, it never goes back, and goes on by what is used. What is born begins at nothing. */
#include "steps.h"
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/wait.h>

enum { THREADS = 3, READINGS = 32, SHARE_MS = 20, FIRST_MS = 250 };
#define MS 1000000LL

static pthread_t threads[THREADS];
static pthread_barrier_t ready;

static long long on(clockid_t clock) {
  struct timespec t;
  CHECK(clock_gettime(clock, &t) == 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long past_libc(clockid_t clock) {
  struct timespec t;
  CHECK(syscall(SYS_clock_gettime, clock, &t) == 0);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void burn(int ms) {
  long long start = on(CLOCK_THREAD_CPUTIME_ID);
  while (on(CLOCK_THREAD_CPUTIME_ID) - start < ms * MS) continue;
}

static long long whole(struct timeval t) { return t.tv_sec * 1000000LL + t.tv_usec; }

static int usage(int who, long long *into) {
  struct rusage u;
  CHECK(getrusage(who, &u) == 0);
  long long all[] = {whole(u.ru_utime), whole(u.ru_stime), u.ru_maxrss, u.ru_minflt, u.ru_majflt,
                     u.ru_inblock, u.ru_oublock, u.ru_nvcsw, u.ru_nivcsw};
  memcpy(into, all, sizeof all);
  return sizeof all / sizeof *all;
}

/* Everything that can be asked. */
static int read_all(long long *into) {
  struct tms t;
  clockid_t id;
  int n = 0;
  into[n++] = on(CLOCK_THREAD_CPUTIME_ID);
  into[n++] = on(CLOCK_PROCESS_CPUTIME_ID);
  into[n++] = clock_getcpuclockid(getpid(), &id) == 0 ? on(id) : -1;
  into[n++] = pthread_getcpuclockid(pthread_self(), &id) == 0 ? on(id) : -1;
  into[n++] = past_libc(CLOCK_THREAD_CPUTIME_ID);
  into[n++] = past_libc(CLOCK_PROCESS_CPUTIME_ID);
  into[n++] = (long long)(clock() * (1000000.0 / CLOCKS_PER_SEC));
  into[n++] = times(&t);
  into[n++] = t.tms_utime, into[n++] = t.tms_stime, into[n++] = t.tms_cutime, into[n++] = t.tms_cstime;
  n += usage(RUSAGE_SELF, into + n);
  n += usage(RUSAGE_THREAD, into + n);
  struct rusage children;
  CHECK(getrusage(RUSAGE_CHILDREN, &children) == 0);
  into[n++] = whole(children.ru_utime) + whole(children.ru_stime);
  return n;
}

/* A process has used what its threads have. */
static void whole_of_parts(void) {
  long long sum = 0;
  clockid_t clock;
  for (int i = 0; i < THREADS; i++) {
    OK(pthread_getcpuclockid(threads[i], &clock));
    sum += on(clock);
  }
  long long process = on(CLOCK_PROCESS_CPUTIME_ID);
  if (process < sum) FAIL("the process has used %lld ns, its threads %lld", process, sum);
  struct rusage u;
  struct tms t;
  CHECK(getrusage(RUSAGE_SELF, &u) == 0 && times(&t) != -1);
  long long said = whole(u.ru_utime) + whole(u.ru_stime);
  if (said * 1000 < process - MS) FAIL("the clock says %lld ns, getrusage %lld us", process, said);
  if ((t.tms_utime + t.tms_stime + 2) * 10 * MS < process) FAIL("times says %ld + %ld", t.tms_utime, t.tms_stime);
}

static void begins_at_nothing(void) {
  long long thread = on(CLOCK_THREAD_CPUTIME_ID);
  if (thread > FIRST_MS / 2 * MS) FAIL("a new thread has used %lld ns", thread);
  struct rusage u;
  CHECK(getrusage(RUSAGE_THREAD, &u) == 0 && whole(u.ru_utime) + whole(u.ru_stime) < FIRST_MS / 2 * 1000);
}

static void *new_thread(void *arg) {
  begins_at_nothing();
  return arg;
}

static void new_child(void) {
  struct rusage u;
  begins_at_nothing();
  CHECK(on(CLOCK_PROCESS_CPUTIME_ID) < FIRST_MS / 2 * MS && clock() < FIRST_MS / 2 * 1000);
  CHECK(getrusage(RUSAGE_CHILDREN, &u) == 0 && whole(u.ru_utime) + whole(u.ru_stime) == 0);
  _exit(5);
}

static void await(pid_t pid) {
  int status;
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void births(void) {
  pthread_t thread;
  OK(pthread_create(&thread, NULL, new_thread, NULL));
  OK(pthread_join(thread, NULL));
  pid_t pid = fork();
  if (pid == 0) new_child();
  await(pid);
  static volatile long long used;
  pid = vfork();
  if (pid == 0) {
    used = on(CLOCK_PROCESS_CPUTIME_ID);
    _exit(5);
  }
  await(pid);
  CHECK(used < FIRST_MS / 2 * MS);
}

/* A sleep until the process has used so much ends when it has. */
static void *sleeper(void *arg) {
  long long until = on(CLOCK_PROCESS_CPUTIME_ID) + SHARE_MS * MS;
  struct timespec t = {until / 1000000000, until % 1000000000};
  OK(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &t, NULL));
  CHECK(on(CLOCK_PROCESS_CPUTIME_ID) >= until);
  return arg;
}

/* So does a timer that is set to such a point. */
static void timer_until(void) {
  timer_t timer;
  struct sigevent none = {.sigev_notify = SIGEV_NONE};
  long long until = on(CLOCK_PROCESS_CPUTIME_ID) + SHARE_MS * MS;
  struct itimerspec t = {.it_value = {until / 1000000000, until % 1000000000}};
  CHECK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &none, &timer) == 0);
  CHECK(timer_settime(timer, TIMER_ABSTIME, &t, NULL) == 0 && timer_gettime(timer, &t) == 0);
  if (t.it_value.tv_sec != 0 || t.it_value.tv_nsec > SHARE_MS * MS)
    FAIL("the timer has %ld.%09ld s left", t.it_value.tv_sec, t.it_value.tv_nsec);
  CHECK(timer_delete(timer) == 0);
}

static void *work(void *arg) {
  long id = (long)arg;
  long long last[READINGS] = {0}, now[READINGS];
  char stream[16];
  snprintf(stream, sizeof stream, "t%ld", id);
  burn(FIRST_MS);
  pthread_barrier_wait(&ready);
  for (long n = 1; !stopping(); n++) {
    int count = read_all(now);
    for (int i = 0; i < count; i++)
      if (now[i] < last[i]) FAIL("reading %d of thread %ld has gone back from %lld to %lld", i, id, last[i], now[i]);
    memcpy(last, now, sizeof last);
    long long process = on(CLOCK_PROCESS_CPUTIME_ID), start = on(CLOCK_MONOTONIC);
    burn(SHARE_MS);
    process = on(CLOCK_PROCESS_CPUTIME_ID) - process;
    CHECK(process >= SHARE_MS * MS);
    /* Whatever is counted twice shows here: there are not that many processors. */
    if (process > (on(CLOCK_MONOTONIC) - start) * (sysconf(_SC_NPROCESSORS_ONLN) + 1) + 100 * MS)
      FAIL("the process has used %lld ns for %d ms", process, SHARE_MS);
    whole_of_parts();
    if (id == 0) {
      births();
      timer_until();
      pthread_t thread;
      OK(pthread_create(&thread, NULL, sleeper, NULL));
      burn(2 * SHARE_MS);
      OK(pthread_join(thread, NULL));
    }
    step(stream, n);
    if (id != 0) rest(SHARE_MS);
  }
  /* Others may be reading this thread's clock. */
  pthread_barrier_wait(&ready);
  return NULL;
}

int main(void) {
  pid_t pid = fork();
  if (pid == 0) {
    burn(FIRST_MS);
    _exit(5);
  }
  await(pid);
  struct rusage children;
  CHECK(getrusage(RUSAGE_CHILDREN, &children) == 0);
  CHECK(whole(children.ru_utime) + whole(children.ru_stime) >= FIRST_MS * 1000 * 9 / 10);
  OK(pthread_barrier_init(&ready, NULL, THREADS));
  threads[0] = pthread_self();
  for (long i = 1; i < THREADS; i++) OK(pthread_create(&threads[i], NULL, work, (void *)i));
  work((void *)0);
  for (long i = 1; i < THREADS; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
