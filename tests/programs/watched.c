/* Does what plugins can be told of, once: descriptors, threads, forks, and at last another program. */
#include "steps.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* From now on clone with the flags of fork says that there are too many processes; threads can be made. */
static void forbid_forks(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof code / sizeof code[0], code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

static void forks(void) {
  errno = ENOTTY;
  pid_t child = fork();
  CHECK(child >= 0 && errno == ENOTTY);
  if (child == 0) _exit(0);
  CHECK(waitpid(child, NULL, 0) == child);
  forbid_forks();
  CHECK(fork() == -1 && errno == EAGAIN);
}

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
  forks();
  char *args[] = {"sh", "-c", "echo \"WATCHED is $WATCHED, state is ${DMTCP_EXEC_STATE:-gone}\"", NULL};
  CHECK(execv("/nowhere/at/all", args) == -1 && errno == ENOENT);
  pid_t pid;
  CHECK(posix_spawn(&pid, "/nowhere/to/spawn", NULL, NULL, args, environ) == ENOENT);
  CHECK(posix_spawnp(&pid, "/nowhere/to/search", NULL, NULL, args, environ) == ENOENT);
  CHECK(execle("/nowhere/with/environment", "sh", NULL, environ) == -1 && errno == ENOENT);
  CHECK(execlp("/nowhere/with/path", "sh", NULL) == -1 && errno == ENOENT);
  execl("/bin/sh", args[0], args[1], args[2], NULL);
  return 1;
}
