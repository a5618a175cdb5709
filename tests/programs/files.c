/* Regular files in every open mode: offset, flags, content and sharing must be what they were. */
#include "steps.h"

struct held {
  const char *name;
  int flags, fd;
  off_t offset;
};

static int reopen(const char *name, int flags) {
  int fd = open(in_dir(name), flags, 0640);
  CHECK(fd >= 0);
  return fd;
}

static void line(int fd, long n) {
  char text[32];
  CHECK(snprintf(text, sizeof text, "%09ld\n", n) == 10);
  CHECK(write(fd, text, 10) == 10);
}

/* Lines 1 to n and nothing else. */
static void check_lines(int fd, off_t from, long n) {
  char text[32], want[32];
  for (long i = 1; i <= n; i++) {
    CHECK(pread(fd, text, 10, from + (i - 1) * 10) == 10);
    snprintf(want, sizeof want, "%09ld\n", i);
    CHECK(memcmp(text, want, 10) == 0);
  }
}

static off_t length(int fd) {
  struct stat st;
  CHECK(fstat(fd, &st) == 0);
  return st.st_size;
}

int main(void) {
  int maker = reopen("source", O_WRONLY | O_CREAT | O_TRUNC);
  for (int i = 0; i < 100000; i++) CHECK(write(maker, "abcdefghij" + i % 10, 1) == 1);
  close(maker);

  int reader = reopen("source", O_RDONLY);
  int writer = reopen("written", O_WRONLY | O_CREAT | O_EXCL);
  int both = reopen("both", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC);
  int append = reopen("appended", O_WRONLY | O_CREAT | O_APPEND);
  int same = dup(append);
  int sync = reopen("synced", O_RDWR | O_CREAT | O_DSYNC | O_NONBLOCK | O_NOATIME);
  int path = reopen("source", O_PATH);
  int dir = open(getenv("STEPS_DIR"), O_RDONLY | O_DIRECTORY);
  int unlinked = reopen("unlinked", O_RDWR | O_CREAT | O_EXCL);
  CHECK(unlink(in_dir("unlinked")) == 0);
  int nameless = open(getenv("STEPS_DIR"), O_TMPFILE | O_RDWR, 0600);
  int far = dup2(both, 900);
  CHECK(far == 900 && same >= 0 && dir >= 0 && nameless >= 0);
  CHECK(fcntl(far, F_SETFD, FD_CLOEXEC) == 0);
  int flags[] = {reader, writer, both, append, sync, path, dir, unlinked, nameless, far};
  enum { COUNT = sizeof flags / sizeof *flags };
  int want_fl[COUNT], want_fd[COUNT];
  struct stat st[COUNT], now;
  for (int i = 0; i < COUNT; i++) {
    CHECK((want_fl[i] = fcntl(flags[i], F_GETFL)) >= 0);
    CHECK((want_fd[i] = fcntl(flags[i], F_GETFD)) >= 0);
    CHECK(fstat(flags[i], &st[i]) == 0);
  }
  CHECK(close(0) == 0);  /* A free number stays free. */

  for (long n = 1; !stopping(); n++) {
    char c;
    CHECK(read(reader, &c, 1) == 1 && c == 'a' + (n - 1) % 10);
    line(writer, n);
    line(n % 2 ? both : far, n);
    line(n % 2 ? append : same, n);
    line(unlinked, n);
    line(nameless, n);
    CHECK(pwrite(sync, &n, sizeof n, 4096) == sizeof n);
    CHECK(lseek(reader, 0, SEEK_CUR) == n && lseek(writer, 0, SEEK_CUR) == n * 10);
    CHECK(lseek(both, 0, SEEK_CUR) == n * 10 && lseek(far, 0, SEEK_CUR) == n * 10);
    check_lines(both, 0, n);
    check_lines(unlinked, 0, n);
    check_lines(nameless, 0, n);
    CHECK(length(writer) == n * 10 && length(both) == n * 10 && length(append) == n * 10);
    CHECK(length(unlinked) == n * 10 && length(nameless) == n * 10);
    for (int i = 0; i < COUNT; i++) {
      CHECK(fcntl(flags[i], F_GETFL) == want_fl[i]);
      CHECK(fcntl(flags[i], F_GETFD) == want_fd[i]);
      CHECK(fstat(flags[i], &now) == 0 && now.st_mode == st[i].st_mode);
    }
    CHECK(fstat(unlinked, &now) == 0 && now.st_nlink == 0);
    CHECK(openat(dir, "no-such-file", O_RDONLY) < 0 && errno == ENOENT);
    CHECK(fcntl(0, F_GETFD) < 0 && errno == EBADF);
    step("main", n);
    rest(10);
  }
  return done();
}
