/* A family that works together through pipes: a source of numbers, a filter and a sink, which checks them; a nursery, whose
   children live for a few milliseconds and answer through a pipe; and their parent. Any of them may be killed at any
   moment: whoever loses his partner ends without a word, the others go on. What is seen is checked all the same. With an
   argument the sink holds so many MiB of memory. */
#include "steps.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

enum { BRIEF = 20, MARK = 200000, LOST = 5 };

static char self[512];

/* Fills a block; what a partner that was killed has left undone counts as his end. */
static ssize_t read_block(int fd, uint64_t *block, size_t length) {
  size_t at = 0;
  while (at < length) {
    ssize_t n = read(fd, (char *)block + at, length - at);
    CHECK(n >= 0);
    if (n == 0) break;
    at += n;
    if (at % sizeof *block == 0) break;
  }
  return at / sizeof *block;
}

static void write_block(int fd, const uint64_t *block, size_t count) {
  for (size_t at = 0, length = count * sizeof *block; at < length;) {
    ssize_t n = write(fd, (const char *)block + at, length - at);
    if (n < 0 && errno == EPIPE) _exit(LOST);
    CHECK(n > 0);
    at += n;
  }
}

/* Numbers 1, 2, 3, ..., in blocks of any length; 0 is the last. */
static void source(int to) {
  uint64_t block[700], random = 3, n = 0;
  for (;;) {
    size_t count = 1 + random_number(&random) % 700;
    for (size_t i = 0; i < count; i++) block[i] = ++n;
    int ends = stopping();
    if (ends) block[count - 1] = 0;
    write_block(to, block, count);
    if (ends) _exit(0);
  }
}

static void filter(int from, int to) {
  uint64_t block[500], expected = 1;
  for (size_t count; (count = read_block(from, block, sizeof block)) > 0;) {
    for (size_t i = 0; i < count; i++) {
      if (block[i] == 0) {
        write_block(to, block, i + 1);
        _exit(0);
      }
      CHECK(block[i] == expected);
      block[i] = expected++ * 3;
    }
    write_block(to, block, count);
  }
  _exit(LOST);
}

static void sink(int from, size_t mib) {
  uint64_t block[900], expected = 1, state = 1, *ballast = malloc(mib << 20 | 1);
  CHECK(ballast);
  for (size_t i = 0; i < mib << 17; i++) ballast[i] = random_number(&state);
  for (size_t count; (count = read_block(from, block, sizeof block)) > 0;)
    for (size_t i = 0; i < count; i++, expected++) {
      if (block[i] == 0) _exit(0);
      CHECK(block[i] == expected * 3);
      if (expected % MARK == 0) step("sink", expected / MARK);
    }
  _exit(LOST);
}

/* A child of the nursery: by fork alone, with a child of its own, or by a program. */
static pid_t brief(long n, const char *code, int answer) {
  if (n % 3 == 1) {
    char *argv[] = {self, "brief", (char *)code, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    OK(posix_spawn_file_actions_init(&actions));
    OK(posix_spawn_file_actions_adddup2(&actions, answer, 1));
    OK(posix_spawn(&child, self, &actions, NULL, argv, environ));
    OK(posix_spawn_file_actions_destroy(&actions));
    return child;
  }
  pid_t child = fork();
  CHECK(child >= 0);
  if (child > 0) return child;
  if (n % 3 == 2) {
    int status;
    pid_t inner = fork();
    CHECK(inner >= 0);
    if (inner == 0) _exit(9);
    CHECK(waitpid(inner, &status, 0) == inner);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 9);
  }
  dprintf(answer, "%s\n", code);
  _exit(atoi(code));
}

static void nursery(void) {
  int status, answers[2];
  for (long n = 1, born = 0; !stopping(); n++) {
    for (int i = 0; i < BRIEF; i++, born++) {
      char code[8], said[8] = "";
      snprintf(code, sizeof code, "%ld", 1 + born % 90);
      CHECK(pipe(answers) == 0);
      pid_t child = brief(born, code, answers[1]);
      close(answers[1]);
      ssize_t length = read(answers[0], said, sizeof said);
      CHECK(length >= 0 && close(answers[0]) == 0);
      CHECK(waitpid(child, &status, 0) == child);
      if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) continue;
      CHECK(WIFEXITED(status) && WEXITSTATUS(status) == atoi(code) && atoi(said) == atoi(code));
    }
    step("nursery", n);
  }
  _exit(0);
}

int main(int argc, char **argv) {
  if (argc > 2) {
    printf("%s\n", argv[2]);
    return atoi(argv[2]);
  }
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK(length > 0 && signal(SIGPIPE, SIG_IGN) != SIG_ERR);
  enum { COUNT = 4 };
  static const char *const names[COUNT] = {"source", "filter", "sink", "nursery"};
  pid_t children[COUNT];
  int first[2], second[2], lost = 0;
  CHECK(pipe(first) == 0 && pipe(second) == 0);
  for (int i = 0; i < COUNT; i++) {
    children[i] = fork();
    CHECK(children[i] >= 0);
    if (children[i] > 0) continue;
    if (i != 0) close(first[1]);
    if (i != 1) close(first[0]), close(second[1]);
    if (i != 2) close(second[0]);
    switch (i) {
      case 0: source(first[1]); break;
      case 1: filter(first[0], second[1]); break;
      case 2: sink(second[0], argc > 1 ? strtoul(argv[1], NULL, 10) : 0); break;
      case 3: close(first[1]), nursery();
    }
  }
  close(first[0]), close(first[1]), close(second[0]), close(second[1]);
  note("who main %d", getpid());
  for (int i = 0; i < COUNT; i++) note("who %s %d", names[i], children[i]);
  for (long n = 1; !stopping(); n++) {
    int status;
    for (int i = 0; i < COUNT; i++) {
      if (children[i] == 0 || waitpid(children[i], &status, WNOHANG) != children[i]) continue;
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && stopping()) continue;
      CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == LOST);
      children[i] = 0, lost++;
    }
    step("main", n);
    rest(5);
  }
  for (int i = 0; i < COUNT; i++) {
    int status;
    if (children[i] == 0 || (waitpid(children[i], &status, 0) != children[i] && errno == ECHILD)) continue;
    CHECK(lost || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
  }
  return done();
}
