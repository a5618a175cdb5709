/* Pages of the hugetlb pool: touched and untouched, protected in part; with the argument `ordinary`, they may come back as
   ordinary memory, where the pool is empty. */
#include "steps.h"
#include "smaps.h"

enum { HUGE = 2 << 20, PIECES = 3 };

static int is_huge(const void *inside) { return has_flag(inside, " ht"); }

static char *map(size_t pages) {
  char *p = mmap(NULL, pages * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  if (p == MAP_FAILED) FAIL("no huge pages: error %d", errno);
  return p;
}

int main(int argc, char **argv) {
  int ordinary = argc > 1 && strcmp(argv[1], "ordinary") == 0;
  char *pages = map(PIECES), *untouched = map(1);
  for (size_t i = 0; i < 2 * HUGE; i += 4096) *(size_t *)(pages + i) = i;
  CHECK(mprotect(pages + HUGE, HUGE, PROT_READ) == 0);
  for (long n = 1; !stopping(); n++) {
    for (size_t i = 0; i < 2 * HUGE; i += 4096) CHECK(*(size_t *)(pages + i) == (i ? i : (size_t)n - 1));
    *(size_t *)pages = (size_t)n;
    if (!ordinary) CHECK(is_huge(pages) && is_huge(pages + HUGE) && is_huge(pages + 2 * HUGE) && is_huge(untouched));
    step("main", n);
    rest(10);
  }
  CHECK(untouched[77] == 0 && pages[2 * HUGE + 5] == 0);
  CHECK(mprotect(pages + HUGE, HUGE, PROT_READ | PROT_WRITE) == 0);
  CHECK(munmap(pages, PIECES * HUGE) == 0 && munmap(untouched, HUGE) == 0);
  return done();
}
