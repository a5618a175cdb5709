/* Processes that do nothing but execute themselves: by libc, and past it, by machine instructions of their own, also from a
   thread that is not the first. */
#include "steps.h"

/* Programs for one step. */
enum { ROUND = 8 };

extern char **environ;

static char self[512];
static char **again;

static void past_libc(long number, long a, const char *path, long c, long d, long e) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  if (number == SYS_execve)
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(path), "S"(again), "d"(environ) : "rcx", "r11", "memory");
  else
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(path), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
  FAIL("exec by %ld: %ld", number, result);
}

static void by_libc(void) {
  execv(self, again);
  FAIL("execv: errno %d", errno);
}

static void by_execve(void) { past_libc(SYS_execve, 0, self, 0, 0, 0); }

static void by_execveat(void) { past_libc(SYS_execveat, AT_FDCWD, self, (long)again, (long)environ, 0); }

static void *in_thread(void *none) {
  by_execve();
  return none;
}

static void by_thread(void) {
  pthread_t thread;
  OK(pthread_create(&thread, NULL, in_thread, NULL));
  for (;;) pause();
}

static const struct { const char *name; void (*execute)(void); } WAYS[] = {
    {"libc", by_libc}, {"execve", by_execve}, {"execveat", by_execveat}, {"thread", by_thread}};
enum { COUNT = sizeof WAYS / sizeof *WAYS };

int main(int count, char **args) {
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK(length > 0);
  size_t way = count < 3 ? 0 : atoi(args[1]);
  long n = count < 3 ? 0 : atol(args[2]);
  for (size_t child = 1; count < 3 && child < COUNT; child++) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      way = child;
      break;
    }
  }
  if (++n % ROUND == 0) {
    step(WAYS[way].name, n / ROUND);
    if (stopping()) return way == 0 ? done() : 0;
  }
  char of_way[24], number[24], *next[] = {self, of_way, number, NULL};
  snprintf(of_way, sizeof of_way, "%zu", way);
  snprintf(number, sizeof number, "%ld", n);
  again = next;
  WAYS[way].execute();
}
