/* Memory that is mapped, advised, moved and grown in odd ways; each step looks at all of it and changes it a little. */
#include "steps.h"
#include "smaps.h"
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

enum { PAGE = 4096, MEGA = 1 << 20, FILE_PAGES = 16 };

static sigjmp_buf back;

static void on_fault(int sig) { siglongjmp(back, sig); }

static int faults(volatile char *p, int write) {
  int sig = sigsetjmp(back, 1);
  if (sig) return sig;
  if (write) *p = *p;
  else (void)*p;
  return 0;
}

static char *map(size_t size, int prot, int flags) {
  char *p = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  CHECK(p != MAP_FAILED);
  return p;
}

/* The heap grows by sbrk and stays in one piece. */
static char *heap_start, *heap_end;

static void check_heap(long n) {
  CHECK(sbrk(0) == heap_end);
  for (char *p = heap_start; p < heap_end; p += PAGE) CHECK(*(long *)p == (p - heap_start) / PAGE);
  if (n % 4 == 0) {
    CHECK(sbrk(3 * PAGE) == heap_end);
    for (int i = 0; i < 3; i++, heap_end += PAGE) *(long *)heap_end = (heap_end - heap_start) / PAGE;
  } else if (n % 4 == 3 && heap_end - heap_start > 20 * PAGE) {
    CHECK(sbrk(-PAGE) == heap_end);
    heap_end -= PAGE;
  }
}

/* Deeper in each step than ever before: the stack must still grow. */
static long deep(long level) {
  volatile char frame[8192];
  frame[0] = (char)level, frame[8191] = (char)(level + 1);
  long below = level ? deep(level - 1) : 0;
  CHECK(frame[0] == (char)level && frame[8191] == (char)(level + 1));
  return below + 1;
}

static void *in_thread(void *arg) {
  for (long n = 1; !stopping(); n++) {
    CHECK(deep(n % 200) == n % 200 + 1);
    step("thread", n);
    rest(10);
  }
  return arg;
}

/* Grown page by page by mremap across pieces of which some were protected for a time. */
static char *grown;
static size_t grown_pages = 4;

static void check_grown(long n) {
  for (size_t i = 0; i < grown_pages; i++) CHECK(*(size_t *)(grown + i * PAGE) == i + 1000);
  CHECK(mprotect(grown + PAGE, PAGE, PROT_READ) == 0 && mprotect(grown + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
  if (n % 3) return;
  grown = mremap(grown, grown_pages * PAGE, (grown_pages + 3) * PAGE, MREMAP_MAYMOVE);
  CHECK(grown != MAP_FAILED);
  for (int i = 0; i < 3; i++, grown_pages++) *(size_t *)(grown + grown_pages * PAGE) = grown_pages + 1000;
}

static int sealing, guarding, naming;

int main(void) {
  pthread_t thread;
  struct rlimit limit;
  signal(SIGSEGV, on_fault), signal(SIGBUS, on_fault);
  OK(pthread_create(&thread, NULL, in_thread, NULL));
  heap_start = heap_end = sbrk(0);
  heap_start += -(uintptr_t)heap_start % PAGE;
  CHECK(sbrk(heap_start - heap_end) == heap_end);
  heap_end = heap_start;
  grown = map(4 * PAGE, PROT_READ | PROT_WRITE, 0);
  for (size_t i = 0; i < 4; i++) *(size_t *)(grown + i * PAGE) = i + 1000;
  char *reserve = map(8UL << 40, PROT_READ | PROT_WRITE, MAP_NORESERVE);
  char *wipe = map(MEGA, PROT_READ | PROT_WRITE, 0), *dump = map(MEGA, PROT_READ | PROT_WRITE, 0);
  CHECK(madvise(wipe, MEGA, MADV_WIPEONFORK) == 0 && madvise(dump, MEGA, MADV_DONTDUMP) == 0);
  strcpy(wipe, "wiped"), strcpy(dump, "not in a core");
  char *huge = mmap((void *)0x30000000000, 8 * MEGA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(huge != MAP_FAILED);
  int hugepage = madvise(huge, 8 * MEGA, MADV_HUGEPAGE) == 0;
  for (size_t i = 0; i < 8 * MEGA; i += PAGE) *(size_t *)(huge + i) = i;
  char *shared = mmap(NULL, 4 * MEGA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED && madvise(shared, MEGA, MADV_DONTFORK) == 0);
  int shared_hugepage = madvise(shared + 2 * MEGA, 2 * MEGA, MADV_HUGEPAGE) == 0;
  char *locked = map(8 * PAGE, PROT_READ | PROT_WRITE, 0);
  CHECK(mlock(locked, 8 * PAGE) == 0);
  char *order = map(MEGA, PROT_READ | PROT_WRITE, 0);
  CHECK(madvise(order, MEGA / 2, MADV_RANDOM) == 0 && madvise(order + MEGA / 2, MEGA / 2, MADV_SEQUENTIAL) == 0);
  char *guarded = map(16 * PAGE, PROT_READ | PROT_WRITE, 0);
  memset(guarded, 7, 16 * PAGE);
  guarding = madvise(guarded + 4 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL) == 0 &&
             madvise(guarded + 9 * PAGE, PAGE, MADV_GUARD_INSTALL) == 0;
  char *sealed = map(4 * PAGE, PROT_READ | PROT_WRITE, 0);
  strcpy(sealed, "sealed");
  sealing = syscall(SYS_mseal, sealed, 4 * PAGE, 0) == 0;
  char *named = map(4 * PAGE, PROT_READ | PROT_WRITE, 0);
  strcpy(named, "named");
  naming = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, 4 * PAGE, "a name") == 0;
  unsigned char *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(code != MAP_FAILED);
  CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
  limit.rlim_cur = 24 << 20;
  CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
  for (long n = 1; !stopping(); n++) {
    check_heap(n);
    check_grown(n);
    long depth = n < 2000 ? n : 2000;
    CHECK(deep(depth) == depth + 1);
    size_t at = ((size_t)n << 32) % (8UL << 40);
    CHECK(reserve[at] == 0 || n > 2048);
    *(long *)(reserve + at) = n;
    for (long i = 1; i <= n && i < 2048; i++) CHECK(*(long *)(reserve + (((size_t)i << 32) % (8UL << 40))) == i);
    CHECK(strcmp(wipe, "wiped") == 0 && has_flag(wipe, " wf") && strcmp(dump, "not in a core") == 0 && has_flag(dump, " dd"));
    for (size_t i = 0; i < 8 * MEGA; i += 37 * PAGE) CHECK(*(size_t *)(huge + i) == i);
    CHECK(!hugepage || has_flag(huge, " hg"));
    if (*(long *)shared != n - 1) FAIL("shared memory has %ld in step %ld", *(long *)shared, n);
    CHECK(has_flag(shared, " dc"));
    CHECK(!shared_hugepage || has_flag(shared + 2 * MEGA, " hg"));
    *(long *)shared = n;
    CHECK(has_flag(locked, " lo"));
    CHECK(has_flag(order, " rr") && has_flag(order + MEGA / 2, " sr"));
    for (int i = 0; i < 16; i++) {
      int guard = guarding && (i == 4 || i == 5 || i == 9);
      if (faults(guarded + i * PAGE, 1) != (guard ? SIGSEGV : 0)) FAIL("guard page %d in step %ld", i, n);
      CHECK(guard || guarded[i * PAGE] == 7);
    }
    CHECK(strcmp(sealed, "sealed") == 0);
    if (sealing && (munmap(sealed, PAGE) != -1 || errno != EPERM)) FAIL("the seal is gone in step %ld", n);
    CHECK(strcmp(named, "named") == 0);
    /* Code that is written anew for each step, as a just-in-time compiler does. */
    unsigned char text[] = {0xb8, (unsigned char)n, (unsigned char)(n >> 8), 0, 0, 0xc3};
    memcpy(code, text, sizeof text);
    CHECK(((int (*)(void))code)() == (n & 0xffff));
    step("main", n);
    rest(10);
  }
  OK(pthread_join(thread, NULL));
  return done();
}
