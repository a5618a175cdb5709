/* Mutexes with a priority ceiling: whoever holds one runs with it, and no longer when it is let go. */
#include "steps.h"
#include <sched.h>

static pthread_mutex_t mutex;

static void *work(void *arg) {
  for (long n = 1; !stopping(); n++) {
    struct sched_param p;
    OK(pthread_mutex_lock(&mutex));
    CHECK(sched_getparam(0, &p) == 0 && p.sched_priority == 7);
    rest(5);
    CHECK(sched_getparam(0, &p) == 0 && p.sched_priority == 7);
    OK(pthread_mutex_unlock(&mutex));
    CHECK(sched_getparam(0, &p) == 0 && p.sched_priority == 3);
    step(arg, n);
    rest(2);
  }
  return arg;
}

int main(void) {
  pthread_mutexattr_t a;
  pthread_t t[2];
  struct sched_param p = {.sched_priority = 3};
  CHECK(sched_setscheduler(0, SCHED_FIFO, &p) == 0);
  OK(pthread_mutexattr_init(&a));
  OK(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_PROTECT));
  OK(pthread_mutexattr_setprioceiling(&a, 7));
  OK(pthread_mutex_init(&mutex, &a));
  OK(pthread_create(&t[0], NULL, work, "one"));
  OK(pthread_create(&t[1], NULL, work, "two"));
  for (int i = 0; i < 2; i++) OK(pthread_join(t[i], NULL));
  return done();
}
