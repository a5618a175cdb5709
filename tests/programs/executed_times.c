/* A process that executes itself again and again goes on with the processor time that it and its children have used. */
#include "steps.h"
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/wait.h>

enum { FIRST_MS = 300, READINGS = 8, STEPS = 5 };

static long long on(clockid_t clock) {
  struct timespec t;
  CHECK(clock_gettime(clock, &t) == 0);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long whole(struct timeval t) { return t.tv_sec * 1000000LL + t.tv_usec; }

static void burn(int ms) {
  for (long long start = on(CLOCK_PROCESS_CPUTIME_ID); on(CLOCK_PROCESS_CPUTIME_ID) - start < ms * 1000000LL;) continue;
}

static void read_all(long long *into) {
  struct rusage own, children;
  struct tms t;
  CHECK(getrusage(RUSAGE_SELF, &own) == 0 && getrusage(RUSAGE_CHILDREN, &children) == 0);
  long long elapsed = times(&t);
  long long all[READINGS] = {on(CLOCK_PROCESS_CPUTIME_ID), on(CLOCK_THREAD_CPUTIME_ID), whole(own.ru_utime),
                             whole(own.ru_stime), whole(children.ru_utime), own.ru_minflt, t.tms_utime, elapsed};
  memcpy(into, all, sizeof all);
}

static void child(int ms) {
  int status;
  pid_t pid = fork();
  if (pid == 0) {
    burn(ms);
    _exit(5);
  }
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

int main(int argc, char **argv) {
  long long last[READINGS], now[READINGS];
  long n = argc > 1 ? atol(argv[1]) : 0;
  if (argc < 2) {
    burn(FIRST_MS);
    child(FIRST_MS);
    read_all(last);
  } else {
    CHECK(argc == 2 + READINGS);
    for (int i = 0; i < READINGS; i++) last[i] = atoll(argv[2 + i]);
  }
  for (int i = 0; i < STEPS && !stopping(); i++) {
    read_all(now);
    for (int k = 0; k < READINGS; k++)
      if (now[k] < last[k]) FAIL("reading %d of step %ld has gone back from %lld to %lld", k, n, last[k], now[k]);
    memcpy(last, now, sizeof last);
    step("main", ++n);
    burn(2);
    rest(10);
  }
  if (stopping()) return done();
  char words[1 + READINGS][24], *arguments[3 + READINGS] = {argv[0]}, *environment[8] = {NULL};
  sprintf(words[0], "%ld", n);
  for (int i = 0; i < READINGS; i++) sprintf(words[1 + i], "%lld", last[i]);
  for (int i = 0; i <= READINGS; i++) arguments[1 + i] = words[i];
  /* Nothing of the environment but what the steps need. */
  int kept = 0;
  for (char **entry = environ; *entry; entry++)
    if (strncmp(*entry, "STEPS_", 6) == 0 && kept < 7) environment[kept++] = *entry;
  execve(argv[0], arguments, environment);
  FAIL("%s cannot be executed: error %d", argv[0], errno);
}
