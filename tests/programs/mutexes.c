/* Mutexes of all kinds are held across checkpoints; their owner and a rival check at the end what they still know. */
#include "steps.h"

enum { NORMAL, RECURSIVE, ERRORCHECK, ROBUST, INHERIT, KINDS };
static pthread_mutex_t mutex[KINDS];
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t cond_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t barrier;
static long turn;

static void init(int kind, int type, int robust, int protocol) {
  pthread_mutexattr_t a;
  OK(pthread_mutexattr_init(&a));
  OK(pthread_mutexattr_settype(&a, type));
  OK(pthread_mutexattr_setrobust(&a, robust));
  OK(pthread_mutexattr_setprotocol(&a, protocol));
  OK(pthread_mutex_init(&mutex[kind], &a));
}

/* Sees everything locked until the owner lets go. */
static void *rival(void *arg) {
  long n = 0;
  while (!stopping()) {
    for (int i = 0; i < KINDS; i++) CHECK(pthread_mutex_trylock(&mutex[i]) == EBUSY);
    CHECK(pthread_rwlock_tryrdlock(&rwlock) == EBUSY);
    step("rival", ++n);
    rest(5);
  }
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < KINDS; i++) {
    if (i == ROBUST) continue;
    OK(pthread_mutex_lock(&mutex[i]));
    OK(pthread_mutex_unlock(&mutex[i]));
  }
  OK(pthread_rwlock_rdlock(&rwlock));
  OK(pthread_rwlock_unlock(&rwlock));
  return arg;
}

/* Dies with the robust mutex: the next one must be told. */
static void *heir(void *arg) {
  CHECK(pthread_mutex_trylock(&mutex[ROBUST]) == EBUSY);
  pthread_barrier_wait(&barrier);
  CHECK(pthread_mutex_lock(&mutex[ROBUST]) == EOWNERDEAD);
  OK(pthread_mutex_consistent(&mutex[ROBUST]));
  OK(pthread_mutex_unlock(&mutex[ROBUST]));
  return arg;
}

/* Takes turns with the owner through a condition variable. */
static void *partner(void *arg) {
  long n = 0;
  OK(pthread_mutex_lock(&cond_mutex));
  for (;;) {
    while (turn != 1 && turn != -1) OK(pthread_cond_wait(&cond, &cond_mutex));
    if (turn == -1) break;
    turn = 0;
    step("partner", ++n);
    OK(pthread_cond_broadcast(&cond));
  }
  OK(pthread_mutex_unlock(&cond_mutex));
  return arg;
}

static void *owner(void *arg) {
  for (int i = 0; i < KINDS; i++) OK(pthread_mutex_lock(&mutex[i]));
  OK(pthread_mutex_lock(&mutex[RECURSIVE]));
  OK(pthread_rwlock_wrlock(&rwlock));
  pthread_barrier_wait(&barrier);
  long n = 0;
  while (!stopping()) {
    OK(pthread_mutex_lock(&cond_mutex));
    turn = 1;
    OK(pthread_cond_broadcast(&cond));
    while (turn != 0) OK(pthread_cond_wait(&cond, &cond_mutex));
    OK(pthread_mutex_unlock(&cond_mutex));
    step("owner", ++n);
    rest(5);
  }
  OK(pthread_mutex_lock(&cond_mutex));
  turn = -1;
  OK(pthread_cond_broadcast(&cond));
  OK(pthread_mutex_unlock(&cond_mutex));
  /* It is still the owner, to the kernel and to libc. */
  OK(pthread_mutex_lock(&mutex[RECURSIVE]));
  for (int i = 0; i < 3; i++) OK(pthread_mutex_unlock(&mutex[RECURSIVE]));
  CHECK(pthread_mutex_unlock(&mutex[RECURSIVE]) == EPERM);
  CHECK(pthread_mutex_lock(&mutex[ERRORCHECK]) == EDEADLK);
  OK(pthread_mutex_unlock(&mutex[ERRORCHECK]));
  OK(pthread_mutex_unlock(&mutex[NORMAL]));
  OK(pthread_mutex_unlock(&mutex[INHERIT]));
  CHECK(pthread_rwlock_rdlock(&rwlock) == EDEADLK);
  OK(pthread_rwlock_unlock(&rwlock));
  pthread_barrier_wait(&barrier);
  return arg;
}

int main(void) {
  pthread_t threads[4];
  init(NORMAL, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
  init(RECURSIVE, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
  init(ERRORCHECK, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
  init(ROBUST, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
  init(INHERIT, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
  OK(pthread_barrier_init(&barrier, NULL, 2));
  OK(pthread_create(&threads[0], NULL, owner, NULL));
  pthread_barrier_wait(&barrier);
  pthread_barrier_destroy(&barrier);
  OK(pthread_barrier_init(&barrier, NULL, 3));
  OK(pthread_create(&threads[1], NULL, rival, NULL));
  OK(pthread_create(&threads[2], NULL, heir, NULL));
  OK(pthread_create(&threads[3], NULL, partner, NULL));
  for (int i = 0; i < 4; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
