/* Tens of thousands of mappings, which the kernel cannot join: as many as it allows by default, nearly. */
#include "steps.h"

enum { PAGE = 4096, COUNT = 60000 };

int main(void) {
  char *area = mmap(NULL, (size_t)COUNT * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(area != MAP_FAILED);
  for (long i = 0; i < COUNT; i++) {
    if (i % 3) *(long *)(area + i * PAGE) = i;
    if (i % 2) CHECK(mprotect(area + i * PAGE, PAGE, PROT_READ) == 0);
  }
  for (long n = 1; !stopping(); n++) {
    for (long i = 0; i < COUNT; i++) CHECK(*(long *)(area + i * PAGE) == (i % 3 ? i : i % 6 ? 0 : n - 1));
    for (long i = 0; i < COUNT; i += 6) *(long *)(area + i * PAGE) = n;
    step("main", n);
    rest(10);
  }
  return done();
}
