/* Threads that do little but allocate and free, so that a stop finds them inside the allocator, and inside what our
   wrappers do of their own on the way (a signal mask, a path, a fork's child that ends at once). */
#include "steps.h"
#include <sys/wait.h>

enum { THREADS = 4, BLOCKS = 64 };

static void *work(void *arg) {
  long id = (long)arg, n = 0;
  char stream[16];
  uint64_t state = 5 + id;
  unsigned char *blocks[BLOCKS] = {0};
  size_t sizes[BLOCKS] = {0};
  snprintf(stream, sizeof stream, "t%ld", id);
  while (!stopping()) {
    for (int i = 0; i < 20000; i++) {
      int k = random_number(&state) % BLOCKS;
      if (blocks[k]) CHECK(blocks[k][0] == (unsigned char)k && blocks[k][sizes[k] - 1] == (unsigned char)k);
      free(blocks[k]);
      sizes[k] = 1 + random_number(&state) % (i % 50 ? 300 : 200000);
      CHECK((blocks[k] = malloc(sizes[k])));
      blocks[k][0] = blocks[k][sizes[k] - 1] = (unsigned char)k;
      if (i % 1000 == 0) {
        sigset_t set;
        sigemptyset(&set);
        OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
      }
    }
    if (id == 0) {
      int status;
      pid_t child = fork();
      CHECK(child >= 0);
      if (child == 0) {
        free(malloc(100));
        _exit(3);
      }
      CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
    }
    step(stream, ++n);
  }
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS];
  for (long i = 0; i < THREADS; i++) OK(pthread_create(&threads[i], NULL, work, (void *)i));
  for (long i = 0; i < THREADS; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
