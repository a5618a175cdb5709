/* FIFOs whose openers wait: for a writer, for a reader, for bytes; one that is open both ways; and a pipe that is full, whose
   writer waits until nobody is left to read. */
#include "steps.h"
#include <sys/wait.h>

static volatile sig_atomic_t broken;
/* Who waits in open next has closed the other end before. */
static int closed[2], go[2];

static void hear(int number) { broken += number == SIGPIPE; }

static void expect(int fd, long n) {
  long got = -1;
  CHECK(read(fd, &got, sizeof got) == sizeof got && got == n);
}

/* Waits in open until the parent opens the other end. */
static void reader(int filled) {
  CHECK(close(filled) == 0);
  for (long n = 1;; n++) {
    long got = -1;
    int fd = open(in_dir("to"), O_RDONLY);
    CHECK(fd >= 0 && read(fd, &got, sizeof got) == sizeof got);
    if (got == 0) _exit(41);
    CHECK(got == n && read(fd, &got, sizeof got) == 0 && close(fd) == 0 && write(closed[1], "c", 1) == 1);
    step("reader", n);
  }
}

static void writer(int filled) {
  CHECK(close(filled) == 0);
  for (long n = 1;; n++) {
    int fd = open(in_dir("from"), O_WRONLY);
    CHECK(fd >= 0 && write(fd, &n, sizeof n) == sizeof n && close(fd) == 0);
    step("writer", n);
    char byte;
    CHECK(read(go[0], &byte, 1) == 1);
    if (byte == 'e') _exit(42);
  }
}

/* Waits in read: there is always a writer, since the parent has it open both ways. */
static void both(int fd) {
  for (long n = 1;; n++) {
    long got;
    CHECK(read(fd, &got, sizeof got) == sizeof got);
    if (got == 0) _exit(43);
    CHECK(got == n);
    step("both", n);
  }
}

static void full(int fd) {
  struct sigaction action = {.sa_handler = hear, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGPIPE, &action, NULL) == 0);
  int size = fcntl(fd, F_GETPIPE_SZ);
  char *bytes = calloc(1, size);
  CHECK(bytes && write(fd, bytes, size) == size);
  CHECK(write(fd, "x", 1) < 0 && errno == EPIPE && broken == 1);
  _exit(44);
}

static pid_t child(void (*run)(int), int number) {
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) run(number);
  return pid;
}

static void exits(pid_t pid, int with) {
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == with);
}

int main(void) {
  int filled[2];
  CHECK(mkfifo(in_dir("to"), 0600) == 0 && mkfifo(in_dir("from"), 0600) == 0 && mkfifo(in_dir("kept"), 0600) == 0);
  CHECK(pipe(filled) == 0 && pipe(closed) == 0 && pipe(go) == 0);
  pid_t writes = fork();
  CHECK(writes >= 0);
  if (writes == 0) {
    CHECK(close(filled[0]) == 0);
    full(filled[1]);
  }
  CHECK(close(filled[1]) == 0);
  pid_t waits = fork();
  CHECK(waits >= 0);
  if (waits == 0) {
    CHECK(close(filled[0]) == 0);
    both(open(in_dir("kept"), O_RDONLY));
  }
  int kept = open(in_dir("kept"), O_RDWR);
  CHECK(kept >= 0);
  pid_t reads = child(reader, filled[0]), answers = child(writer, filled[0]);
  long n = 1, none = 0;
  for (; !stopping(); n++) {
    char byte;
    int to = open(in_dir("to"), O_WRONLY);
    CHECK(to >= 0 && write(to, &n, sizeof n) == sizeof n && close(to) == 0 && read(closed[0], &byte, 1) == 1);
    int from = open(in_dir("from"), O_RDONLY);
    CHECK(from >= 0);
    expect(from, n);
    CHECK(read(from, &byte, 1) == 0 && close(from) == 0 && write(go[1], "g", 1) == 1);
    CHECK(write(kept, &n, sizeof n) == sizeof n);
    step("parent", n);
    rest(20);
  }
  int to = open(in_dir("to"), O_WRONLY), from = open(in_dir("from"), O_RDONLY);
  CHECK(to >= 0 && from >= 0 && write(to, &none, sizeof none) == sizeof none && write(kept, &none, sizeof none) == sizeof none);
  expect(from, n);
  CHECK(write(go[1], "e", 1) == 1);
  exits(reads, 41);
  exits(answers, 42);
  exits(waits, 43);
  CHECK(waitpid(writes, NULL, WNOHANG) == 0 && close(filled[0]) == 0);
  exits(writes, 44);
  return done();
}
