/* Mappings that are shared: of a file, of no file, of a memfd. Two views of each must stay one memory.
   Argument: file, anonymous or memfd. */
#include "steps.h"
#include <linux/memfd.h>

enum { SIZE = 1 << 20 };

int main(int argc, char **argv) {
  const char *kind = argc > 1 ? argv[1] : "file";
  int fd = -1;
  volatile long *a, *b = NULL;
  char *private_view = NULL;
  if (strcmp(kind, "anonymous") == 0) {
    a = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(a != MAP_FAILED);
    /* A second view of the same pages. */
    b = mremap((void *)a, 0, SIZE, MREMAP_MAYMOVE);
  } else {
    if (strcmp(kind, "memfd") == 0) {
      CHECK((fd = memfd_create("a name", MFD_CLOEXEC | MFD_ALLOW_SEALING)) >= 0);
    } else {
      CHECK((fd = open(in_dir("mapped"), O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0);
    }
    CHECK(ftruncate(fd, SIZE) == 0);
    a = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    b = mmap(NULL, SIZE - 4096, PROT_READ, MAP_SHARED, fd, 4096);
    private_view = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(a != MAP_FAILED && private_view != MAP_FAILED);
    strcpy(private_view + 8192, "mine alone");
    CHECK(lseek(fd, 1234, SEEK_SET) == 1234);
  }
  CHECK(b != MAP_FAILED);
  if (strcmp(kind, "memfd") == 0) CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  long first = fd < 0 ? 0 : 512;  /* where b begins in a, in longs */
  uint64_t state = 5, again = 5;
  for (int i = 1024 + 16; i < SIZE / 8; i += 512) a[i] = random_number(&state);

  for (long n = 1; !stopping(); n++) {
    a[first + 1] = n;
    CHECK(b[1] == n);
    if (fd >= 0) {
      long value;
      CHECK(pread(fd, &value, sizeof value, (first + 1) * 8) == sizeof value && value == n);
      CHECK(lseek(fd, 0, SEEK_CUR) == 1234);
      CHECK(strcmp(private_view + 8192, "mine alone") == 0 && a[1024] == 0);
      struct stat st;
      CHECK(fstat(fd, &st) == 0 && st.st_size == SIZE);
    }
    if (strcmp(kind, "memfd") == 0) {
      char path[64], target[64] = "";
      CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW));
      CHECK(ftruncate(fd, SIZE / 2) < 0 && errno == EPERM);
      CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
      snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
      CHECK(readlink(path, target, sizeof target - 1) > 0 && strcmp(target, "/memfd:a name (deleted)") == 0);
    }
    step("main", n);
    rest(10);
  }
  for (int i = 1024 + 16; i < SIZE / 8; i += 512) CHECK(a[i] == (long)random_number(&again));
  return done();
}
