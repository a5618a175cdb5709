/* Measures itself: nanoseconds per call, least of some rounds. Run with and without the tool; prints `NAME NS`. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 7 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static void *nothing(void *arg) { return arg; }

static void open_close(void) { close(open("/dev/null", O_RDONLY)); }
static void malloc_free(void) {
  void *volatile p = malloc(100);
  free(p);
}
static void clock_once(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
}
static void stat_once(void) {
  struct stat st;
  stat("/usr/bin", &st);
}
static void dup_close(void) { close(dup(0)); }
static void getpid_once(void) { (void)!getpid(); }
static void mmap_munmap(void) {
  munmap(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536);
}
static void pipe_close(void) {
  int fd[2];
  if (pipe(fd) == 0) close(fd[0]), close(fd[1]);
}
static void thread_join(void) {
  pthread_t t;
  if (pthread_create(&t, NULL, nothing, NULL) == 0) pthread_join(t, NULL);
}
static void fork_wait(void) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid(pid, NULL, 0);
}

static void spawn_wait(void) {
  char *arguments[] = {"/bin/true", NULL};
  pid_t pid;
  if (posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ) != 0) exit(1);
  int status;
  if (waitpid(pid, &status, 0) != pid || status != 0) exit(1);
}

struct call {
  const char *name;
  void (*once)(void);
  int count;
};

int main(int argc, char **argv) {
  struct call calls[] = {
      {"open+close", open_close, 50000},     {"malloc+free", malloc_free, 2000000},
      {"clock_gettime", clock_once, 500000}, {"stat", stat_once, 50000},
      {"dup+close", dup_close, 100000},      {"getpid", getpid_once, 200000},
      {"mmap+munmap", mmap_munmap, 30000},   {"pipe+close", pipe_close, 20000},
      {"pthread_create+join", thread_join, 1000},
  };
  struct call fork_calls[] = {{"fork+wait", fork_wait, 200}, {"posix_spawn+wait of true", spawn_wait, 50}};
  int forks = argc > 1 && strcmp(argv[1], "fork") == 0;
  struct call *all = forks ? fork_calls : calls;
  size_t count = forks ? sizeof fork_calls / sizeof *fork_calls : sizeof calls / sizeof *calls;
  for (size_t i = 0; i < count; i++) {
    double least = 1e18;
    for (int r = 0; r < ROUNDS; r++) {
      double start = now();
      for (int k = 0; k < all[i].count; k++) all[i].once();
      double each = (now() - start) / all[i].count;
      if (each < least) least = each;
    }
    printf("%s %.2f\n", all[i].name, least);
  }
  return 0;
}
