/* 64 MiB of noise in the middle of a mapping, declared as scratch memory. A checkpoint leaves it, a restart gives zeros;
   its neighbours stay as they are. */
#include "steps.h"

void scratch_memory(void *, size_t) __attribute__((weak));

#define PAGE 4096L
#define SCRATCH (64L << 20)

int main(void) {
  unsigned char *all = mmap(NULL, SCRATCH + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(all != MAP_FAILED);
  CHECK(scratch_memory != NULL);
  unsigned char *scratch = all + PAGE;
  scratch_memory(scratch, SCRATCH);
  memset(all, 1, PAGE);
  memset(scratch + SCRATCH, 2, PAGE);
  uint64_t state = 1, sample = 0;
  int filled = 0;
  for (long n = 1; !stopping(); n++) {
    if (!filled) {
      for (uint64_t *p = (uint64_t *)scratch; p < (uint64_t *)(scratch + SCRATCH); p++) *p = random_number(&state);
      sample = *(uint64_t *)(scratch + PAGE * 100);
      filled = 1;
    }
    for (long i = 0; i < PAGE; i++) CHECK(all[i] == 1 && scratch[SCRATCH + i] == 2);
    if (*(uint64_t *)(scratch + PAGE * 100) != sample) {
      for (uint64_t *p = (uint64_t *)scratch; p < (uint64_t *)(scratch + SCRATCH); p++) CHECK(*p == 0);
      note("zeros %ld", n);
      filled = 0;
    }
    step("main", n);
    rest(10);
  }
  return done();
}
