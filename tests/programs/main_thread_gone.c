/* The main thread has ended by pthread_exit; the others go on, and the last one sets the exit status. */
#include "steps.h"

static pthread_t main_thread;

static void *work(void *arg) {
  long id = (long)arg;
  char stream[16];
  snprintf(stream, sizeof stream, "t%ld", id);
  if (id == 0) OK(pthread_join(main_thread, NULL));
  for (long n = 1; !stopping(); n++) {
    step(stream, n);
    rest(10);
  }
  rest(100);
  if (id == 0) exit(done());
  pthread_exit(NULL);
}

int main(void) {
  pthread_t threads[3];
  main_thread = pthread_self();
  for (long i = 0; i < 3; i++) OK(pthread_create(&threads[i], NULL, work, (void *)i));
  pthread_exit(NULL);
}
