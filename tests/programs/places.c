/* A working directory that is removed, moved with another one in its place, or gone later; another root directory. */
#include "steps.h"

static char cwd[512], link_now[512];

static void read_cwd(void) {
  ssize_t n = readlink("/proc/self/cwd", link_now, sizeof link_now - 1);
  CHECK(n > 0);
  link_now[n] = 0;
}

int main(int argc, char **argv) {
  char path[512], aside[512];
  struct stat st;
  CHECK(argc == 2);
  int removed = strcmp(argv[1], "removed") == 0, moved = strcmp(argv[1], "moved") == 0;
  strcpy(path, in_dir("inner"));
  CHECK(mkdir(path, 0700) == 0 && chdir(path) == 0);
  if (removed) CHECK(rmdir(path) == 0);
  if (moved) {
    strcpy(aside, in_dir("aside"));
    CHECK(rename(path, aside) == 0 && mkdir(path, 0700) == 0);
    int fd = open("here", O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && close(fd) == 0);
  }
  /* Nothing is found by its name any more: steps go to standard output. */
  int dir = open(getenv("STEPS_DIR"), O_PATH | O_DIRECTORY);
  CHECK(dir >= 0);
  if (strcmp(argv[1], "chroot") == 0) CHECK(chroot(path) == 0);
  for (long n = 1; faccessat(dir, "stop", F_OK, 0); n++) {
    if (removed || moved) read_cwd();
    if (removed) CHECK(strstr(link_now, "/inner") && strstr(link_now, " (deleted)") && !getcwd(cwd, sizeof cwd) && errno == ENOENT);
    if (moved) CHECK(strstr(link_now, "/aside") && stat("here", &st) == 0);
    step("main", n);
    rest(10);
  }
  return done();
}
