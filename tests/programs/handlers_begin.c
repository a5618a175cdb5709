/* Handlers that a checkpoint meets as they are about to begin: again and again a child fills the queues of two signals whose
   handlers may interrupt each other, so that the kernel has mostly laid out a frame or two when the process is stopped. Each
   handler is told who the sender is, and what he sent, in order. The third is the checkpoint signal's number, which comes one
   at a time. */
#include "steps.h"
#include <sys/wait.h>

enum { KINDS = 3 };
static const long burst[KINDS] = {300, 300, 1};
static struct { volatile long sent[KINDS], taken[KINDS], ready; } *shared;
static pid_t child;
static int numbers[KINDS];

static void handler(int number, siginfo_t *info, void *context) {
  (void)context;
  int saved = errno, kind = 0;
  while (numbers[kind] != number) kind++;
  long want = shared->taken[kind];
  if (info->si_signo != number || info->si_code != SI_QUEUE || info->si_pid != child || info->si_uid != getuid() ||
      info->si_value.sival_ptr != (void *)want)
    FAIL("signal %d from %d with value %p instead of %ld from %d", number, info->si_pid, info->si_value.sival_ptr, want, child);
  for (int i = 0; i < 15; i++)
    if (((char *)info)[113 + i]) FAIL("something behind the siginfo of signal %d", number);
  struct timespec start, now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
  do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < 30000);
  shared->taken[kind] = want + 1;
  errno = saved;
}

static void sends(pid_t parent) {
  while (!shared->ready) rest(1);
  for (;;) {
    for (int kind = 0; kind < KINDS; kind++)
      for (int i = 0; i < burst[kind]; i++) {
        CHECK(sigqueue(parent, numbers[kind], (union sigval){.sival_ptr = (void *)shared->sent[kind]}) == 0);
        shared->sent[kind]++;
      }
    for (int kind = 0; kind < KINDS; kind++)
      while (shared->taken[kind] < shared->sent[kind] && getppid() == parent) rest(1);
    if (getppid() != parent) _exit(0);
    rest(4);
  }
}

int main(void) {
  struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
  pid_t parent = getpid();
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  for (int kind = 0; kind < KINDS; kind++) {
    numbers[kind] = kind == KINDS - 1 ? 62 : SIGRTMIN + 1 + kind;
    CHECK(sigaction(numbers[kind], &sa, NULL) == 0);
  }
  sigset_t all, before;
  sigfillset(&all);
  CHECK(sigprocmask(SIG_BLOCK, &all, &before) == 0);
  CHECK((child = fork()) >= 0);
  if (child == 0) sends(parent);
  CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
  shared->ready = 1;
  for (long n = 1; !stopping(); n++) {
    long so_far = shared->taken[0];
    while (shared->taken[0] < so_far + 300) pause();
    step("taken", n);
  }
  CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
  CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
  return done();
}
