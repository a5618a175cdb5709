/* Reads the clock all the time and reports the longest gap, which is how long a checkpoint held it: `pause NS` for
   each byte that arrives on standard input. Argument: how many further threads rest meanwhile. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static void *idle(void *arg) {
  for (;;) {
    struct timespec t = {1, 0};
    nanosleep(&t, NULL);
  }
  return arg;
}

int main(int argc, char **argv) {
  for (int i = 1; i < (argc > 1 ? atoi(argv[1]) : 1); i++) {
    pthread_t t;
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 65536);
    if (pthread_create(&t, &a, idle, NULL)) return 1;
  }
  fcntl(0, F_SETFL, O_NONBLOCK);
  char byte;
  if (write(1, "ready\n", 6) != 6) return 1;
  for (double last = now(), longest = 0;;) {
    for (int i = 0; i < 2000; i++) {
      double t = now();
      if (t - last > longest) longest = t - last;
      last = t;
    }
    ssize_t n = read(0, &byte, 1);
    if (n == 0) return 0;
    if (n == 1) {
      char line[64];
      int size = snprintf(line, sizeof line, "pause %.0f\n", longest);
      if (write(1, line, size) != size) return 1;
      longest = 0;
      last = now();
    }
  }
}
