/* Mutexes in which the kernel has a say, robust ones and those that inherit priorities, of every type: held, waited for,
   and given up by holders that end, between processes too. */
#include "steps.h"
#include <sys/wait.h>

enum { TYPES = 3, WAYS = 3, KINDS = TYPES * WAYS };
static const int types[TYPES] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
static const int robust[WAYS] = {PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_ROBUST};
static const int protocol[WAYS] = {PTHREAD_PRIO_NONE, PTHREAD_PRIO_INHERIT, PTHREAD_PRIO_INHERIT};

/* All mutexes are in memory that a child shares. */
static struct { pthread_mutex_t held[KINDS], heirs[KINDS], young[KINDS], child[2]; } *m;
static pthread_barrier_t locked;
static int go_on;

static void init(pthread_mutex_t *mutex, int kind) {
  pthread_mutexattr_t a;
  OK(pthread_mutexattr_init(&a));
  OK(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED));
  OK(pthread_mutexattr_settype(&a, types[kind % TYPES]));
  OK(pthread_mutexattr_setrobust(&a, robust[kind / TYPES]));
  OK(pthread_mutexattr_setprotocol(&a, protocol[kind / TYPES]));
  OK(pthread_mutex_init(mutex, &a));
}

static int is_robust(int kind) { return robust[kind / TYPES] == PTHREAD_MUTEX_ROBUST; }
static int type(int kind) { return types[kind % TYPES]; }

/* Waits for what the owner lets go at the end. */
static void *waits(void *arg) {
  int kind = (int)(long)arg;
  struct timespec t;
  CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
  t.tv_sec += 3600;
  OK(kind % 2 ? pthread_mutex_lock(&m->held[kind]) : pthread_mutex_timedlock(&m->held[kind], &t));
  if (type(kind) == PTHREAD_MUTEX_ERRORCHECK) CHECK(pthread_mutex_lock(&m->held[kind]) == EDEADLK);
  OK(pthread_mutex_unlock(&m->held[kind]));
  return NULL;
}

/* Waits for what the owner dies with. */
static void *inherits(void *arg) {
  int kind = (int)(long)arg;
  int got = pthread_mutex_lock(&m->heirs[kind]);
  if (got != EOWNERDEAD) FAIL("a mutex of kind %d whose holder died gives %d", kind, got);
  OK(pthread_mutex_consistent(&m->heirs[kind]));
  OK(pthread_mutex_unlock(&m->heirs[kind]));
  return NULL;
}

static void *owner(void *arg) {
  for (int i = 0; i < KINDS; i++) {
    OK(pthread_mutex_lock(&m->held[i]));
    if (type(i) == PTHREAD_MUTEX_RECURSIVE) OK(pthread_mutex_lock(&m->held[i]));
    if (is_robust(i)) OK(pthread_mutex_lock(&m->heirs[i]));
  }
  pthread_barrier_wait(&locked);
  for (long n = 1; !__atomic_load_n(&go_on, __ATOMIC_SEQ_CST); n++) {
    for (int i = 0; i < KINDS; i++) {
      if (type(i) == PTHREAD_MUTEX_ERRORCHECK) CHECK(pthread_mutex_lock(&m->held[i]) == EDEADLK);
      if (type(i) != PTHREAD_MUTEX_RECURSIVE) continue;
      OK(pthread_mutex_lock(&m->held[i]));
      OK(pthread_mutex_unlock(&m->held[i]));
    }
    step("owner", n);
    rest(5);
  }
  for (int i = 0; i < KINDS; i++) {
    OK(pthread_mutex_unlock(&m->held[i]));
    if (type(i) == PTHREAD_MUTEX_RECURSIVE) {
      OK(pthread_mutex_unlock(&m->held[i]));
      CHECK(pthread_mutex_unlock(&m->held[i]) == EPERM);
    }
  }
  /* And what it locks when ids are not what they were is given up as well. */
  for (int i = 0; i < KINDS; i++)
    if (is_robust(i)) OK(pthread_mutex_lock(&m->young[i]));
  return arg;
}

/* The child holds one mutex of its parent's for ever, and waits for another one. */
static void child(void) {
  OK(pthread_mutex_lock(&m->child[0]));
  for (long n = 1; !stopping(); n++) {
    step("child", n);
    rest(5);
  }
  OK(pthread_mutex_lock(&m->child[1]));
  OK(pthread_mutex_unlock(&m->child[1]));
  _exit(5);
}

int main(void) {
  pthread_t threads[1 + 2 * KINDS];
  int count = 0, status;
  m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(m != MAP_FAILED);
  for (int i = 0; i < KINDS; i++) init(&m->held[i], i), init(&m->heirs[i], i), init(&m->young[i], i);
  init(&m->child[0], 0), init(&m->child[1], TYPES);
  OK(pthread_barrier_init(&locked, NULL, 2));
  OK(pthread_mutex_lock(&m->child[1]));
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (!pid) child();
  OK(pthread_create(&threads[count++], NULL, owner, NULL));
  pthread_barrier_wait(&locked);
  for (long i = 0; i < KINDS; i++) {
    OK(pthread_create(&threads[count++], NULL, waits, (void *)i));
    if (is_robust((int)i)) OK(pthread_create(&threads[count++], NULL, inherits, (void *)i));
  }
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < KINDS; i++) {
      CHECK(pthread_mutex_trylock(&m->held[i]) == EBUSY);
      if (is_robust(i)) CHECK(pthread_mutex_trylock(&m->heirs[i]) == EBUSY);
    }
    step("main", n);
    rest(5);
  }
  OK(pthread_mutex_unlock(&m->child[1]));
  int got = pthread_mutex_lock(&m->child[0]);
  if (got != EOWNERDEAD) FAIL("a mutex whose process ended gives %d", got);
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
  __atomic_store_n(&go_on, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < count; i++) OK(pthread_join(threads[i], NULL));
  for (int i = 0; i < KINDS; i++)
    if (is_robust(i)) CHECK(pthread_mutex_lock(&m->young[i]) == EOWNERDEAD);
  return done();
}
