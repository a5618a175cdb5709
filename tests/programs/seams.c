/* Memory that was protected piece by piece, grown by its neighbours, and grown into a reservation: the kernel joins the
   pieces to one mapping again, after a restart too, and only one mapping can be moved and grown as a whole. */
#include "steps.h"

enum { PAGE = 4096, PAGES = 24, MOST = 4000 };

/* How far the mapping that holds an address reaches: a reading that was cut in two by a restart tells less. */
static unsigned long end_of(const void *inside) {
  unsigned long end = 0, low, high;
  for (int i = 0; i < 3; i++) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    CHECK(maps);
    while (fgets(line, sizeof line, maps))
      if (sscanf(line, "%lx-%lx ", &low, &high) == 2 && (unsigned long)inside >= low && (unsigned long)inside < high && high > end)
        end = high;
    fclose(maps);
  }
  return end;
}

static char *map_at(void *at, size_t size, int prot) {
  char *p = mmap(at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);
  CHECK(p != MAP_FAILED);
  return p;
}

int main(void) {
  char *pieces = map_at(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE);
  /* Where nobody else maps anything. */
  char *grown = map_at((char *)0x200000000000, PAGE, PROT_READ | PROT_WRITE);
  char *reserve = map_at((char *)0x210000000000, MOST * PAGE, PROT_NONE);
  size_t grown_pages = 1, used = 0, count = PAGES;
  *(long *)grown = 1;
  for (size_t i = 0; i < PAGES; i++) *(size_t *)(pieces + i * PAGE) = i;
  for (long n = 1; !stopping(); n++) {
    /* In three pieces until the next step. */
    if (n > 1) CHECK(mprotect(pieces + 4 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE) == 0);
    if (end_of(pieces) < (unsigned long)pieces + count * PAGE) FAIL("the pieces are not one in step %ld", n);
    for (size_t i = 0; i < count; i++) CHECK(*(size_t *)(pieces + i * PAGE) == i);
    if (n % 5 == 0 && count < 2000) {
      pieces = mremap(pieces, count * PAGE, (count + 1) * PAGE, MREMAP_MAYMOVE);
      if (pieces == MAP_FAILED) FAIL("mremap of what was in pieces: error %d in step %ld", errno, n);
      *(size_t *)(pieces + count * PAGE) = count;
      count++;
    }
    CHECK(mprotect(pieces + 4 * PAGE, 8 * PAGE, PROT_READ) == 0);
    /* A neighbour is mapped, the whole is grown in place. */
    char *end = grown + grown_pages * PAGE;
    if (grown_pages < MOST) {
      if (n % 2) CHECK(map_at(end, PAGE, PROT_READ | PROT_WRITE) == end);
      else if (mremap(grown, grown_pages * PAGE, (grown_pages + 1) * PAGE, 0) != grown) FAIL("mremap in place: error %d in step %ld", errno, n);
      *(long *)end = (long)++grown_pages;
    }
    for (size_t i = 0; i < grown_pages; i++) CHECK(*(size_t *)(grown + i * PAGE) == i + 1);
    if (end_of(grown) != (unsigned long)grown + grown_pages * PAGE) FAIL("the neighbours are not one in step %ld", n);
    /* A reservation is used up page by page. */
    if (used < MOST) {
      CHECK(mprotect(reserve + used * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
      *(size_t *)(reserve + used * PAGE) = used;
      used++;
    }
    for (size_t i = 0; i < used; i++) CHECK(*(size_t *)(reserve + i * PAGE) == i);
    if (end_of(reserve) != (unsigned long)reserve + used * PAGE) FAIL("the reservation is not one in step %ld", n);
    step("main", n);
    rest(10);
  }
  return done();
}
