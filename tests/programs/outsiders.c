/* Children that run outside of control: one is waited for all the time, the others are looked at now and then. Each that has
   been killed is noted and replaced; nothing else may have become of it. */
#include "steps.h"
#include <sys/wait.h>

static char directory[400];
static volatile sig_atomic_t told;

static void hear(int signal) { told += signal == SIGCHLD; }

/* A program of this name in our own directory: static, with the rights of another user, or dmtcp_nocheckpoint. */
static pid_t start(const char *name) {
  char path[500];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    if (strcmp(name, "nocheckpoint") == 0) execl(path, path, "/bin/sleep", "1000", NULL);
    execl(path, path, "1000", NULL);
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
    pid_t child = start("static"), ended;
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
  const char *names[] = {"nocheckpoint", "setuid"};
  pid_t children[] = {start(names[0]), start(names[1])};
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < 2; i++) {
      int status;
      pid_t ended = waitpid(children[i], &status, WNOHANG);
      CHECK(ended == 0 || ended == children[i]);
      if (ended == 0) continue;
      killed(names[i], status);
      CHECK(told > 0);
      children[i] = start(names[i]);
    }
    step("main", n);
    /* A signal may end it. */
    struct timespec t = {0, 10000000};
    nanosleep(&t, NULL);
  }
  for (int i = 0; i < 2; i++) CHECK(kill(children[i], SIGKILL) == 0);
  CHECK(kill(waited_for, SIGKILL) == 0);
  OK(pthread_join(thread, NULL));
  return done();
}
