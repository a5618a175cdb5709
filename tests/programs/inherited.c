/* What a child has from its parent is one and the same: a flock, an OFD lock, and an epoll set with what it watches.
   Each looks at every step; in the end the parent lets go of the locks, and the child sees that. */
#include "steps.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/wait.h>

static int file, event, epoll;

/* Whether somebody else could lock the file. */
static int is_free(void) {
  int other = open(in_dir("locked"), O_RDWR);
  struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10};
  CHECK(other >= 0);
  int flocked = flock(other, LOCK_EX | LOCK_NB), ranged = fcntl(other, F_OFD_SETLK, &range);
  CHECK(flocked == ranged);
  close(other);
  return flocked == 0;
}

static void loop(const char *stream) {
  for (long n = 1; !stopping(); n++) {
    struct epoll_event seen[2];
    CHECK(!is_free());
    CHECK(epoll_wait(epoll, seen, 2, 0) == 1 && seen[0].data.u64 == 4711);
    step(stream, n);
    rest(10);
  }
}

int main(void) {
  struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10};
  struct epoll_event interest = {.events = EPOLLIN, .data.u64 = 4711};
  CHECK((file = open(in_dir("locked"), O_RDWR | O_CREAT, 0600)) >= 0);
  CHECK(flock(file, LOCK_EX) == 0 && fcntl(file, F_OFD_SETLK, &range) == 0);
  CHECK((event = eventfd(1, 0)) >= 0 && (epoll = epoll_create1(0)) >= 0);
  CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &interest) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    uint64_t count;
    loop("child");
    /* The parent lets go of the locks and then writes. */
    while (read(event, &count, sizeof count) == sizeof count && count < 100) continue;
    CHECK(is_free());
    _exit(0);
  }
  loop("parent");
  uint64_t enough = 100;
  int status;
  range.l_type = F_UNLCK;
  CHECK(flock(file, LOCK_UN) == 0 && fcntl(file, F_OFD_SETLK, &range) == 0);
  CHECK(write(event, &enough, sizeof enough) == sizeof enough);
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  return done();
}
