/* Threads that are scheduled in every way, and on one processor each or on all. Arguments: `privileged`, for the ways that
   need it, too; `pinned`, the processors of those that may use all are not looked at; `confined`, those that have chosen
   one may be on the lowest instead. */
#include "steps.h"
#include <sched.h>
#include <sys/resource.h>

struct attributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
  uint32_t least, most;
};

enum { DEADLINE = 6, RESET = 1, MS = 1000000 };

static const struct way {
  const char *name;
  int privileged;
  struct attributes attributes;
  int io, own_processor;
} ways[] = {
    {"other", 0, {.policy = SCHED_OTHER, .nice = 3}, 2 << 13 | 7, 1},
    {"batch", 0, {.policy = SCHED_BATCH, .nice = 11}, 3 << 13, 1},
    {"idle", 0, {.policy = SCHED_IDLE, .nice = 19}, 2 << 13 | 1, 0},
    {"fifo", 1, {.policy = SCHED_FIFO, .priority = 7, .nice = 6}, 1 << 13 | 4, 1},
    {"round", 1, {.policy = SCHED_RR, .priority = 3, .flags = RESET}, 1 << 13 | 2, 0},
    {"deadline", 1, {.policy = DEADLINE, .runtime = 5 * MS, .deadline = 50 * MS, .period = 100 * MS}, 2 << 13 | 3, 0},
    {"eager", 1, {.policy = SCHED_OTHER, .nice = -9}, 2 << 13, 0},
};
enum { WAYS = sizeof ways / sizeof *ways };

static cpu_set_t all;
static int pinned, confined;

static void *scheduled(void *arg) {
  const struct way *way = arg;
  struct attributes wanted = way->attributes, now = {0};
  cpu_set_t own, is, lowest;
  wanted.size = sizeof wanted;
  CPU_ZERO(&own);
  for (int i = 0, left = (int)(way - ways) % CPU_COUNT(&all); i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &all) && left-- == 0) { CPU_SET(i, &own); break; }
  if (way->own_processor) CHECK(sched_setaffinity(0, sizeof own, &own) == 0);
  CPU_ZERO(&lowest);
  for (int i = CPU_SETSIZE - 1, left = CPU_COUNT(&all); i >= 0; i--)
    if (CPU_ISSET(i, &all) && --left == 0) CPU_SET(i, &lowest);
  /* Policies beside the usual ones leave this alone. */
  CHECK(setpriority(PRIO_PROCESS, 0, wanted.nice) == 0);
  if (syscall(SYS_sched_setattr, 0, &wanted, 0)) FAIL("policy %s: error %d", way->name, errno);
  CHECK(syscall(SYS_ioprio_set, 1, 0, way->io) == 0);
  for (long n = 1; !stopping(); n++) {
    CHECK(syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) == 0);
    CHECK(now.policy == wanted.policy && now.priority == wanted.priority && now.flags == wanted.flags);
    errno = 0;
    int nice = getpriority(PRIO_PROCESS, 0);
    if (errno || nice != wanted.nice) FAIL("nice value of %s: %d in step %ld", way->name, nice, n);
    if (wanted.policy == DEADLINE) CHECK(now.runtime == wanted.runtime && now.deadline == wanted.deadline && now.period == wanted.period);
    CHECK(syscall(SYS_ioprio_get, 1, 0) == way->io);
    CHECK(sched_getaffinity(0, sizeof is, &is) == 0);
    if (way->own_processor) CHECK(CPU_EQUAL(&is, &own) || (confined && CPU_EQUAL(&is, &lowest)));
    else CHECK(pinned || CPU_EQUAL(&is, &all));
    step(way->name, n);
    rest(20);
  }
  return arg;
}

int main(int argc, char **argv) {
  pthread_t threads[WAYS];
  int privileged = argc > 1 && strcmp(argv[1], "privileged") == 0;
  confined = argc > 1 && strcmp(argv[1], "confined") == 0;
  pinned = confined || (argc > 1 && strcmp(argv[1], "pinned") == 0);
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  for (int i = 0; i < WAYS; i++)
    if (privileged >= ways[i].privileged) OK(pthread_create(&threads[i], NULL, scheduled, (void *)&ways[i]));
  for (int i = 0; i < WAYS; i++)
    if (privileged >= ways[i].privileged) OK(pthread_join(threads[i], NULL));
  return done();
}
