/* Threads that have registered areas for restartable sequences (rseq(2)) themselves, as allocators with a cache for each
   processor do where libc has none: the kernel keeps the number of the processor there, wherever the thread is moved to. */
#include "steps.h"
#include <sched.h>

enum { SIGNATURE = 0x53053053, AREA = 32 };

struct area {
  uint32_t cpu_id_start, cpu_id;
  uint64_t sequence;
  uint32_t flags, rest[3];
} __attribute__((aligned(32)));

static __thread struct area area = {.cpu_id = (uint32_t)-1};
static cpu_set_t all;

static int nth_processor(long n) {
  for (int i = 0, left = (int)(n % CPU_COUNT(&all));; i++)
    if (CPU_ISSET(i, &all) && left-- == 0) return i;
}

static void *moves(void *arg) {
  if (syscall(SYS_rseq, &area, AREA, 0, SIGNATURE)) FAIL("rseq: error %d", errno);
  for (long n = 1; !stopping(); n++) {
    cpu_set_t one;
    int processor = nth_processor(n);
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    volatile struct area *now = &area;
    if ((int)now->cpu_id != processor || now->cpu_id_start != now->cpu_id)
      FAIL("on processor %d, the kernel has written %d in step %ld", processor, (int)now->cpu_id, n);
    CHECK(syscall(SYS_rseq, &area, AREA, 0, SIGNATURE) == -1 && errno == EBUSY);
    step(arg, n);
    rest(10);
  }
  return arg;
}

int main(void) {
  pthread_t other;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  OK(pthread_create(&other, NULL, moves, "other"));
  moves("main");
  OK(pthread_join(other, NULL));
  return done();
}
