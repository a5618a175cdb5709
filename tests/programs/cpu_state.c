/* Control words and bases of the CPU that belong to a thread: rounding of x87 and SSE, exceptions raised, the direction of
   denormals, the FS and GS bases; the time stamp functions of the vdso go on from where they are. */
#include "steps.h"
#include <asm/prctl.h>
#include <fenv.h>
#include <sched.h>
#include <xmmintrin.h>

static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};

static void *rounds(void *arg) {
  long me = (long)arg;
  char stream[16];
  static long own[4];
  unsigned long gs = 0;
  snprintf(stream, sizeof stream, "mode%ld", me);
  CHECK(fesetround(modes[me]) == 0 && feclearexcept(FE_ALL_EXCEPT) == 0 && feraiseexcept(FE_OVERFLOW) == 0);
  if (me % 2) _mm_setcsr(_mm_getcsr() | 0x8040);
  unsigned csr = _mm_getcsr() & ~0x3fu;
  unsigned short word, now;
  __asm__ volatile("fnstcw %0" : "=m"(word));
  word = (unsigned short)((word & ~0x300) | (me % 2 ? 0x200 : 0x300));
  __asm__ volatile("fldcw %0" : : "m"(word));
  own[me] = me + 100;
  CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, &own[me]) == 0);
  for (long n = 1; !stopping(); n++) {
    volatile double third = 1.0, minus = -1.0;
    long read;
    third /= 3.0, minus /= 3.0;
    double up = 0x1.5555555555556p-2, down = 0x1.5555555555555p-2;
    CHECK(third == (modes[me] == FE_UPWARD ? up : down));
    CHECK(minus == (modes[me] == FE_DOWNWARD ? -up : -down));
    CHECK(fegetround() == modes[me] && fetestexcept(FE_OVERFLOW) && (_mm_getcsr() & ~0x3fu) == csr);
    __asm__ volatile("fnstcw %0" : "=m"(now));
    CHECK(now == word);
    __asm__ volatile("mov %%gs:0, %0" : "=r"(read));
    CHECK(read == me + 100 && syscall(SYS_arch_prctl, ARCH_GET_GS, &gs) == 0 && gs == (unsigned long)&own[me]);
    unsigned cpu;
    CHECK(syscall(SYS_getcpu, &cpu, NULL, NULL) == 0 && sched_getcpu() >= 0);
    struct timespec vdso, kernel;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &vdso) == 0 && syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &kernel) == 0);
    double apart = (kernel.tv_sec - vdso.tv_sec) + (kernel.tv_nsec - vdso.tv_nsec) / 1e9;
    CHECK(apart >= 0);
    step(stream, n);
    rest(10);
  }
  return arg;
}

/* A thread whose FS base is not its thread pointer for most of the time, as in programs that switch between libraries of
   two systems: whatever stops it there must not use it. */
static void *elsewhere(void *arg) {
  static long own[64];
  own[0] = 4711;
  for (long n = 1; !stopping(); n++) {
    long spins = 3000000, seen = 0, is = 0;
    unsigned long mine;
    CHECK(syscall(SYS_arch_prctl, ARCH_GET_FS, &mine) == 0);
    __asm__ volatile(
        "mov %[set], %%edi\n mov %[own], %%rsi\n mov %[call], %%eax\n syscall\n"
        "1: dec %[spins]\n jnz 1b\n"
        "mov %%fs:0, %[seen]\n"
        "mov %[get], %%edi\n lea %[is], %%rsi\n mov %[call], %%eax\n syscall\n"
        "mov %[set], %%edi\n mov %[mine], %%rsi\n mov %[call], %%eax\n syscall\n"
        : [spins] "+r"(spins), [seen] "=&r"(seen), [is] "+m"(is)
        : [own] "r"(own), [mine] "r"(mine), [set] "i"(ARCH_SET_FS), [get] "i"(ARCH_GET_FS), [call] "i"(SYS_arch_prctl)
        : "rax", "rdi", "rsi", "rcx", "r11", "memory", "cc");
    CHECK(seen == 4711 && is == (long)own);
    step("elsewhere", n);
  }
  return arg;
}

int main(void) {
  pthread_t threads[5];
  for (long i = 0; i < 4; i++) OK(pthread_create(&threads[i], NULL, rounds, (void *)i));
  OK(pthread_create(&threads[4], NULL, elsewhere, NULL));
  for (int i = 0; i < 5; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
