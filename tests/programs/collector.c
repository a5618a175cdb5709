/* A write barrier as garbage collectors have it (SIGSEGV opens a page and notes it), under a profiler's SIGPROF at 1 kHz. */
#include "steps.h"
#include <sys/time.h>

enum { PAGES = 256, PAGE = 4096, MUTATORS = 3 };

static char *heap;
static volatile char dirty[PAGES];
static volatile long profiled, faults;
static long written[PAGES];
static pthread_rwlock_t world = PTHREAD_RWLOCK_INITIALIZER;

static void barrier(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)context;
  long page = ((char *)info->si_addr - heap) / PAGE;
  if (page < 0 || page >= PAGES || info->si_code != SEGV_ACCERR) FAIL("fault at %p, code %d", info->si_addr, info->si_code);
  dirty[page] = 1;
  __atomic_add_fetch(&faults, 1, __ATOMIC_SEQ_CST);
  if (mprotect(heap + page * PAGE, PAGE, PROT_READ | PROT_WRITE)) FAIL("mprotect: %d", errno);
}

static void profile(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)context;
  if (info->si_code != SI_KERNEL) FAIL("SIGPROF with code %d", info->si_code);
  __atomic_add_fetch(&profiled, 1, __ATOMIC_SEQ_CST);
}

static void *mutator(void *arg) {
  long me = (long)arg;
  uint64_t random = 77 + (uint64_t)me;
  char stream[16];
  sigset_t set;
  snprintf(stream, sizeof stream, "mutator%ld", me);
  /* It rests by nanosleep, which a handler interrupts. */
  sigemptyset(&set), sigaddset(&set, SIGPROF);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  for (long n = 1; !stopping(); n++) {
    OK(pthread_rwlock_rdlock(&world));
    for (int i = 0; i < 200; i++) {
      long page = (long)(random_number(&random) % PAGES);
      page -= page % MUTATORS - me;
      if (page < 0 || page >= PAGES) continue;
      long *word = (long *)(heap + page * PAGE) + 5;
      CHECK(*word == written[page]);
      *word = ++written[page];
      CHECK(dirty[page]);
    }
    OK(pthread_rwlock_unlock(&world));
    step(stream, n);
    rest(3);
  }
  return arg;
}

int main(void) {
  pthread_t threads[MUTATORS];
  struct sigaction action = {.sa_sigaction = barrier, .sa_flags = SA_SIGINFO};
  struct itimerval interval = {{0, 1000}, {0, 1000}};
  heap = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(heap != MAP_FAILED && sigaction(SIGSEGV, &action, NULL) == 0);
  action.sa_sigaction = profile, action.sa_flags = SA_SIGINFO | SA_RESTART;
  CHECK(sigaction(SIGPROF, &action, NULL) == 0 && setitimer(ITIMER_PROF, &interval, NULL) == 0);
  for (long i = 0; i < MUTATORS; i++) OK(pthread_create(&threads[i], NULL, mutator, (void *)i));
  for (long n = 1; !stopping(); n++) {
    long before = profiled;
    /* Busy until the profiler has struck: it must not have gone. */
    for (long spin = 0; profiled - before < 5; spin++) CHECK(spin < 4000000000);
    OK(pthread_rwlock_wrlock(&world));
    CHECK(mprotect(heap, PAGES * PAGE, PROT_READ) == 0);
    for (int page = 0; page < PAGES; page++) {
      CHECK(((long *)(heap + page * PAGE))[5] == written[page]);
      dirty[page] = 0;
    }
    OK(pthread_rwlock_unlock(&world));
    step("collector", n);
  }
  for (int i = 0; i < MUTATORS; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
