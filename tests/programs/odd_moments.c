/* Threads that a stop meets at odd moments: between coroutines, deep in handlers on an alternate stack that disarms itself,
   under a storm of signals from another thread, with exceptions of both floating-point units let through, with a base
   register of their own set by an instruction, and as they begin and end. */
#include "steps.h"
#include <fenv.h>
#include <immintrin.h>
#include <sys/auxv.h>
#include <ucontext.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

enum { STACK = 64 << 10, NESTED = 5 };

/* Two coroutines that hand the thread to each other all the time. */
static ucontext_t coroutines[2], outside;
static volatile long turns[2];

static void turn(int me) {
  volatile double sum = me + 0.5;
  while (!stopping()) {
    for (int i = 0; i < 2000; i++) {
      sum = sum + 1;
      turns[me] = turns[me] + 1;
      CHECK(sum == me + 0.5 + (double)turns[me]);
      CHECK(swapcontext(&coroutines[me], &coroutines[!me]) == 0);
    }
    if (me == 0) step("coroutines", turns[0] / 2000);
  }
  CHECK(setcontext(&outside) == 0);
}

static void prepare(int which) {
  static char stacks[2][STACK];
  ucontext_t *coroutine = &coroutines[which];
  CHECK(getcontext(coroutine) == 0);
  coroutine->uc_stack.ss_sp = stacks[which], coroutine->uc_stack.ss_size = STACK;
  makecontext(coroutine, (void (*)(void))turn, 1, which);
}

static void *hands_over(void *arg) {
  prepare(0), prepare(1);
  CHECK(swapcontext(&outside, &coroutines[0]) == 0);
  return arg;
}

/* Each handler sends the next signal, which interrupts it; the stack is armed again when the first returns. */
static __thread volatile int depth, deepest;

static void nests(int sig) {
  volatile char frame[1024];
  int own = sig - SIGRTMIN - 4;
  depth++;
  if (depth > deepest) deepest = depth;
  memset((char *)frame, sig, sizeof frame);
  if (own < NESTED) OK(pthread_kill(pthread_self(), sig + 1));
  for (volatile int i = 0; i < 20000; i = i + 1) {}
  for (unsigned i = 0; i < sizeof frame; i++) CHECK(frame[i] == (char)sig);
  depth--;
}

static void *nested(void *arg) {
  stack_t own = {.ss_sp = malloc(1 << 20), .ss_flags = (int)SS_AUTODISARM, .ss_size = 1 << 20}, now;
  CHECK(own.ss_sp && sigaltstack(&own, NULL) == 0);
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 20; i++) {
      deepest = 0;
      OK(pthread_kill(pthread_self(), SIGRTMIN + 4));
      CHECK(deepest == NESTED + 1 && depth == 0);
      CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == own.ss_sp && now.ss_size == own.ss_size);
      CHECK((unsigned)now.ss_flags == SS_AUTODISARM);
    }
    step("nested", n);
  }
  return arg;
}

static volatile long stormed;

static void counts(int sig) {
  (void)sig;
  __atomic_add_fetch(&stormed, 1, __ATOMIC_SEQ_CST);
}

static volatile int calm;

static void *in_a_storm(void *arg) {
  volatile double value = 1;
  while (!calm)
    for (int i = 0; i < 1000; i++) value = value + 1;
  return arg;
}

static void *storms(void *arg) {
  pthread_t victim;
  long sent = 0;
  OK(pthread_create(&victim, NULL, in_a_storm, NULL));
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 200; i++, sent++) {
      OK(pthread_kill(victim, SIGRTMIN + 3));
      while (i % 50 == 49 && stormed < sent - 49) sched_yield();
    }
    while (stormed < sent) sched_yield();
    CHECK(stormed == sent);
    step("storm", n);
    rest(5);
  }
  calm = 1;
  OK(pthread_join(victim, NULL));
  return arg;
}

static void *calculates(void *arg) {
  unsigned short word, wanted;
  CHECK(feenableexcept(FE_DIVBYZERO | FE_INVALID) >= 0 && fesetround(FE_DOWNWARD) == 0);
  /* Denormal numbers are zero, as operands and as results. */
  _mm_setcsr(_mm_getcsr() | 0x8040);
  unsigned control = _mm_getcsr() & ~0x3fu;
  __asm__ volatile("fnstcw %0" : "=m"(wanted));
  for (long n = 1; !stopping(); n++) {
    for (volatile int i = 0; i < 50000; i = i + 1) {
      __asm__ volatile("fnstcw %0" : "=m"(word));
      if (word != wanted || (_mm_getcsr() & ~0x3fu) != control) FAIL("control words %x, %x in step %ld", word, _mm_getcsr(), n);
    }
    CHECK(fegetexcept() == (FE_DIVBYZERO | FE_INVALID) && fegetround() == FE_DOWNWARD);
    step("calculates", n);
    rest(5);
  }
  return arg;
}

static void *has_a_base(void *arg) {
  static long block[4] = {11, 22, 33, 44};
  int by_instruction = (getauxval(AT_HWCAP2) & 2) != 0;
  if (by_instruction) __asm__ volatile("wrgsbase %0" ::"r"(block));
  else CHECK(syscall(SYS_arch_prctl, 0x1001, block) == 0);
  for (long n = 1; !stopping(); n++) {
    for (volatile int i = 0; i < 50000; i = i + 1) {
      long value;
      __asm__ volatile("movq %%gs:16, %0" : "=r"(value));
      if (value != 33) FAIL("gs:16 is %ld in step %ld", value, n);
    }
    step("base", n);
    rest(5);
  }
  return arg;
}

static pthread_key_t key;
static volatile long destroyed;

static void destroys(void *value) {
  CHECK(value == &destroyed);
  __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST);
}

static void *is_brief(void *arg) {
  OK(pthread_setspecific(key, (void *)&destroyed));
  rest(2);
  return arg;
}

/* Without a guard below their stacks, and named by another. */
static void *makes(void *arg) {
  pthread_attr_t attr;
  char name[16], is[16];
  OK(pthread_attr_init(&attr));
  OK(pthread_attr_setguardsize(&attr, 0));
  OK(pthread_attr_setstacksize(&attr, STACK));
  for (long n = 1; !stopping(); n++) {
    pthread_t brief;
    OK(pthread_create(&brief, &attr, is_brief, NULL));
    snprintf(name, sizeof name, "brief %ld", n % 1000);
    int rc = pthread_setname_np(brief, name), there = pthread_getname_np(brief, is, sizeof is);
    /* It may have ended. */
    if ((rc && rc != ENOENT && rc != ESRCH) || (there && there != ENOENT && there != ESRCH)) FAIL("name: %d, %d", rc, there);
    if (!rc && !there && strcmp(name, is)) FAIL("name %s instead of %s", is, name);
    OK(pthread_join(brief, NULL));
    if (destroyed != n) FAIL("%ld destructors have run for %ld threads", destroyed, n);
    if (n % 5 == 0) step("makes", n / 5);
  }
  return arg;
}

int main(void) {
  static void *(*const all[])(void *) = {hands_over, nested, storms, calculates, has_a_base, makes};
  enum { COUNT = sizeof all / sizeof *all };
  pthread_t threads[COUNT];
  struct sigaction nest = {.sa_handler = nests, .sa_flags = SA_ONSTACK | SA_NODEFER | SA_RESTART};
  struct sigaction count = {.sa_handler = counts, .sa_flags = SA_RESTART};
  for (int i = 0; i <= NESTED; i++) CHECK(sigaction(SIGRTMIN + 4 + i, &nest, NULL) == 0);
  CHECK(sigaction(SIGRTMIN + 3, &count, NULL) == 0);
  OK(pthread_key_create(&key, destroys));
  for (int i = 0; i < COUNT; i++) OK(pthread_create(&threads[i], NULL, all[i], NULL));
  for (int i = 0; i < COUNT; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
