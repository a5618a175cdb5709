/* Private and shared mappings of files that are changed, replaced, cut short and unlinked behind them, and one of a
   directory entry that moves. A private copy belongs to the process; the rest is the file's. */
#include "steps.h"

enum { PAGE = 4096, PAGES = 8 };

static char *make(const char *name, int fill, int prot, int flags) {
  char path[512], page[PAGE];
  snprintf(path, sizeof path, "%s", in_dir(name));
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0);
  for (int i = 0; i < PAGES; i++) {
    memset(page, fill + i, PAGE);
    CHECK(write(fd, page, PAGE) == PAGE);
  }
  char *map = mmap(NULL, PAGES * PAGE, prot, flags, fd, 0);
  CHECK(map != MAP_FAILED && close(fd) == 0);
  return map;
}

static void put(const char *name, long offset, char value) {
  int fd = open(in_dir(name), O_WRONLY | O_CREAT, 0600);
  CHECK(fd >= 0 && pwrite(fd, &value, 1, offset) == 1 && close(fd) == 0);
}

int main(void) {
  const int rw = PROT_READ | PROT_WRITE;
  char path[512];
  /* Own pages of a private mapping stay what they are, whatever becomes of the file. */
  char *changed = make("changed", 'a', rw, MAP_PRIVATE), *replaced = make("replaced", 'a', rw, MAP_PRIVATE);
  char *unlinked = make("unlinked", 'a', rw, MAP_PRIVATE), *moved = make("moved", 'a', rw, MAP_PRIVATE);
  char *shared = make("shared", 'a', rw, MAP_SHARED), *shared_gone = make("shared_gone", 'a', rw, MAP_SHARED);
  char *readonly = make("readonly", 'a', PROT_READ, MAP_PRIVATE);
  char *none = make("none", 'a', PROT_NONE, MAP_PRIVATE);
  char *all[] = {changed, replaced, unlinked, moved};
  for (int i = 0; i < 4; i++)
    for (int page = 0; page < PAGES; page += 2) all[i][page * PAGE + 7] = 'X';
  put("changed", 7, 'F'), put("changed", 2 * PAGE + 7, 'F');
  CHECK(unlink(in_dir("unlinked")) == 0 && unlink(in_dir("shared_gone")) == 0);
  snprintf(path, sizeof path, "%s", in_dir("moved"));
  CHECK(rename(path, in_dir("moved_away")) == 0);
  CHECK(unlink(in_dir("replaced")) == 0);
  put("replaced", 100, 'N');
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 4; i++)
      for (int page = 0; page < PAGES; page++) {
        CHECK(all[i][page * PAGE + 7] == (page % 2 ? 'a' + page : 'X'));
        CHECK(all[i][page * PAGE + 4000] == 'a' + page);
      }
    for (int page = 0; page < PAGES; page++) {
      CHECK(readonly[page * PAGE + 9] == 'a' + page);
      char *both[] = {shared, shared_gone};
      for (int i = 0; i < 2; i++) {
        long *word = (long *)(both[i] + page * PAGE);
        /* A file with a name is not part of the process: what was written after the checkpoint is in it. */
        CHECK(both[i][page * PAGE + 9] == 'a' + page && (n == 1 || *word == n - 1 || (i == 0 && *word > n - 1)));
        *word = n;
      }
    }
    /* What others write into the file of a shared mapping is seen, and the other way round. */
    put("shared", 2 * PAGE + 100, (char)n);
    CHECK(shared[2 * PAGE + 100] == (char)n);
    step("main", n);
    rest(10);
  }
  CHECK(mprotect(none, PAGES * PAGE, PROT_READ) == 0 && none[3 * PAGE] == 'd');
  return done();
}
