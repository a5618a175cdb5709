/* Threads that are nearly always inside libc, holding the lock of its allocator or of its environment. */
#include "steps.h"

static void *allocate(void *unused) {
  (void)unused;
  while (!stopping()) {
    for (int round = 0; round < 2000; round++) {
      void *blocks[64];
      for (int i = 0; i < 64; i++) CHECK((blocks[i] = malloc(2000 + i * 50)) != NULL);
      for (int i = 0; i < 64; i++) free(blocks[i]);
    }
  }
  return NULL;
}

static void *change(void *unused) {
  (void)unused;
  /* Few values: libc keeps each one for ever. */
  while (!stopping())
    for (int i = 0; i < 2000; i++) CHECK(setenv("BUSY", i % 2 ? "odd" : "even", 1) == 0);
  return NULL;
}

int main(void) {
  pthread_t threads[3];
  OK(pthread_create(&threads[0], NULL, allocate, NULL));
  OK(pthread_create(&threads[1], NULL, allocate, NULL));
  OK(pthread_create(&threads[2], NULL, change, NULL));
  for (long n = 1; !stopping(); n++) {
    step("main", n);
    rest(10);
  }
  for (int i = 0; i < 3; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
