/* Registers that a checkpoint must not touch: x87, SSE, AVX, AVX-512 and AMX where they are, and control words.
   Each test loads them, counts down for about a millisecond, and stores them, in one piece of assembly. */
#include "steps.h"
#include <fenv.h>
#include <immintrin.h>

enum { SPINS = 3000000 };

static void x87(void) {
  double in[8], out[8];
  long spins = SPINS;
  for (int i = 0; i < 8; i++) in[i] = i * 1.5 + 0.25;
  __asm__ volatile(
      "fldl 56(%1)\n fldl 48(%1)\n fldl 40(%1)\n fldl 32(%1)\n fldl 24(%1)\n fldl 16(%1)\n fldl 8(%1)\n fldl (%1)\n"
      "1: dec %0\n jnz 1b\n"
      "fstpl (%2)\n fstpl 8(%2)\n fstpl 16(%2)\n fstpl 24(%2)\n"
      "fstpl 32(%2)\n fstpl 40(%2)\n fstpl 48(%2)\n fstpl 56(%2)\n"
      : "+r"(spins) : "r"(in), "r"(out)
      : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
  CHECK(memcmp(in, out, sizeof in) == 0);
}

static void sse(void) {
  unsigned char in[128], out[128];
  long spins = SPINS;
  for (int i = 0; i < 128; i++) in[i] = (unsigned char)(i * 7 + 1);
  __asm__ volatile(
      "movups (%1),%%xmm0\n movups 16(%1),%%xmm1\n movups 32(%1),%%xmm6\n movups 48(%1),%%xmm7\n"
      "movups 64(%1),%%xmm8\n movups 80(%1),%%xmm9\n movups 96(%1),%%xmm14\n movups 112(%1),%%xmm15\n"
      "1: dec %0\n jnz 1b\n"
      "movups %%xmm0,(%2)\n movups %%xmm1,16(%2)\n movups %%xmm6,32(%2)\n movups %%xmm7,48(%2)\n"
      "movups %%xmm8,64(%2)\n movups %%xmm9,80(%2)\n movups %%xmm14,96(%2)\n movups %%xmm15,112(%2)\n"
      : "+r"(spins) : "r"(in), "r"(out)
      : "memory", "cc", "xmm0", "xmm1", "xmm6", "xmm7", "xmm8", "xmm9", "xmm14", "xmm15");
  CHECK(memcmp(in, out, sizeof in) == 0);
}

static void avx(void) {
  unsigned char in[128], out[128];
  long spins = SPINS;
  for (int i = 0; i < 128; i++) in[i] = (unsigned char)(i * 5 + 3);
  __asm__ volatile(
      "vmovups (%1),%%ymm0\n vmovups 32(%1),%%ymm5\n vmovups 64(%1),%%ymm10\n vmovups 96(%1),%%ymm15\n"
      "1: dec %0\n jnz 1b\n"
      "vmovups %%ymm0,(%2)\n vmovups %%ymm5,32(%2)\n vmovups %%ymm10,64(%2)\n vmovups %%ymm15,96(%2)\n vzeroupper\n"
      : "+r"(spins) : "r"(in), "r"(out) : "memory", "cc", "xmm0", "xmm5", "xmm10", "xmm15");
  CHECK(memcmp(in, out, sizeof in) == 0);
}

__attribute__((target("avx512f"))) static void avx512(void) {
  unsigned char in[192], out[192];
  long spins = SPINS;
  unsigned mask = 0xa5c3, mask_out = 0;
  for (int i = 0; i < 192; i++) in[i] = (unsigned char)(i * 11 + 9);
  __asm__ volatile(
      "kmovw %4,%%k5\n vmovups (%2),%%zmm1\n vmovups 64(%2),%%zmm17\n vmovups 128(%2),%%zmm30\n"
      "1: dec %0\n jnz 1b\n"
      "vmovups %%zmm1,(%3)\n vmovups %%zmm17,64(%3)\n vmovups %%zmm30,128(%3)\n kmovw %%k5,%1\n vzeroupper\n"
      : "+r"(spins), "=&r"(mask_out) : "r"(in), "r"(out), "r"(mask)
      : "memory", "cc", "xmm1", "xmm17", "xmm30", "k5");
  CHECK(memcmp(in, out, sizeof in) == 0 && mask_out == mask);
}

#if __GNUC__ >= 11
/* Tiles of AMX: the kernel gives them on request, per process, and gives each thread room for them at first use. */
__attribute__((target("amx-tile"))) static void amx(void) {
  static const struct {
    unsigned char palette, start_row, reserved[14];
    unsigned short bytes[16];
    unsigned char rows[16];
  } config = {.palette = 1, .bytes = {64, 64}, .rows = {16, 16}};
  static unsigned char in[1024], out[2][1024];
  long spins = SPINS;
  for (int i = 0; i < 1024; i++) in[i] = (unsigned char)(i * 13 + i / 256);
  _tile_loadconfig(&config);
  _tile_loadd(0, in, 64);
  _tile_loadd(1, in, 64);
  __asm__ volatile("1: dec %0\n jnz 1b\n" : "+r"(spins) : : "memory", "cc");
  _tile_stored(0, out[0], 64);
  _tile_stored(1, out[1], 64);
  _tile_release();
  CHECK(memcmp(in, out[0], 1024) == 0 && memcmp(in, out[1], 1024) == 0);
}

static int has_amx(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
}
#endif

struct kind {
  const char *name;
  void (*test)(void);
};

static void *work(void *arg) {
  struct kind *kind = arg;
  CHECK(fesetround(FE_UPWARD) == 0);
  unsigned mxcsr = _mm_getcsr() | 0x8040;  /* flush to zero, denormals are zero */
  _mm_setcsr(mxcsr);
  for (long n = 1; !stopping(); n++) {
    kind->test();
    CHECK(fegetround() == FE_UPWARD);
    CHECK((_mm_getcsr() & ~0x3fu) == (mxcsr & ~0x3fu));
    step(kind->name, n);
  }
  return NULL;
}

int main(void) {
  struct kind kinds[5] = {{"x87", x87}, {"sse", sse}};
  pthread_t threads[5];
  int count = 2;
  if (__builtin_cpu_supports("avx")) kinds[count++] = (struct kind){"avx", avx};
  if (__builtin_cpu_supports("avx512f")) kinds[count++] = (struct kind){"avx512", avx512};
#if __GNUC__ >= 11
  if (has_amx()) kinds[count++] = (struct kind){"amx", amx};
#endif
  for (int i = 0; i < count; i++) OK(pthread_create(&threads[i], NULL, work, &kinds[i]));
  for (int i = 0; i < count; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
