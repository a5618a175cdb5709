/* Memory of rare kinds: what the kernel may drop, what grows downwards, what even the kernel does not read, and what has a
   name. Each step looks at all of it and changes it a little. */
#include "steps.h"
#include "smaps.h"
#include <sys/prctl.h>

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

enum { PAGE = 4096, PAGES = 16 };

int main(void) {
  char *droppable = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_DROPPABLE, -1, 0);
  int drops = droppable != MAP_FAILED;
  /* Far from everything, with the room below that the kernel wants to keep free. */
  char *volatile top = (char *)0x2aaa00000000 + PAGE;
  char *stack = mmap(top - PAGE, PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK(stack == top - PAGE);
  int secret = (int)syscall(SYS_memfd_secret, 0);
  char *hidden = NULL;
  if (secret >= 0) {
    CHECK(ftruncate(secret, 2 * PAGE) == 0);
    hidden = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, secret, 0);
    CHECK(hidden != MAP_FAILED && close(secret) == 0);
  }
  char *named = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(named != MAP_FAILED);
  int naming = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, PAGE, "a name") == 0;
  long depth = 0;
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; drops && i < PAGES; i++) {
      long value = *(volatile long *)(droppable + i * PAGE);
      if (value && value != n - 1) FAIL("droppable page %d has %ld in step %ld", i, value, n);
      *(long *)(droppable + i * PAGE) = n;
    }
    CHECK(!drops || has_flag(droppable, " dp"));
    for (long i = 1; i <= depth; i++) CHECK(*(long *)(top - i * PAGE) == i);
    if (depth < 1000) depth++;
    *(volatile long *)(top - depth * PAGE) = depth;
    CHECK(has_flag(top - PAGE, " gd") && has_flag(top - depth * PAGE, " gd"));
    CHECK(!hidden || *(long *)(hidden + PAGE) == n - 1);
    if (hidden) *(long *)(hidden + PAGE) = n;
    CHECK(!naming || smaps_say(named, "", "[anon:a name]"));
    step("main", n);
    rest(10);
  }
  return done();
}
