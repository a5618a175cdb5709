/* Everything at once, all the time: threads begin and end, memory, mappings and libraries come and go, signals rain. */
#include "steps.h"
#include <dlfcn.h>

enum { YOUNG = 8, MAPS = 64 };

static pthread_t victim;
static volatile long hits;

static void on_hit(int sig) { (void)sig, hits++; }

static void *young(void *arg) {
  long *place = malloc(1000);
  *place = (long)arg;
  void *result = (void *)(*place * 3);
  free(place);
  return result;
}

static void *threads(void *arg) {
  for (long n = 1; !stopping(); n++) {
    for (int round = 0; round < 10; round++) {
      pthread_t t[YOUNG];
      for (long i = 0; i < YOUNG; i++) OK(pthread_create(&t[i], NULL, young, (void *)i));
      for (long i = 0; i < YOUNG; i++) {
        void *result;
        OK(pthread_join(t[i], &result));
        CHECK(result == (void *)(i * 3));
      }
    }
    step("threads", n);
  }
  return arg;
}

static void *allocates(void *arg) {
  uint64_t random = 5;
  unsigned char *blocks[256] = {0};
  size_t sizes[256];
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 3000; i++) {
      size_t k = random_number(&random) % 256;
      if (blocks[k]) {
        CHECK(blocks[k][0] == (unsigned char)k && blocks[k][sizes[k] - 1] == (unsigned char)k);
        free(blocks[k]);
      }
      sizes[k] = 1 + random_number(&random) % (i % 100 ? 2000 : 300000);
      blocks[k] = malloc(sizes[k]);
      CHECK(blocks[k]);
      blocks[k][0] = blocks[k][sizes[k] - 1] = (unsigned char)k;
    }
    step("malloc", n);
  }
  return arg;
}

static void *maps(void *arg) {
  uint64_t random = 9;
  char *area[MAPS] = {0};
  size_t pages[MAPS];
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 300; i++) {
      size_t k = random_number(&random) % MAPS, more = 1 + random_number(&random) % 40;
      if (area[k] && i % 3) {
        area[k] = mremap(area[k], pages[k] * 4096, (pages[k] + more) * 4096, MREMAP_MAYMOVE);
        CHECK(area[k] != MAP_FAILED && area[k][0] == (char)k);
        area[k][(pages[k] + more) * 4096 - 1] = 1;
        pages[k] += more;
        continue;
      }
      if (area[k]) CHECK(area[k][0] == (char)k && munmap(area[k], pages[k] * 4096) == 0);
      pages[k] = more;
      area[k] = mmap(NULL, more * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      CHECK(area[k] != MAP_FAILED);
      area[k][0] = (char)k;
    }
    step("maps", n);
  }
  return arg;
}

static void *libraries(void *arg) {
  static const char *const names[] = {"libm.so.6", "libresolv.so.2", "libanl.so.1", "libutil.so.1"};
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 20; i++) {
      void *library = dlopen(names[i % 4], RTLD_NOW);
      if (!library) FAIL("%s", dlerror());
      if (i % 4 == 0) {
        double (*root)(double) = (double (*)(double))dlsym(library, "sqrt");
        CHECK(root && root(81.0) == 9.0);
      }
      CHECK(dlclose(library) == 0);
    }
    step("libraries", n);
  }
  return arg;
}

static void *hit(void *arg) {
  long count = 0;
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 500; i++) {
      OK(pthread_kill(pthread_self(), SIGUSR1));
      CHECK(hits >= ++count);
    }
    step("signals", n);
  }
  return arg;
}

int main(void) {
  pthread_t t[5];
  struct sigaction action = {.sa_handler = on_hit, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  void *(*work[])(void *) = {hit, threads, allocates, maps, libraries};
  for (int i = 0; i < 5; i++) OK(pthread_create(&t[i], NULL, work[i], NULL));
  victim = t[0];
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 100; i++) OK(pthread_kill(victim, SIGUSR1));
    step("main", n);
    rest(5);
  }
  for (int i = 0; i < 5; i++) OK(pthread_join(t[i], NULL));
  return done();
}
