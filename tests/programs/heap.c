/* Heavy use of malloc: every block carries a pattern that is checked before it is freed or grown. */
#include "steps.h"

enum { THREADS = 4, BLOCKS = 3000 };

struct block {
  size_t size;
  uint64_t seed;
  unsigned char *data;
};

static void fill(struct block *b) {
  uint64_t s = b->seed;
  for (size_t i = 0; i < b->size; i += 61) b->data[i] = (unsigned char)random_number(&s);
}

static void check(const struct block *b, size_t size) {
  uint64_t s = b->seed;
  for (size_t i = 0; i < size; i += 61) CHECK(b->data[i] == (unsigned char)random_number(&s));
}

static size_t some_size(uint64_t *state) {
  uint64_t kind = random_number(state) % 100;
  if (kind < 80) return 16 + random_number(state) % 1024;
  if (kind < 99) return 1024 + random_number(state) % 30000;
  return 200000 + random_number(state) % 300000;
}

static void *work(void *arg) {
  long id = (long)arg, n = 0;
  char stream[16];
  uint64_t state = 77 + id;
  struct block *blocks = calloc(BLOCKS, sizeof *blocks);
  CHECK(blocks);
  snprintf(stream, sizeof stream, "t%ld", id);
  while (!stopping()) {
    for (int i = 0; i < 2000; i++) {
      struct block *b = &blocks[random_number(&state) % BLOCKS];
      size_t size = some_size(&state);
      if (b->data) check(b, b->size);
      if (b->data && random_number(&state) % 4 == 0) {
        size_t kept = size < b->size ? size : b->size;
        CHECK(b->data = realloc(b->data, size));
        check(b, kept);
      } else {
        free(b->data);
        CHECK(b->data = malloc(size));
      }
      b->size = size;
      b->seed = random_number(&state);
      fill(b);
    }
    step(stream, ++n);
    rest(5);
  }
  for (int i = 0; i < BLOCKS; i++)
    if (blocks[i].data) check(&blocks[i], blocks[i].size), free(blocks[i].data);
  free(blocks);
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS];
  for (long i = 0; i < THREADS; i++) OK(pthread_create(&threads[i], NULL, work, (void *)i));
  for (int i = 0; i < THREADS; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
