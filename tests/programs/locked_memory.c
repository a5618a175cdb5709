/* Memory that is locked in every way. Arguments: `all`, all there is and all to come; `later`, what is to come, when it is
   touched; `pieces`, some mappings, at once or when they are touched. */
#include "steps.h"
#include "smaps.h"

enum { PAGE = 4096, PAGES = 8 };

/* Of the mapping that holds an address: locked (1), when touched (2). */
static int locked(const void *inside) { return has_flag(inside, " lo") | has_flag(inside, " lf") << 1; }

/* Between pages without access: never one mapping with what happens to be beside it, whose pages have content. */
static char *map(void) {
  char *p = mmap(NULL, (PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(p != MAP_FAILED && mprotect(p + PAGE, PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
  return p + PAGE;
}

static void unmap(char *p) { CHECK(munmap(p - PAGE, (PAGES + 2) * PAGE) == 0); }

static unsigned char resident(char *p) {
  unsigned char pages[PAGES];
  CHECK(mincore(p, PAGES * PAGE, pages) == 0);
  int count = 0;
  for (int i = 0; i < PAGES; i++) count += pages[i] & 1;
  return (unsigned char)count;
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  int all = strcmp(argv[1], "all") == 0, later = strcmp(argv[1], "later") == 0;
  char *before = map(), *at_once = map(), *touched = map();
  if (all) CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
  else if (later) CHECK(mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
  else CHECK(mlock(at_once, PAGES * PAGE) == 0 && mlock2(touched, PAGES * PAGE, MLOCK_ONFAULT) == 0);
  touched[PAGE] = 't';
  for (long n = 1; !stopping(); n++) {
    char *fresh = map();
    if (locked(fresh) != (all ? 1 : later ? 3 : 0)) FAIL("fresh memory is locked %d in step %ld", locked(fresh), n);
    if (all) CHECK(resident(fresh) == PAGES);
    else CHECK(resident(fresh) == 0);
    unmap(fresh);
    if (locked(before) != all) FAIL("old memory is locked %d in step %ld", locked(before), n);
    if (locked(at_once) != (all || !later)) FAIL("locked memory is locked %d in step %ld", locked(at_once), n);
    if (locked(touched) != (all ? 1 : later ? 0 : 3)) FAIL("touched memory is locked %d in step %ld", locked(touched), n);
    CHECK(touched[PAGE] == 't');
    if (!later) CHECK(resident(at_once) == PAGES);
    step("main", n);
    rest(10);
  }
  return done();
}
