/* Threads are born and die all the time; a checkpoint must catch a moment when all hold still. */
#include "steps.h"

static void *young(void *arg) {
  __atomic_add_fetch((long *)arg, 1, __ATOMIC_SEQ_CST);
  return arg;
}

static void *parent(void *arg) {
  long id = (long)arg, born = 0;
  char stream[16];
  snprintf(stream, sizeof stream, "t%ld", id);
  for (long n = 1; !stopping(); n++) {
    pthread_t threads[20];
    for (int i = 0; i < 20; i++) OK(pthread_create(&threads[i], NULL, young, &born));
    for (int i = 0; i < 20; i++) OK(pthread_join(threads[i], NULL));
    CHECK(born == n * 20);
    if (n % 10 == 0) step(stream, n / 10);
  }
  return arg;
}

int main(void) {
  pthread_t threads[2];
  for (long i = 0; i < 2; i++) OK(pthread_create(&threads[i], NULL, parent, (void *)i));
  for (long i = 0; i < 2; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
