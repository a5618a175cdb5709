/* Pipes with more than two ends, or fewer; FIFOs, also unlinked ones; who is told of readiness by signal. */
#include "steps.h"
#include <poll.h>

static int again(int fd, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int end = open(path, flags);
  CHECK(end >= 0);
  return end;
}

static int holds(int fd, const char *content) {
  char text[32];
  ssize_t length = strlen(content);
  return read(fd, text, sizeof text) == length && memcmp(text, content, length) == 0;
}

static int put(int fd, const char *content) { return write(fd, content, strlen(content)) == (ssize_t)strlen(content); }

int main(void) {
  int many[2], unread[2], ended[2], empty[2];
  CHECK(pipe(many) == 0 && pipe(unread) == 0 && pipe(ended) == 0 && pipe2(empty, O_NONBLOCK) == 0);
  int both = again(many[0], O_RDWR), writer = again(many[0], O_WRONLY | O_NONBLOCK), same = dup(many[0]);
  CHECK(same >= 0 && put(both, "hello") && close(unread[0]) == 0);
  CHECK(put(ended[1], "rest") && close(ended[1]) == 0 && close(empty[1]) == 0);
  signal(SIGPIPE, SIG_IGN);
  CHECK(mkfifo(in_dir("fifo"), 0640) == 0 && mkfifo(in_dir("gone"), 0640) == 0);
  int fifo = open(in_dir("fifo"), O_RDWR), fifo_reader = open(in_dir("fifo"), O_RDONLY | O_NONBLOCK);
  int name = open(in_dir("fifo"), O_PATH), gone = open(in_dir("gone"), O_RDWR);
  CHECK(fifo >= 0 && fifo_reader >= 0 && name >= 0 && gone >= 0 && unlink(in_dir("gone")) == 0);
  CHECK(put(fifo, "fifo!") && put(gone, "gone!"));
  CHECK(fcntl(fifo_reader, F_SETOWN, getpid()) == 0 && fcntl(fifo_reader, F_SETSIG, SIGURG) == 0);
  CHECK(fcntl(fifo_reader, F_SETFL, O_NONBLOCK | O_ASYNC) == 0);
  /* Open for reading only, and nobody has ever written; in the other one, somebody has at each step. */
  CHECK(mkfifo(in_dir("unwritten"), 0600) == 0 && mkfifo(in_dir("visited"), 0600) == 0);
  int unwritten = open(in_dir("unwritten"), O_RDONLY | O_NONBLOCK);
  int visited = open(in_dir("visited"), O_RDONLY | O_NONBLOCK);
  CHECK(unwritten >= 0 && visited >= 0);
  int all[] = {unwritten, visited, many[0], many[1], both, writer, same, unread[1], ended[0], empty[0], fifo, fifo_reader, name, gone};
  enum { COUNT = sizeof all / sizeof *all };
  int flags[COUNT];
  for (int i = 0; i < COUNT; i++) CHECK((flags[i] = fcntl(all[i], F_GETFL)) >= 0);

  for (long n = 1; !stopping(); n++) {
    char byte;
    for (int i = 0; i < COUNT; i++) CHECK(fcntl(all[i], F_GETFL) == flags[i]);
    CHECK(holds(n % 2 ? same : both, "hello") && put(n % 2 ? writer : many[1], "hello"));
    CHECK(write(unread[1], "x", 1) < 0 && errno == EPIPE);
    struct pollfd state = {ended[0], POLLIN, 0};
    CHECK(poll(&state, 1, 0) == 1 && state.revents == (POLLIN | POLLHUP) && read(empty[0], &byte, 1) == 0);
    CHECK(holds(fifo_reader, "fifo!") && put(fifo, "fifo!") && holds(gone, "gone!") && put(gone, "gone!"));
    CHECK(fcntl(fifo_reader, F_GETOWN) == getpid() && fcntl(fifo_reader, F_GETSIG) == SIGURG);
    struct pollfd quiet = {unwritten, POLLIN, 0}, hung_up = {visited, POLLIN, 0};
    CHECK(poll(&quiet, 1, 0) == 0 && read(unwritten, &byte, 1) == 0);
    CHECK(poll(&hung_up, 1, 0) == (n > 1) && hung_up.revents == (n > 1 ? POLLHUP : 0));
    int visitor = open(in_dir("visited"), O_WRONLY | O_NONBLOCK);
    CHECK(visitor >= 0 && put(visitor, "visit") && close(visitor) == 0 && holds(visited, "visit"));
    step("main", n);
    rest(10);
  }
  int visitor = open(in_dir("unwritten"), O_WRONLY | O_NONBLOCK);
  CHECK(visitor >= 0 && put(visitor, "first") && holds(unwritten, "first"));
  CHECK(holds(ended[0], "rest") && read(ended[0], all, sizeof all) == 0);
  return done();
}
