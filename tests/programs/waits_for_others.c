/* Every means by which threads wait for each other, held and waited on all the time: pairs take turns by it. */
#include "steps.h"
#include <linux/futex.h>
#include <semaphore.h>
#include <threads.h>

static int over;
static int is_over(void) { return __atomic_load_n(&over, __ATOMIC_SEQ_CST); }

static void init(pthread_mutex_t *mutex, int type, int robust, int protocol) {
  pthread_mutexattr_t a;
  OK(pthread_mutexattr_init(&a));
  OK(pthread_mutexattr_settype(&a, type));
  OK(pthread_mutexattr_setrobust(&a, robust));
  OK(pthread_mutexattr_setprotocol(&a, protocol));
  OK(pthread_mutex_init(mutex, &a));
}

/* The holder dies with the mutex in every step, and the heir waits for it. */
static pthread_mutex_t robust[2];
static sem_t held;

static void *dies_holding(void *arg) {
  OK(pthread_mutex_lock(arg));
  CHECK(sem_post(&held) == 0);
  rest(15);
  return NULL;
}

static void *inherits(void *arg) {
  pthread_t holder;
  for (long n = 1; !is_over(); n++) {
    pthread_mutex_t *m = &robust[n % 2];
    OK(pthread_create(&holder, NULL, dies_holding, m));
    CHECK(sem_wait(&held) == 0);
    int got = pthread_mutex_lock(m);
    if (got != EOWNERDEAD) FAIL("a mutex whose holder died gives %d", got);
    OK(pthread_mutex_consistent(m));
    OK(pthread_mutex_unlock(m));
    OK(pthread_join(holder, NULL));
    step("robust", n);
  }
  return arg;
}

/* Two threads hand a counter to and fro under a mutex and a condition variable. */
struct pair { pthread_mutex_t mutex; pthread_cond_t cond; long turn; const char *name; };
static struct pair pairs[3];

static void *hands_over(struct pair *p, long me) {
  OK(pthread_mutex_lock(&p->mutex));
  for (long n = 1;; n++) {
    while (p->turn % 2 != me && !is_over()) {
      struct timespec t;
      CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
      t.tv_sec += 3600;
      OK(me ? pthread_cond_wait(&p->cond, &p->mutex) : pthread_cond_timedwait(&p->cond, &p->mutex, &t));
    }
    if (is_over()) break;
    if (me) rest(5), step(p->name, n);
    p->turn++;
    OK(pthread_cond_signal(&p->cond));
  }
  OK(pthread_cond_broadcast(&p->cond));
  OK(pthread_mutex_unlock(&p->mutex));
  return NULL;
}

static void *even(void *p) { return hands_over(p, 0); }
static void *odd(void *p) { return hands_over(p, 1); }

/* A mutex with priority inheritance, always held and always waited for. */
static pthread_mutex_t inherit;
static long inherited;

static void *contends(void *arg) {
  for (;;) {
    OK(pthread_mutex_lock(&inherit));
    if (is_over()) break;
    rest(5);
    step("inherit", ++inherited);
    OK(pthread_mutex_unlock(&inherit));
    sched_yield();
  }
  OK(pthread_mutex_unlock(&inherit));
  return arg;
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static long value[2];

static void *reads(void *arg) {
  while (!is_over()) {
    OK(pthread_rwlock_rdlock(&rwlock));
    CHECK(value[0] == value[1]);
    rest(3);
    CHECK(value[0] == value[1]);
    OK(pthread_rwlock_unlock(&rwlock));
    rest(2);
  }
  return arg;
}

static void *writes(void *arg) {
  for (long n = 1; !is_over(); n++) {
    OK(pthread_rwlock_wrlock(&rwlock));
    value[0]++;
    rest(5);
    value[1]++;
    OK(pthread_rwlock_unlock(&rwlock));
    step("rwlock", n);
  }
  return arg;
}

enum { MEETING = 3 };
static pthread_barrier_t barrier;
static int last_meeting;

static void *meets(void *arg) {
  for (long n = 1;; n++) {
    rest(3 * (int)(long)arg);
    int leader = pthread_barrier_wait(&barrier);
    if (leader == PTHREAD_BARRIER_SERIAL_THREAD) {
      last_meeting = is_over();
      step("barrier", n);
    } else CHECK(leader == 0);
    int again = pthread_barrier_wait(&barrier);
    CHECK(again == 0 || again == PTHREAD_BARRIER_SERIAL_THREAD);
    if (last_meeting) return arg;
  }
}

static pthread_spinlock_t spin;
static long spun[2];

static void *spins(void *arg) {
  for (long n = 1; !is_over(); n++) {
    OK(pthread_spin_lock(&spin));
    CHECK(spun[0] == spun[1]);
    spun[0]++;
    for (volatile int i = 0; i < 300000; i++) {}
    spun[1]++;
    OK(pthread_spin_unlock(&spin));
    if (arg) step("spin", n);
    rest(5);
  }
  return arg;
}

/* pthread_once and call_once whose routine is running, while another thread waits for it to end. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static once_flag c11_once = ONCE_FLAG_INIT;
static int once_done, c11_done;

static void long_routine(void) {
  for (long n = 1; !is_over(); n++) step("once", n), rest(10);
  once_done++;
}

static void *goes_once(void *arg) {
  OK(pthread_once(&once, long_routine));
  CHECK(once_done == 1);
  return arg;
}

static void c11_routine(void) {
  while (!is_over()) rest(10);
  c11_done++;
}

static int c11_goes_once(void *arg) {
  (void)arg;
  call_once(&c11_once, c11_routine);
  return c11_done;
}

static mtx_t c11_mutex;
static cnd_t c11_cond;
static tss_t c11_key;
static long c11_turn;

static int c11_partner(void *arg) {
  long me = (long)arg;
  CHECK(tss_set(c11_key, (void *)(me + 7)) == thrd_success && mtx_lock(&c11_mutex) == thrd_success);
  for (long n = 1; !is_over(); n++) {
    while (c11_turn % 2 != me && !is_over()) CHECK(cnd_wait(&c11_cond, &c11_mutex) == thrd_success);
    CHECK(tss_get(c11_key) == (void *)(me + 7));
    struct timespec t = {0, 4000000};
    CHECK(thrd_sleep(&t, NULL) == 0);
    if (me) step("c11", n);
    c11_turn++;
    CHECK(cnd_broadcast(&c11_cond) == thrd_success);
  }
  CHECK(mtx_unlock(&c11_mutex) == thrd_success);
  return (int)me + 40;
}

/* Bare futexes: one thread sleeps on a word until the other has changed it. */
static int word;

static void *sleeps_on_word(void *arg) {
  long me = (long)arg;
  for (long n = 1; !is_over(); n++) {
    int now;
    while ((now = __atomic_load_n(&word, __ATOMIC_SEQ_CST)) % 2 != me && !is_over()) {
      int op = me ? FUTEX_WAIT_BITSET : FUTEX_WAIT;
      if (syscall(SYS_futex, &word, op, now, NULL, NULL, FUTEX_BITSET_MATCH_ANY)) CHECK(errno == EAGAIN);
    }
    if (me) rest(5), step("futex", n);
    __atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &word, FUTEX_WAKE, 10, NULL, NULL, 0);
  }
  __atomic_fetch_add(&word, 2, __ATOMIC_SEQ_CST);
  syscall(SYS_futex, &word, FUTEX_WAKE, 10, NULL, NULL, 0);
  return arg;
}

static sem_t full, room;
static long passed;

static void *produces(void *arg) {
  for (long n = 1; !is_over(); n++) {
    CHECK(sem_wait(&room) == 0);
    passed = n;
    CHECK(sem_post(&full) == 0);
  }
  passed = -1;
  CHECK(sem_post(&full) == 0);
  return arg;
}

static void *consumes(void *arg) {
  for (long n = 1;; n++) {
    struct timespec t;
    CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
    t.tv_sec += 3600;
    CHECK(sem_timedwait(&full, &t) == 0);
    if (passed == -1) return arg;
    CHECK(passed == n);
    step("semaphore", n);
    rest(5);
    CHECK(sem_post(&room) == 0);
  }
}

int main(void) {
  pthread_t t[32];
  thrd_t c[4];
  int count = 0, result;
  for (int i = 0; i < 2; i++) init(&robust[i], i ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST,
                                   i ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
  init(&inherit, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
  init(&pairs[0].mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE), pairs[0].name = "cond";
  init(&pairs[1].mutex, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT), pairs[1].name = "cond_pi";
  init(&pairs[2].mutex, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE), pairs[2].name = "cond_robust";
  CHECK(sem_init(&held, 0, 0) == 0 && sem_init(&full, 0, 0) == 0 && sem_init(&room, 0, 1) == 0);
  OK(pthread_barrier_init(&barrier, NULL, MEETING));
  OK(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
  CHECK(mtx_init(&c11_mutex, mtx_plain) == thrd_success && cnd_init(&c11_cond) == thrd_success);
  CHECK(tss_create(&c11_key, NULL) == thrd_success);
#define START(function, arg) OK(pthread_create(&t[count++], NULL, function, (void *)(arg)))
  START(inherits, 0);
  for (int i = 0; i < 3; i++) {
    OK(pthread_cond_init(&pairs[i].cond, NULL));
    START(even, &pairs[i]);
  START(odd, &pairs[i]);
  }
  START(contends, 0);
  START(contends, 1);
  START(contends, 2);
  START(reads, 0);
  START(reads, 1);
  START(writes, 0);
  for (long i = 0; i < MEETING; i++) START(meets, i);
  START(spins, 0);
  START(spins, 1);
  START(goes_once, 0);
  START(goes_once, 1);
  START(sleeps_on_word, 0);
  START(sleeps_on_word, 1);
  START(produces, 0);
  START(consumes, 0);
  for (long i = 0; i < 2; i++) {
    CHECK(thrd_create(&c[i], c11_partner, (void *)i) == thrd_success);
    CHECK(thrd_create(&c[2 + i], c11_goes_once, NULL) == thrd_success);
  }
  while (!stopping()) rest(20);
  __atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < 3; i++) {
    OK(pthread_mutex_lock(&pairs[i].mutex));
    OK(pthread_cond_broadcast(&pairs[i].cond));
    OK(pthread_mutex_unlock(&pairs[i].mutex));
  }
  CHECK(sem_post(&room) == 0);
  CHECK(mtx_lock(&c11_mutex) == thrd_success && cnd_broadcast(&c11_cond) == thrd_success);
  CHECK(mtx_unlock(&c11_mutex) == thrd_success);
  for (int i = 0; i < count; i++) OK(pthread_join(t[i], NULL));
  for (int i = 0; i < 2; i++) {
    CHECK(thrd_join(c[i], &result) == thrd_success && result == 40 + i);
    CHECK(thrd_join(c[2 + i], &result) == thrd_success && result == 1);
  }
  return done();
}
