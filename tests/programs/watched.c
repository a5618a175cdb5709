/* Does what plugins can be told of, once: descriptors, threads, and at last another program. */
#include "steps.h"

static void *returns(void *argument) { return argument; }

static void *exits(void *argument) { pthread_exit(argument); }

static void join(void *(*start)(void *)) {
  pthread_t thread;
  void *result = NULL;
  int mark;
  OK(pthread_create(&thread, NULL, start, &mark));
  OK(pthread_join(thread, &result));
  CHECK(result == &mark);
}

int main(void) {
  int fd = open("/dev/null", O_RDONLY);
  CHECK(fd >= 0);
  int other = dup(fd);
  CHECK(other >= 0 && dup2(fd, other) == other);
  errno = 0;
  CHECK(close(-1) == -1 && errno == EBADF);
  CHECK(close(other) == 0 && close(fd) == 0);
  CHECK(open("/nowhere/at/all", O_RDONLY) == -1 && errno == ENOENT);
  FILE *stream = fopen("/dev/zero", "r");
  CHECK(stream != NULL);
  stream = freopen("/dev/null", "w", stream);
  CHECK(stream != NULL && fclose(stream) == 0);
  join(returns);
  join(exits);
  char *args[] = {"sh", "-c", "echo \"WATCHED is $WATCHED, state is ${DMTCP_EXEC_STATE:-gone}\"", NULL};
  CHECK(execv("/nowhere/at/all", args) == -1 && errno == ENOENT);
  execv("/bin/sh", args);
  return 1;
}
