/* Memory policy of threads and of mappings, private and shared: each on the first node, by every means there is. */
#include "steps.h"
#include <linux/mempolicy.h>

enum { PAGE = 4096, PAGES = 4 };

static const int modes[] = {MPOL_BIND, MPOL_PREFERRED, MPOL_INTERLEAVE, MPOL_BIND | MPOL_F_STATIC_NODES};
enum { MODES = sizeof modes / sizeof *modes };

static void check(int mode, void *address, const char *what, long n) {
  int is = -1;
  unsigned long nodes[16] = {0};
  CHECK(syscall(SYS_get_mempolicy, &is, nodes, 16 * 64 + 1, address, address ? MPOL_F_ADDR : 0) == 0);
  if (is != mode || nodes[0] != (mode != MPOL_DEFAULT)) FAIL("%s has policy %#x on %#lx, not %#x, in step %ld", what, is, nodes[0], mode, n);
}

static void *thread(void *arg) {
  long me = (long)arg;
  unsigned long node = 1;
  char name[16];
  snprintf(name, sizeof name, "thread%ld", me);
  CHECK(syscall(SYS_set_mempolicy, modes[me], &node, 65) == 0);
  for (long n = 1; !stopping(); n++) {
    check(modes[me], NULL, name, n);
    step(name, n);
    rest(10);
  }
  return arg;
}

int main(void) {
  pthread_t threads[MODES];
  char *memory[MODES], *plain;
  unsigned long node = 1;
  for (int i = 0; i < MODES; i++) {
    int sharing = i % 2 ? MAP_SHARED : MAP_PRIVATE;
    memory[i] = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
    CHECK(memory[i] != MAP_FAILED);
    CHECK(syscall(SYS_mbind, memory[i], PAGES * PAGE, modes[i], &node, 65, 0) == 0);
    if (i != 2) memset(memory[i], 'a' + i, PAGES * PAGE);
  }
  plain = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(plain != MAP_FAILED);
  for (long i = 0; i < MODES; i++) OK(pthread_create(&threads[i], NULL, thread, (void *)i));
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < MODES; i++) {
      check(modes[i], memory[i], "memory", n);
      CHECK(memory[i][3 * PAGE] == (i == 2 ? 0 : 'a' + i));
    }
    check(MPOL_DEFAULT, plain, "plain memory", n);
    check(MPOL_DEFAULT, NULL, "the main thread", n);
    step("main", n);
    rest(10);
  }
  for (int i = 0; i < MODES; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
