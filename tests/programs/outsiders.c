/* Children that run outside of control: one is waited for all the time, the other is looked at now and then. Each that has
   been killed is noted and replaced; nothing else may have become of it. */
#include "steps.h"
#include <sys/wait.h>

static char directory[400];
static volatile sig_atomic_t told;

static void hear(int signal) { told += signal == SIGCHLD; }

/* A static program, or one that dmtcp_nocheckpoint starts. */
static pid_t start(int is_static) {
  char path[500];
  snprintf(path, sizeof path, "%s/%s", directory, is_static ? "static" : "nocheckpoint");
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    execl(path, path, "/bin/sleep", "1000", NULL);
    _exit(95);
  }
  return child;
}

static void killed(const char *which, int status) {
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) FAIL("%s: status %x", which, status);
  note("killed %s", which);
}

static pid_t waited_for;

static void *waits(void *arg) {
  while (!stopping()) {
    int status;
    pid_t child = start(1), ended;
    __atomic_store_n(&waited_for, child, __ATOMIC_SEQ_CST);
    while ((ended = waitpid(child, &status, 0)) < 0) CHECK(errno == EINTR);
    CHECK(ended == child);
    killed("static", status);
  }
  return arg;
}

int main(void) {
  ssize_t length = readlink("/proc/self/exe", directory, sizeof directory - 1);
  CHECK(length > 0);
  *strrchr(directory, '/') = 0;
  struct sigaction action = {.sa_handler = hear, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
  pthread_t thread;
  OK(pthread_create(&thread, NULL, waits, NULL));
  pid_t child = start(0);
  for (long n = 1; !stopping(); n++) {
    int status;
    pid_t ended = waitpid(child, &status, WNOHANG);
    CHECK(ended == 0 || ended == child);
    if (ended == child) {
      killed("nocheckpoint", status);
      CHECK(told > 0);
      child = start(0);
    }
    step("main", n);
    /* A signal may end it. */
    struct timespec t = {0, 10000000};
    nanosleep(&t, NULL);
  }
  CHECK(kill(child, SIGKILL) == 0 && kill(waited_for, SIGKILL) == 0);
  OK(pthread_join(thread, NULL));
  return done();
}
