/* Files that a name does not lead to, or leads to no more; names that mislead; directories half read; files of /proc. */
#include "steps.h"
#include <dirent.h>

enum { ENTRIES = 50 };
static const off_t FAR = 3L << 30;

static int make(const char *name, int flags, const char *content) {
  int fd = open(in_dir(name), flags | O_CREAT, 0644);
  CHECK(fd >= 0);
  if (*content) CHECK(write(fd, content, strlen(content)) == (ssize_t)strlen(content));
  return fd;
}

static void two_paths(int (*call)(const char *, const char *), const char *a, const char *b) {
  char from[512];
  strcpy(from, in_dir(a));
  CHECK(call(from, in_dir(b)) == 0);
}

static int holds(int fd, const char *content) {
  char text[64];
  ssize_t length = strlen(content);
  return pread(fd, text, sizeof text, 0) == length && memcmp(text, content, length) == 0;
}

static ino_t inode(int fd, nlink_t links) {
  struct stat st;
  CHECK(fstat(fd, &st) == 0);
  if (st.st_nlink != links) FAIL("fd %d has %ld links, not %ld", fd, (long)st.st_nlink, (long)links);
  return st.st_ino;
}

static ino_t named(const char *name) {
  struct stat st;
  CHECK(stat(in_dir(name), &st) == 0);
  return st.st_ino;
}

static char seen[ENTRIES];

static int next_entry(DIR *directory) {
  struct dirent *entry = readdir(directory);
  if (entry && entry->d_name[0] == 'f') seen[atoi(entry->d_name + 1)]++;
  return entry != NULL;
}

int main(void) {
  char text[512];
  int sparse = make("sparse", O_RDWR | O_EXCL, "head");
  CHECK(pwrite(sparse, "tail", 4, FAR) == 4 && unlink(in_dir("sparse")) == 0);
  int writer = make("shared", O_WRONLY | O_EXCL | O_APPEND, "abc"), reader = make("shared", O_RDONLY, "");
  CHECK(lseek(reader, 1, SEEK_SET) == 1 && unlink(in_dir("shared")) == 0);
  int linked = make("first name", O_RDWR | O_EXCL, "linked");
  two_paths(link, "first name", "second name");
  CHECK(unlink(in_dir("first name")) == 0);
  int renamed = make("old name", O_RDWR | O_EXCL, "renamed");
  two_paths(rename, "old name", "new name");
  int replaced = make("replaced", O_RDWR | O_EXCL, "old");
  close(make("replacement", O_RDWR | O_EXCL, "newer"));
  two_paths(rename, "replacement", "replaced");
  int misleading = make("there (deleted)", O_RDWR | O_EXCL, "there");
  int closed = make("closed", O_RDWR | O_EXCL, "closed");
  CHECK(fchmod(closed, 0) == 0);
  int bytes = make("a\nb\\c\xff", O_RDWR | O_EXCL, "bytes");
  CHECK(symlink("new name", in_dir("symbolic")) == 0);
  int symbolic = open(in_dir("symbolic"), O_PATH | O_NOFOLLOW);
  CHECK(symbolic >= 0 && mkdir(in_dir("gone"), 0700) == 0);
  int gone = open(in_dir("gone"), O_RDONLY | O_DIRECTORY);
  CHECK(gone >= 0 && rmdir(in_dir("gone")) == 0 && mkdir(in_dir("many"), 0700) == 0);
  for (int i = 0; i < ENTRIES; i++) {
    snprintf(text, sizeof text, "many/f%d", i);
    close(make(text, O_WRONLY, ""));
  }
  DIR *directory = opendir(in_dir("many"));
  CHECK(directory);
  for (int i = 0; i < 10; i++) CHECK(next_entry(directory));
  int partly = open(in_dir("many"), O_RDONLY | O_DIRECTORY);
  CHECK(partly >= 0 && syscall(SYS_getdents64, partly, text, 200) > 0);
  off_t position = lseek(partly, 0, SEEK_CUR);
  int own = open("/proc/self/stat", O_RDONLY), common = open("/proc/meminfo", O_RDONLY);
  CHECK(own >= 0 && common >= 0 && read(common, text, 10) == 10);
  int log = make("log", O_WRONLY | O_APPEND, "");

  int all[] = {sparse, writer, reader,   linked, renamed, replaced, misleading, closed, bytes,
               symbolic, gone, partly, own,    common,  log};
  enum { COUNT = sizeof all / sizeof *all };
  int flags[COUNT];
  for (int i = 0; i < COUNT; i++) CHECK((flags[i] = fcntl(all[i], F_GETFL)) >= 0);

  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < COUNT; i++) CHECK(fcntl(all[i], F_GETFL) == flags[i]);
    struct stat st;
    CHECK(pread(sparse, text, 4, 0) == 4 && memcmp(text, "head", 4) == 0);
    CHECK(pread(sparse, text, 9, FAR) == 4 && memcmp(text, "tail", 4) == 0);
    CHECK(inode(sparse, 0) && fstat(sparse, &st) == 0 && st.st_size == FAR + 4 && st.st_blocks < 1000);
    CHECK(inode(writer, 0) == inode(reader, 0) && lseek(reader, 0, SEEK_CUR) == 1);
    CHECK(pread(reader, text, 3, 0) == 3 && memcmp(text, "abc", 3) == 0);
    CHECK(fstat(reader, &st) == 0 && st.st_size == 2 + n && write(writer, "x", 1) == 1);
    CHECK(inode(linked, 1) == named("second name") && holds(linked, "linked"));
    CHECK(inode(renamed, 1) == named("new name") && holds(renamed, "renamed"));
    CHECK(inode(replaced, 0) != named("replaced") && holds(replaced, "old"));
    CHECK(inode(misleading, 1) == named("there (deleted)") && holds(misleading, "there"));
    CHECK(inode(closed, 1) && fstat(closed, &st) == 0 && (st.st_mode & 07777) == 0 && holds(closed, "closed"));
    CHECK(inode(bytes, 1) == named("a\nb\\c\xff") && holds(bytes, "bytes"));
    CHECK(readlinkat(symbolic, "", text, sizeof text) == 8 && memcmp(text, "new name", 8) == 0);
    CHECK(fstat(gone, &st) == 0 && st.st_nlink == 0 && S_ISDIR(st.st_mode));
    CHECK(lseek(partly, 0, SEEK_CUR) == position && lseek(common, 0, SEEK_CUR) == 10);
    CHECK(pread(own, text, 200, 0) > 0 && atoi(text) == getpid());
    if (n % 20 == 0) next_entry(directory);
    CHECK(write(log, "l", 1) == 1 && fstat(log, &st) == 0 && st.st_size == n);
    step("main", n);
    rest(10);
  }
  while (next_entry(directory)) {}
  for (int i = 0; i < ENTRIES; i++)
    if (seen[i] != 1) FAIL("directory entry %d seen %d times", i, seen[i]);
  return done();
}
