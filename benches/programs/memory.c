/* Holds memory and threads, and writes a byte to standard output every millisecond, so that one can see when it runs.
   memory.c MIB random|half THREADS: random bytes, or half zero pages and half text. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void *idle(void *arg) {
  for (;;) {
    struct timespec t = {0, 20000000};
    nanosleep(&t, NULL);
  }
  return arg;
}

int main(int argc, char **argv) {
  size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 1) << 20;
  int half = argc > 2 && strcmp(argv[2], "half") == 0;
  int threads = argc > 3 ? atoi(argv[3]) : 1;
  uint64_t *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return 1;
  uint64_t x = 88172645463325252ULL;
  static const char *words[] = {"restore ", "process ", "thread  ", "kernel  ", "memory  ", "signal  ", "the     ", "of      "};
  for (size_t i = 0; i < size / 8; i++) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    if (!half) data[i] = x;
    else if (i / 512 % 2 == 0) data[i] = 0;
    else memcpy(&data[i], words[x % 8], 8);
  }
  for (int i = 1; i < threads; i++) {
    pthread_t t;
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 65536);
    if (pthread_create(&t, &a, idle, NULL)) return 1;
  }
  for (;;) {
    struct timespec t = {0, 1000000};
    if (write(1, ".", 1) != 1) return 0;
    nanosleep(&t, NULL);
  }
}
