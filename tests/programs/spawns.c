/* Threads that start programs in every way there is, each of them all the time, and check how they end. */
#include "steps.h"
#include <spawn.h>
#include <sys/wait.h>
#include <wordexp.h>

extern char **environ;

static char self[512];

static int status_of(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static int by_vfork(const char *code) {
  pid_t child = vfork();
  CHECK(child >= 0);
  if (child == 0) {
    execl(self, self, code, NULL);
    _exit(96);
  }
  return status_of(child);
}

static int by_fork(const char *code) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    char *argv[] = {self, (char *)code, NULL};
    execv(self, argv);
    _exit(96);
  }
  return status_of(child);
}

static int by_posix_spawn(const char *code) {
  char *argv[] = {self, (char *)code, NULL};
  pid_t child;
  OK(posix_spawn(&child, self, NULL, NULL, argv, environ));
  return status_of(child);
}

static int by_system(const char *code) {
  char command[600];
  snprintf(command, sizeof command, "exec %s %s", self, code);
  int status = system(command);
  CHECK(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static int by_popen(const char *code) {
  char command[600], said[16] = "";
  snprintf(command, sizeof command, "%s %s say", self, code);
  FILE *stream = popen(command, "r");
  CHECK(stream && fgets(said, sizeof said, stream));
  int status = pclose(stream);
  CHECK(WIFEXITED(status) && atoi(said) == WEXITSTATUS(status));
  return WEXITSTATUS(status);
}

static int by_fork_alone(const char *code) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(atoi(code));
  return status_of(child);
}

/* A child that has ended before anybody waits, and one whose parent does not wait for it at all. */
static int by_double_fork(const char *code) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    if (fork() == 0) _exit(1);
    _exit(atoi(code));
  }
  siginfo_t info;
  CHECK(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == child && info.si_status == atoi(code));
  return status_of(child);
}

static int by_wordexp(const char *code) {
  char command[600];
  snprintf(command, sizeof command, "$(%s %s say)", self, code);
  wordexp_t words;
  CHECK(wordexp(command, &words, 0) == 0 && words.we_wordc == 1);
  int number = atoi(words.we_wordv[0]);
  wordfree(&words);
  return number;
}

static const struct { const char *name; int (*start)(const char *); } WAYS[] = {
    {"vfork", by_vfork}, {"fork", by_fork}, {"posix_spawn", by_posix_spawn}, {"system", by_system},
    {"popen", by_popen}, {"fork_alone", by_fork_alone}, {"double_fork", by_double_fork}, {"wordexp", by_wordexp}};
enum { COUNT = sizeof WAYS / sizeof *WAYS };

static void *thread(void *way) {
  size_t i = (size_t)way;
  for (long n = 1; !stopping(); n++) {
    char code[16];
    snprintf(code, sizeof code, "%ld", 1 + n % 90);
    CHECK(WAYS[i].start(code) == atoi(code));
    step(WAYS[i].name, n);
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc > 1) {
    if (argc > 2) printf("%s\n", argv[1]);
    return atoi(argv[1]);
  }
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK(length > 0);
  pthread_t threads[COUNT];
  for (size_t i = 0; i < COUNT; i++) OK(pthread_create(&threads[i], NULL, thread, (void *)i));
  for (size_t i = 0; i < COUNT; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
