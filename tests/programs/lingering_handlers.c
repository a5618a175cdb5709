/* Signal handlers that have interrupted a clock of the vdso, and are not done when the program is saved: most are brief, the
   ones of every step take longer than a checkpoint. The clock goes on where it was interrupted. */
#include "steps.h"
#include <dlfcn.h>
#include <ucontext.h>

/* What a restart may change at the beginning of a function of the vdso; nobody lingers before that. */
enum { CHANGED = 13, LENGTH = 128 };
static volatile unsigned long clock_code;
static volatile int linger, lingered, brief;
static pthread_t reader;

static long long now(void) {
  struct timespec t;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void on_signal(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)info;
  unsigned long offset = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] - clock_code;
  if (offset < CHANGED || offset >= LENGTH) return;
  if (!linger) {
    /* Long enough for a checkpoint to begin. */
    if (++brief % 8 == 0) rest(2);
    return;
  }
  linger = 0;
  lingered++;
  rest(1500);
}

static void *poke(void *arg) {
  uint64_t random = 11;
  for (;;) {
    OK(pthread_kill(reader, SIGUSR1));
    rest(1 + random_number(&random) % 2);
  }
  return arg;
}

int main(void) {
  struct sigaction action = {.sa_flags = SA_RESTART | SA_SIGINFO, .sa_sigaction = on_signal};
  pthread_t poker;
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
  CHECK(vdso != NULL);
  clock_code = (unsigned long)dlsym(vdso, "__vdso_clock_gettime");
  CHECK(clock_code != 0);
  reader = pthread_self();
  OK(pthread_create(&poker, NULL, poke, NULL));
  long long last = now();
  for (long n = 1; !stopping(); n++) {
    int before = lingered;
    linger = 1;
    /* After a restart under another kernel the clock may be read elsewhere: then no handler finds itself there. */
    for (int i = 0; i < 2000000 && lingered == before; i++) {
      long long t = now();
      CHECK(t >= last);
      last = t;
    }
    linger = 0;
    step("main", n);
  }
  return done();
}
