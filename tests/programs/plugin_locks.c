/* The locks of dmtcp.h, fought for by threads that are stopped with them in their hands and while they wait for them. */
#include "dmtcp.h"
#include "steps.h"

static DmtcpMutex plain = DMTCP_MUTEX_INITIALIZER, again = DMTCP_MUTEX_INITIALIZER_RECURSIVE, baton;
static DmtcpRWLock shelf = DMTCP_RWLOCK_INITIALIZER;
static long counted, deep, left, right, handed;
static int over;

/* What one thread alone may do; a switch in the middle of it would show. */
static void add(long *number) {
  long before = *number;
  sched_yield();
  *number = before + 1;
}

static void *counts(void *name) {
  for (long n = 1; !stopping(); n++) {
    OK(DmtcpMutexLock(&plain));
    CHECK(DmtcpMutexLock(&plain) == EDEADLK && DmtcpMutexTryLock(&plain) == EBUSY);
    add(&counted);
    rest(1);
    OK(DmtcpMutexUnlock(&plain));
    CHECK(DmtcpMutexUnlock(&plain) == EPERM);
    OK(DmtcpMutexLock(&again));
    OK(DmtcpMutexLock(&again));
    OK(DmtcpMutexTryLock(&again));
    add(&deep);
    OK(DmtcpMutexUnlock(&again));
    OK(DmtcpMutexUnlock(&again));
    rest(1);
    add(&deep);
    OK(DmtcpMutexUnlock(&again));
    step(name, n);
    __atomic_fetch_add((long *)name + 1, 1, __ATOMIC_RELAXED);
  }
  return NULL;
}

static void *reads(void *name) {
  for (long n = 1; !stopping(); n++) {
    if (n % 3 != 0) {
      OK(DmtcpRWLockRdLock(&shelf));
    } else {
      while (DmtcpRWLockTryRdLock(&shelf) == EBUSY) sched_yield();
    }
    long seen = left;
    rest(1);
    /* A writer that waits must not keep a thread from what it has already. */
    OK(DmtcpRWLockRdLockIgnoreQueuedWriter(&shelf));
    CHECK(left == seen && right == seen);
    OK(DmtcpRWLockUnlock(&shelf));
    OK(DmtcpRWLockUnlock(&shelf));
    step(name, n);
  }
  return NULL;
}

static void *writes(void *name) {
  for (long n = 1; !stopping(); n++) {
    OK(DmtcpRWLockWrLock(&shelf));
    CHECK(DmtcpRWLockTryRdLock(&shelf) == EBUSY && left == right);
    left++;
    rest(1);
    right++;
    OK(DmtcpRWLockUnlock(&shelf));
    step(name, n);
    rest(1);
  }
  return NULL;
}

/* Locked by one thread, unlocked by the other. */
static void *takes(void *name) {
  for (long n = 1;; n++) {
    OK(DmtcpMutexLock(&baton));
    if (__atomic_load_n(&over, __ATOMIC_ACQUIRE)) return NULL;
    CHECK(__atomic_load_n(&handed, __ATOMIC_ACQUIRE) == n);
    step(name, n);
  }
}

static void *gives(void *name) {
  for (long n = 1; !stopping(); n++) {
    __atomic_store_n(&handed, n, __ATOMIC_RELEASE);
    OK(DmtcpMutexUnlock(&baton));
    while (DmtcpMutexTryLock(&baton) == 0) {
      OK(DmtcpMutexUnlock(&baton));
      sched_yield();
    }
    step(name, n);
    rest(2);
  }
  __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
  OK(DmtcpMutexUnlock(&baton));
  return NULL;
}

int main(void) {
  struct stream { char name[sizeof(long)]; long count; } counters[3] = {{"c0", 0}, {"c1", 0}, {"c2", 0}};
  struct { void *(*run)(void *); void *name; } all[] = {
      {counts, &counters[0]}, {counts, &counters[1]}, {counts, &counters[2]},
      {reads, "r0"}, {reads, "r1"}, {writes, "w0"}, {writes, "w1"}, {takes, "take"}, {gives, "give"},
  };
  enum { THREADS = sizeof all / sizeof all[0] };
  pthread_t threads[THREADS];

  DmtcpMutexInit(&baton, DMTCP_MUTEX_LLL);
  OK(DmtcpMutexLock(&baton));
  CHECK(DmtcpMutexLock(NULL) == EINVAL && DmtcpRWLockWrLock(NULL) == EINVAL && DmtcpRWLockUnlock(&shelf) == EPERM);
  for (int i = 0; i < THREADS; i++) OK(pthread_create(&threads[i], NULL, all[i].run, all[i].name));
  for (int i = 0; i < THREADS; i++) OK(pthread_join(threads[i], NULL));
  long rounds = counters[0].count + counters[1].count + counters[2].count;
  CHECK(counted == rounds && deep == 2 * rounds && left == right);
  return done();
}
