/* A child whose steps are a program each: the same one again, by another entry point each time, with the environment
   given, replaced or emptied. What it must remember goes along in its arguments. */
#include "steps.h"
#include <link.h>
#include <sys/wait.h>

extern char **environ;

static int holds_libm(struct dl_phdr_info *info, size_t size, void *found) {
  if (strstr(info->dlpi_name, "libm.so")) *(int *)found = 1;
  return (void)size, 0;
}

/* The program of the step before this one had emptied, replaced or kept its environment; this is what must be left. */
static void check_environment(const char *expected) {
  const char *value = getenv("STEPS_KEPT");
  CHECK(value ? strcmp(value, expected) == 0 : strcmp(expected, "none") == 0);
  int found = 0;
  dl_iterate_phdr(holds_libm, &found);
  CHECK(found == (strcmp(expected, "preload") == 0));
  CHECK(getppid() > 0 && getpid() == atoi(getenv("STEPS_PID")));
}

int main(int argc, char **argv) {
  enum { NUMBER = 1, EXPECTED, PID, LOG, STOP, DIR, COUNT };
  char self[512], number[24], pid[24];
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length < 0) _exit(95);
  self[length] = 0;
  if (argc < COUNT) {
    pid_t child = fork();
    if (child > 0) {
      int status;
      CHECK(waitpid(child, &status, 0) == child);
      if (!WIFEXITED(status)) FAIL("the child ended with status %x", status);
      return WEXITSTATUS(status);
    }
    snprintf(pid, sizeof pid, "%d", getpid());
    setenv("STEPS_KEPT", "all", 1);
    execl(self, self, "1", "all", pid, getenv("STEPS_LOG"), getenv("STEPS_STOP"), getenv("STEPS_DIR"), NULL);
    _exit(95);
  }
  setenv("STEPS_LOG", argv[LOG], 1);
  setenv("STEPS_STOP", argv[STOP], 1);
  setenv("STEPS_DIR", argv[DIR], 1);
  setenv("STEPS_PID", argv[PID], 1);
  check_environment(argv[EXPECTED]);
  if (strcmp(argv[EXPECTED], "preload") == 0) unsetenv("LD_PRELOAD");
  long n = atol(argv[NUMBER]);
  step("main", n);
  if (stopping()) return done();
  snprintf(number, sizeof number, "%ld", n + 1);
  setenv("STEPS_KEPT", "all", 1);
  char *with_one[] = {"STEPS_KEPT=one", NULL}, *with_preload[] = {"STEPS_KEPT=preload", "LD_PRELOAD=libm.so.6", NULL},
       *with_nothing[] = {NULL};
  char *next[] = {self, number, "all", argv[PID], argv[LOG], argv[STOP], argv[DIR], NULL};
#define EXPECT(what) (next[2] = (what))
#define LIST self, number, next[2], argv[PID], argv[LOG], argv[STOP], argv[DIR], (char *)NULL
  char path[600];
  snprintf(path, sizeof path, "%s", self);
  *strrchr(path, '/') = 0;
  switch (n % 19) {
    case 0: execl(self, LIST);
    case 1: setenv("PATH", path, 1); execlp("execs", LIST);
    case 2: EXPECT("one"); execle(self, LIST, with_one);
    case 3: EXPECT("none"); execle(self, LIST, with_nothing);
    case 4: execv(self, next);
    case 5: setenv("PATH", path, 1); execvp("execs", next);
    case 6: EXPECT("one"); setenv("PATH", path, 1); execvpe("execs", next, with_one);
    case 7: EXPECT("none"); execve(self, next, NULL);
    case 8: EXPECT("preload"); execve(self, next, with_preload);
    case 9: fexecve(open(self, O_RDONLY | O_CLOEXEC), next, environ);
    case 10: EXPECT("none"); clearenv(); execv(self, next);
    /* Past libc: the environment must be the program's own. */
    case 11: syscall(SYS_execve, self, next, environ);
    case 12: syscall(SYS_execveat, open(self, O_RDONLY | O_CLOEXEC), "", next, environ, 0x1000);
    case 14: EXPECT("none"); syscall(SYS_execve, self, next, with_nothing);
    case 15: EXPECT("none"); syscall(SYS_execveat, open(self, O_RDONLY | O_CLOEXEC), "", next, with_nothing, 0x1000);
    case 16: EXPECT("none"); fexecve(open(self, O_RDONLY | O_CLOEXEC), next, with_nothing);
    case 13:
    case 17:
    case 18: {
      /* A script, whose interpreter becomes this program. */
      const char *script = in_dir("again.sh");
      int fd = open(script, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
      if (fd >= 0) {
        static const char text[] = "#!/bin/sh\nexec \"$@\"\n";
        if (write(fd, text, sizeof text - 1) != sizeof text - 1 || close(fd)) _exit(95);
      }
      if (n % 19 == 13) execl(script, script, LIST);
      EXPECT("none");
      char *of_script[] = {(char *)script, LIST};
      if (n % 19 == 17) execve(script, of_script, with_nothing);
      syscall(SYS_execve, script, of_script, with_nothing);
    }
  }
  FAIL("exec %ld: errno %d", n, errno);
}
