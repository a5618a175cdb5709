/* N threads, each with a stream of its own; the exit status comes from what they hand back. */
#include "steps.h"

static int pause_ms;

static void *work(void *arg) {
  long id = (long)arg, n = 0;
  char stream[16];
  uint64_t state = id, sum = 0, again = 0;
  snprintf(stream, sizeof stream, "t%ld", id);
  while (!stopping()) {
    for (int i = 0; i < 1000; i++) sum += random_number(&state);
    step(stream, ++n);
    rest(pause_ms);
  }
  state = id;
  for (long i = 0; i < n * 1000; i++) again += random_number(&state);
  CHECK(sum == again);
  return (void *)(id + 1);
}

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 1;
  pause_ms = argc > 2 ? atoi(argv[2]) : 10;
  if (count == 1) {
    CHECK(work((void *)0) == (void *)1);
    return done();
  }
  pthread_t threads[count];
  for (long i = 0; i < count; i++) OK(pthread_create(&threads[i], NULL, work, (void *)i));
  for (long i = 0; i < count; i++) {
    void *result;
    OK(pthread_join(threads[i], &result));
    CHECK(result == (void *)(i + 1));
  }
  return done();
}
