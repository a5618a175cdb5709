/* Thread-local storage, thread-specific data, errno and names of threads. */
#include "steps.h"

static __thread long counter;
static __thread char text[64] = "initial";
static pthread_key_t key;
static int destroyed;
static long ones[4] = {1, 1, 1, 1};

static void destroy(void *value) { __atomic_add_fetch(&destroyed, *(long *)value, __ATOMIC_SEQ_CST); }

static void *work(void *arg) {
  long id = (long)arg;
  char stream[16], name[32];
  CHECK(strcmp(text, "initial") == 0);
  snprintf(stream, sizeof stream, "t%ld", id);
  snprintf(text, sizeof text, "text of %ld", id);
  OK(pthread_setname_np(pthread_self(), stream));
  OK(pthread_setspecific(key, &ones[id]));
  pthread_t self = pthread_self();
  for (counter = 1; !stopping(); counter++) {
    char want[64];
    errno = (int)(id + 1000);
    for (volatile int i = 0; i < 100000; i++) {}
    CHECK(errno == id + 1000);
    snprintf(want, sizeof want, "text of %ld", id);
    CHECK(strcmp(text, want) == 0 && pthread_getspecific(key) == &ones[id] && pthread_self() == self);
    OK(pthread_getname_np(pthread_self(), name, sizeof name));
    CHECK(strcmp(name, stream) == 0);
    step(stream, counter);
    rest(10);
  }
  return arg;
}

int main(void) {
  pthread_t threads[4];
  OK(pthread_key_create(&key, destroy));
  for (long i = 0; i < 4; i++) OK(pthread_create(&threads[i], NULL, work, (void *)i));
  for (long i = 0; i < 4; i++) OK(pthread_join(threads[i], NULL));
  CHECK(destroyed == 4);
  return done();
}
