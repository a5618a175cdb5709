/* Shared memory that is hard to find or hard to carry: no name, no descriptor, holes, seals, terabytes of nothing. */
#include "steps.h"
#include <linux/memfd.h>
#include <semaphore.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#endif
enum { SIZE = 1 << 20, WORDS = SIZE / 8 };
/* What only mincore(2) can look through, and what the kernel tells the holes of. */
static const size_t LARGE = 1UL << 37, HUGE = 1UL << 40;

static volatile long *map(size_t size, int prot, int flags, int fd, off_t offset) {
  void *memory = mmap(NULL, size, prot, MAP_SHARED | flags, fd, offset);
  CHECK(memory != MAP_FAILED);
  return memory;
}

static int file(const char *name, int size) {
  int fd = open(in_dir(name), O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0 && ftruncate(fd, size) == 0);
  return fd;
}

static int memfd(const char *name, unsigned flags, off_t size) {
  int fd = memfd_create(name, flags);
  CHECK(fd >= 0 && ftruncate(fd, size) == 0);
  return fd;
}

int main(void) {
  enum { RW = PROT_READ | PROT_WRITE, ALL = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
  int lost = file("lost", SIZE), kept = file("kept", SIZE), reader = open(in_dir("kept"), O_RDONLY);
  CHECK(reader >= 0 && unlink(in_dir("lost")) == 0 && unlink(in_dir("kept")) == 0);
  volatile long *lost_a = map(SIZE, RW, 0, lost, 0), *lost_b = map(SIZE / 2, RW, 0, lost, SIZE / 2);
  close(lost);
  volatile long *kept_a = map(SIZE, RW, 0, kept, 0), *kept_b = map(SIZE, PROT_READ, 0, reader, 0);
  volatile long *large = map(LARGE, RW, MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  volatile long *pieces = map(SIZE, RW, MAP_ANONYMOUS, -1, 0), *closed = map(8192, RW, MAP_ANONYMOUS, -1, 0);
  pieces[0] = 1, pieces[WORDS - 1] = 9, closed[3] = 77;
  CHECK(munmap((char *)pieces + SIZE / 4, SIZE / 2) == 0 && mprotect((void *)closed, 8192, PROT_NONE) == 0);

  char name[64];
  snprintf(name, sizeof name, "/dmtcp-test-%d", getpid());
  int object = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(object >= 0 && ftruncate(object, SIZE) == 0);
  volatile long *posix = map(SIZE, RW, 0, object, 0);
  close(object);
  sem_t *semaphore = sem_open(name, O_CREAT | O_EXCL, 0600, 3);
  CHECK(semaphore != SEM_FAILED);

  int sealed = memfd("sealed", MFD_ALLOW_SEALING, 0);
  CHECK(write(sealed, "content", 7) == 7 && fcntl(sealed, F_ADD_SEALS, ALL) == 0);
  volatile char *content = (volatile char *)map(4096, PROT_READ, 0, sealed, 0);
  int future = memfd("future", MFD_ALLOW_SEALING, SIZE);
  volatile long *last = map(SIZE, RW, 0, future, 0);
  CHECK(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
  int plain = memfd("plain", 0, 1), sparse = memfd("sparse", MFD_CLOEXEC, (off_t)HUGE);
  CHECK(pwrite(sparse, "x", 1, (off_t)HUGE / 2) == 1);
  int noexec = memfd_create("noexec", MFD_NOEXEC_SEAL);
  struct stat before, st;
  CHECK(noexec < 0 || fstat(noexec, &before) == 0);

  for (long n = 1; !stopping(); n++) {
    long value;
    char byte;
    int count;
    lost_a[WORDS / 2 + 1] = n, kept_a[5] = n, last[1] = n;
    CHECK(lost_b[1] == n && kept_b[5] == n && pread(reader, &value, 8, 40) == 8 && value == n);
    CHECK(mprotect((void *)kept_b, 4096, RW) < 0 && errno == EACCES);
    CHECK(large[LARGE / 16] == n - 1 && large[77] == 0 && pieces[0] == 1 && pieces[WORDS - 1] == 9);
    CHECK(posix[9] == n - 1);
    large[LARGE / 16] = n, posix[9] = n;
    CHECK(mprotect((void *)closed, 8192, PROT_READ) == 0 && closed[3] == 77);
    CHECK(mprotect((void *)closed, 8192, PROT_NONE) == 0);
    CHECK(sem_getvalue(semaphore, &count) == 0 && count == 3 && sem_trywait(semaphore) == 0 && sem_post(semaphore) == 0);
    CHECK(memcmp((const char *)content, "content", 7) == 0 && fcntl(sealed, F_GET_SEALS) == ALL);
    CHECK(write(sealed, "x", 1) < 0 && errno == EPERM);
    CHECK(pread(future, &value, 8, 8) == 8 && value == n && fcntl(future, F_GET_SEALS) == F_SEAL_FUTURE_WRITE);
    CHECK(fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL && pread(sparse, &byte, 1, (off_t)HUGE / 2) == 1 && byte == 'x');
    CHECK(fstat(sparse, &st) == 0 && st.st_size == (off_t)HUGE && st.st_blocks < 100000);
    CHECK(noexec < 0 || (fstat(noexec, &st) == 0 && st.st_mode == before.st_mode));
    step("main", n);
    rest(10);
  }
  CHECK(sem_unlink(name) == 0 && shm_unlink(name) == 0);
  return done();
}
