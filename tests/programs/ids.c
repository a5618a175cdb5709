/* Ids of the process and of its threads, by libc and by raw system calls, and that they name whom they named. */
#include "steps.h"
#include <dirent.h>
#include <sched.h>

enum { THREADS = 4 };
static pid_t tid[THREADS];
static pthread_t thread[THREADS];
static pthread_barrier_t ready;

static void *work(void *arg) {
  long id = (long)arg;
  char stream[16], path[64], link[64];
  tid[id] = gettid();
  pid_t pid = getpid();
  snprintf(stream, sizeof stream, "t%ld", id);
  snprintf(path, sizeof path, "/proc/%d/task/%d", pid, tid[id]);
  pthread_barrier_wait(&ready);
  for (long n = 1; !stopping(); n++) {
    clockid_t clock;
    struct timespec t;
    cpu_set_t cpus;
    pthread_attr_t attr;
    pthread_t peer = thread[(id + 1) % THREADS];
    CHECK(gettid() == tid[id] && syscall(SYS_gettid) == tid[id]);
    CHECK(getpid() == pid && syscall(SYS_getpid) == pid);
    CHECK(access(path, F_OK) == 0);
    CHECK(syscall(SYS_tgkill, pid, tid[(id + 1) % THREADS], 0) == 0 && kill(pid, 0) == 0);
    OK(pthread_kill(peer, 0));
    OK(pthread_getcpuclockid(peer, &clock));
    CHECK(clock_gettime(clock, &t) == 0);
    OK(pthread_getaffinity_np(peer, sizeof cpus, &cpus));
    CHECK(sched_getaffinity(tid[(id + 1) % THREADS], sizeof cpus, &cpus) == 0);
    OK(pthread_getattr_np(peer, &attr));
    OK(pthread_attr_destroy(&attr));
    memset(link, 0, sizeof link);
    CHECK(readlink("/proc/self", link, sizeof link - 1) > 0 && atoi(link) == pid);
    step(stream, n);
    rest(10);
  }
  return arg;
}

static void *short_lived(void *arg) {
  *(pid_t *)arg = gettid();
  return NULL;
}

int main(void) {
  pid_t pid = getpid(), group = getpgrp();
  CHECK(gettid() == pid && getpgid(0) == group);
  OK(pthread_barrier_init(&ready, NULL, THREADS + 1));
  for (long i = 0; i < THREADS; i++) OK(pthread_create(&thread[i], NULL, work, (void *)i));
  pthread_barrier_wait(&ready);
  for (long n = 1; !stopping(); n++) {
    pthread_t young;
    pid_t young_tid = 0;
    OK(pthread_create(&young, NULL, short_lived, &young_tid));
    OK(pthread_join(young, NULL));
    CHECK(young_tid > 0 && young_tid != pid);
    for (int i = 0; i < THREADS; i++) CHECK(young_tid != tid[i]);
    CHECK(gettid() == pid && getpid() == pid);
    if (getpgrp() != group || getpgid(0) != group) FAIL("process group %d, was %d", getpgrp(), group);
    step("main", n);
    rest(10);
  }
  for (int i = 0; i < THREADS; i++) OK(pthread_join(thread[i], NULL));
  return done();
}
