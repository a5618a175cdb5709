/* vfork, as programs use it and as they abuse it; for plugins that ask for its events. */
#include "steps.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* From now on vfork, and clone with the flags of fork, say that there are too many processes. */
static void forbid_forks(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_vfork, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof code / sizeof code[0], code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

static int status_of(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
  return WEXITSTATUS(status);
}

static int count_descriptors(void) {
  int count = 0;
  for (int fd = 0; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

int main(void) {
  int pipe_ends[2], before = count_descriptors();
  char byte;

  /* The parent goes on when the child has ended, and the child has the descriptors that it expects. */
  CHECK(pipe2(pipe_ends, O_NONBLOCK) == 0);
  int lowest = dup(0);
  CHECK(close(lowest) == 0);
  errno = ENOTTY;
  pid_t child = vfork();
  CHECK(child >= 0 && errno == ENOTTY);
  if (child == 0) {
    rest(100);
    if (dup(0) != lowest) _exit(1);
    _exit(write(pipe_ends[1], "x", 1) == 1 ? 3 : 2);
  }
  CHECK(read(pipe_ends[0], &byte, 1) == 1);
  CHECK(status_of(child) == 3);
  CHECK(close(pipe_ends[0]) == 0 && close(pipe_ends[1]) == 0);

  /* It goes on when the child executes a program, whether that ends or not. */
  CHECK(pipe(pipe_ends) == 0);
  child = vfork();
  CHECK(child >= 0);
  if (child == 0) {
    dup2(pipe_ends[0], 0);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    execl("/bin/sh", "sh", "-c", "read word; exit $word", NULL);
    _exit(127);
  }
  CHECK(write(pipe_ends[1], "5\n", 2) == 2);
  CHECK(status_of(child) == 5);

  /* A child of the child's is nobody to wait for. */
  child = vfork();
  CHECK(child >= 0);
  if (child == 0) {
    pid_t other = fork();
    if (other != 0) _exit(other < 0);
    close(pipe_ends[1]);
    _exit(read(pipe_ends[0], &byte, 1) != 0);
  }
  CHECK(status_of(child) == 0);
  CHECK(close(pipe_ends[0]) == 0 && close(pipe_ends[1]) == 0);
  CHECK(count_descriptors() == before);

  forbid_forks();
  CHECK(vfork() == -1 && errno == EAGAIN);
  CHECK(count_descriptors() == before);
  return done();
}
