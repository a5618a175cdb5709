/* Private and shared mappings of files that somebody else changes, cuts short, replaces or removes after the checkpoint.
   What the process has seen or changed of a private mapping is its own; a shared one shows what the file is by then. */
#include "steps.h"
#include <setjmp.h>

enum { PAGE = 4096, PAGES = 8 };

static const char *const fates[] = {"same", "changed", "cut", "replaced", "removed"};
enum { SAME, CHANGED, CUT, REPLACED, REMOVED, FATES };

static sigjmp_buf back;

static void on_fault(int sig) { siglongjmp(back, sig); }

/* The byte at an address, or the negative signal that the look at it gives. */
static int look(volatile char *p) {
  int sig = sigsetjmp(back, 1);
  return sig ? -sig : (unsigned char)*p;
}

static char *make(const char *kind, int fate, int flags) {
  char name[64], page[PAGE];
  snprintf(name, sizeof name, "%s.%s", kind, fates[fate]);
  int fd = open(in_dir(name), O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0);
  for (int i = 0; i < PAGES; i++) {
    memset(page, 'a' + i, PAGE);
    CHECK(write(fd, page, PAGE) == PAGE);
  }
  char *map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
  CHECK(map != MAP_FAILED && close(fd) == 0);
  return map;
}

int main(void) {
  char *private[FATES], *shared[FATES];
  signal(SIGBUS, on_fault);
  for (int i = 0; i < FATES; i++) {
    private[i] = make("private", i, MAP_PRIVATE), shared[i] = make("shared", i, MAP_SHARED);
    for (int page = 0; page < PAGES; page += 2) private[i][page * PAGE + 7] = shared[i][page * PAGE + 7] = 'X';
  }
  for (long n = 1; !stopping(); n++) {
    /* After the restart, which removes the mark. */
    int after = access(in_dir("restarted"), F_OK) == 0;
    for (int i = 0; i < FATES; i++)
      for (int page = 0; page < PAGES; page++) {
        char *mine = private[i] + page * PAGE, *ours = shared[i] + page * PAGE;
        if (look(mine + 7) != (page % 2 ? 'a' + page : 'X') || look(mine + 9) != 'a' + page)
          FAIL("page %d of the private mapping of the %s file has %d, %d", page, fates[i], look(mine + 7), look(mine + 9));
        int want = 'a' + page;
        if (after && i == CHANGED) want = 'C';
        if (after && i == REPLACED) want = 'R';
        if (after && i == CUT && page >= PAGES / 2) want = -SIGBUS;
        if (look(ours + 9) != want) FAIL("page %d of the shared mapping of the %s file has %d, not %d", page, fates[i], look(ours + 9), want);
      }
    step("main", n);
    rest(10);
  }
  return done();
}
