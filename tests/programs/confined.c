/* A program that forbids itself system calls (seccomp(2)), for all threads or for one: by a filter, or strictly all but
   four. Argument: `filter` or `strict`. */
#include "steps.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static volatile int confined;

/* Mkdir fails with an error that it never has. */
static void *filtered(void *arg) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdir, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOTDOT),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  CHECK(syscall(SYS_mkdir, "/", 0700) == -1 && errno == EDOTDOT);
  confined = 1;
  while (!stopping()) rest(20);
  return arg;
}

static int ends[2];

/* It can read, write and end, and nothing else. */
static void *strict(void *arg) {
  char byte;
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
  confined = 1;
  while (read(ends[0], &byte, 1) == 1 && byte) {}
  syscall(SYS_exit, 0);
  return arg;
}

int main(int argc, char **argv) {
  pthread_t thread;
  int is_strict = argc > 1 && strcmp(argv[1], "strict") == 0;
  CHECK(pipe(ends) == 0);
  OK(pthread_create(&thread, NULL, is_strict ? strict : filtered, NULL));
  while (!confined) rest(5);
  for (long n = 1; !stopping(); n++) {
    if (is_strict) CHECK(write(ends[1], "x", 1) == 1);
    step("main", n);
    rest(10);
  }
  CHECK(write(ends[1], "", 1) == 1);
  OK(pthread_join(thread, NULL));
  return done();
}
