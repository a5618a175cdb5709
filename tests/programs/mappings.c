/* Memory of every kind: protections, reservations, guards, zero pages, holes, advice, growth downwards. */
#include "steps.h"
#include "smaps.h"
#include <setjmp.h>

static sigjmp_buf back;

static void on_fault(int sig) { siglongjmp(back, sig); }

static int faults(volatile char *p, int write) {
  int sig = sigsetjmp(back, 1);
  if (sig) return sig;
  if (write) *p = 1;
  else (void)*p;
  return 0;
}

static char *map(void *at, size_t size, int prot, int flags) {
  char *p = mmap(at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  CHECK(p != MAP_FAILED);
  return p;
}

int main(void) {
  const size_t page = 4096, mega = 1 << 20, tera = 1UL << 40;
  signal(SIGSEGV, on_fault);
  char *none = map(NULL, mega, PROT_READ | PROT_WRITE, 0);
  strcpy(none + 3 * page, "behind a wall");
  CHECK(mprotect(none, mega, PROT_NONE) == 0);
  char *readonly = map(NULL, mega, PROT_READ | PROT_WRITE, 0);
  strcpy(readonly + page, "look only");
  CHECK(mprotect(readonly, mega, PROT_READ) == 0);
  char *reserve = map(NULL, tera, PROT_READ | PROT_WRITE, MAP_NORESERVE);
  strcpy(reserve + tera / 2, "far out");
  char *zeros = map(NULL, 16 * mega, PROT_READ | PROT_WRITE, 0);
  for (size_t i = 0; i < 16 * mega; i += page) zeros[i] = 0;
  char *sparse = map(NULL, 64 * mega, PROT_READ | PROT_WRITE, 0);
  for (size_t i = 0; i < 64 * mega; i += 97 * page) sparse[i] = (char)(i / page);
  char *wipe = map(NULL, mega, PROT_READ | PROT_WRITE, 0);
  CHECK(madvise(wipe, mega, MADV_DONTFORK) == 0);
  strcpy(wipe, "not for children");
  char *huge = map(NULL, 8 * mega, PROT_READ | PROT_WRITE, 0);
  CHECK(madvise(huge, 8 * mega, MADV_NOHUGEPAGE) == 0);
  unsigned char *code = (unsigned char *)map(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, 0);
  static const unsigned char forty_two[] = {0xb8, 42, 0, 0, 0, 0xc3};
  memcpy(code, forty_two, sizeof forty_two);
  char *low = map((void *)0x10000000, page, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
  strcpy(low, "low");
  char *pieces = map(NULL, 64 * page, PROT_READ | PROT_WRITE, 0);
  for (int i = 0; i < 64; i += 2) CHECK(mprotect(pieces + i * page, page, i % 4 ? PROT_NONE : PROT_READ) == 0);

  for (long n = 1; !stopping(); n++) {
    CHECK(faults(none + 3 * page, 0) == SIGSEGV);
    CHECK(faults(readonly + page, 1) == SIGSEGV && strcmp(readonly + page, "look only") == 0);
    CHECK(strcmp(reserve + tera / 2, "far out") == 0 && reserve[tera / 4 + n * page] == 0);
    for (size_t i = 0; i < 16 * mega; i += 64 * page) CHECK(zeros[i] == 0);
    for (size_t i = 0; i < 64 * mega; i += 97 * page) CHECK(sparse[i] == (char)(i / page));
    CHECK(sparse[page] == 0);
    CHECK(strcmp(wipe, "not for children") == 0 && has_flag(wipe, " dc"));
    CHECK(has_flag(huge, " nh"));
    CHECK(has_flag(reserve, " nr"));
    CHECK(((int (*)(void))code)() == 42);
    CHECK(strcmp(low, "low") == 0);
    for (int i = 0; i < 64; i++) {
      CHECK(faults(pieces + i * page, 1) == (i % 2 ? 0 : SIGSEGV));
      CHECK(faults(pieces + i * page, 0) == (i % 2 || i % 4 == 0 ? 0 : SIGSEGV));
    }
    step("main", n);
    rest(10);
  }
  CHECK(mprotect(none, mega, PROT_READ) == 0 && strcmp(none + 3 * page, "behind a wall") == 0);
  return done();
}
