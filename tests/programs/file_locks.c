/* Locks of every kind; POSIX locks also on a file that is mapped, as databases do it. */
#include "steps.h"
#include <sys/file.h>

#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif

static int lock(int fd, int command, short type, off_t start, off_t length) {
  struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  return fcntl(fd, command, &range);
}

static int file(const char *name, int flags) {
  int fd = open(in_dir(name), flags, 0600);
  CHECK(fd >= 0);
  return fd;
}

static int count_posix_locks(void) {
  char line[256], kind[16];
  int count = 0, pid;
  FILE *all = fopen("/proc/locks", "r");
  CHECK(all);
  while (fgets(line, sizeof line, all))
    count += sscanf(line, "%*d: %15s %*s %*s %d", kind, &pid) == 2 && strcmp(kind, "POSIX") == 0 && pid == getpid();
  fclose(all);
  return count;
}

/* How many POSIX locks the kernel says this process has. A reading that was cut in two by a restart tells nothing. */
static int posix_locks(void) {
  int count = 0;
  for (int i = 0; i < 3 && count != 3; i++) count = count_posix_locks();
  return count;
}

int main(void) {
  int whole = file("flock", O_RDWR | O_CREAT), same = dup(whole);
  CHECK(same >= 0 && flock(whole, LOCK_EX) == 0);
  int posix = file("posix", O_RDWR | O_CREAT);
  CHECK(lock(posix, F_SETLK, F_WRLCK, 100, 50) == 0 && lock(posix, F_SETLK, F_RDLCK, 1000, 0) == 0);
  int description = file("description", O_RDWR | O_CREAT);
  CHECK(lock(description, F_OFD_SETLK, F_WRLCK, 5, 1) == 0);
  close(file("lease", O_RDWR | O_CREAT));
  int lease = file("lease", O_RDONLY);
  CHECK(fcntl(lease, F_SETLEASE, F_RDLCK) == 0);
  int mapped = file("mapped", O_RDWR | O_CREAT);
  CHECK(ftruncate(mapped, 8192) == 0);
  volatile long *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
  CHECK(memory != MAP_FAILED && lock(mapped, F_SETLK, F_WRLCK, 0, 1) == 0);

  for (long n = 1; !stopping(); n++) {
    int other = file("flock", O_RDWR);
    CHECK(flock(other, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    close(other);
    other = file("description", O_RDWR);
    CHECK(lock(other, F_OFD_SETLK, F_RDLCK, 5, 1) < 0 && errno == EAGAIN);
    CHECK(lock(other, F_OFD_SETLK, F_WRLCK, 6, 1) == 0);
    close(other);
    /* Locks of others that come or go between two reads move the lines: one may be seen twice, or not at all. */
    int count = posix_locks();
    for (int tries = 0; tries < 20 && count != 3; tries++) count = posix_locks();
    if (count != 3) FAIL("%d POSIX locks", count);
    CHECK(fcntl(lease, F_GETLEASE) == F_RDLCK);
    long value;
    memory[1] = n;
    CHECK(pread(mapped, &value, sizeof value, 8) == sizeof value && value == n);
    step("main", n);
    rest(10);
  }
  return done();
}
