/* The first thread is gone, and nobody calls exit: the process ends with status 0 when its last thread has left. What is in a
   stream's buffer is written then, into a descriptor of the program's.
   With an argument the first thread is cancelled. */
#include "steps.h"
#include <sys/wait.h>

static pthread_t first;
static FILE *kept;

static void at_the_end(void) { fputs("ended\n", kept); }

static void *work(void *arg) {
  if (arg) OK(pthread_cancel(first));
  OK(pthread_join(first, NULL));
  for (long n = 1; !stopping(); n++) {
    step("worker", n);
    rest(10);
  }
  note("DONE");
  return NULL;
}

int main(int argc, char **argv) {
  (void)argv;
  pthread_t thread;
  first = pthread_self();
  CHECK(kept = fopen(in_dir("kept"), "w"));
  CHECK(atexit(at_the_end) == 0);
  /* So do children, which have nothing but their first thread. */
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    kept = fopen("/dev/null", "w");
    pthread_exit(NULL);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(fputs("begun\n", kept) >= 0);
  OK(pthread_create(&thread, NULL, work, argc > 1 ? (void *)1 : NULL));
  if (argc == 1) pthread_exit(NULL);
  for (;;) pause();
}
