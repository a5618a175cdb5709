/* Pipes with both ends in one process and bytes in flight: few, as many as fit, packets, none with a closed writer. */
#include "steps.h"

static void check_flags(int fd, int flags) { CHECK((fcntl(fd, F_GETFL) & (O_NONBLOCK | O_DIRECT)) == flags); }

int main(void) {
  int small[2], full[2], packets[2], ended[2], wake[2];
  CHECK(pipe(small) == 0 && pipe2(full, O_NONBLOCK) == 0 && pipe2(packets, O_DIRECT | O_CLOEXEC) == 0);
  CHECK(pipe(ended) == 0 && pipe2(wake, O_NONBLOCK | O_CLOEXEC) == 0);
  int size = fcntl(full[1], F_SETPIPE_SZ, 1 << 17);
  CHECK(size == 1 << 17);
  uint64_t in = 1, out = 1;
  long held = 0;
  unsigned char byte;
  for (;; held++) {
    byte = (unsigned char)random_number(&in);
    if (write(full[1], &byte, 1) != 1) break;
    if (held > 200000) FAIL("the pipe takes more than it holds");
  }
  CHECK(errno == EAGAIN);
  in = 1;
  for (long i = 0; i < held; i++) random_number(&in);
  /* Room for one page more than the steps below need: how bytes lie in the kernel's pages is not a part of the state. */
  for (int i = 0; i < 4096; i++) CHECK(read(full[0], &byte, 1) == 1 && byte == (unsigned char)random_number(&out));
  CHECK(write(ended[1], "last words", 10) == 10 && close(ended[1]) == 0);
  CHECK(write(small[1], "0000000000", 10) == 10);
  CHECK(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5);

  for (long n = 1; !stopping(); n++) {
    char text[64], want[32];
    snprintf(want, sizeof want, "%010ld", n);
    CHECK(write(small[1], want, 10) == 10);
    rest(5);
    CHECK(read(small[0], text, 10) == 10);
    snprintf(want, sizeof want, "%010ld", n - 1);
    CHECK(memcmp(text, want, 10) == 0);
    /* Packets keep their borders. */
    CHECK(read(packets[0], text, sizeof text) == 3 && memcmp(text, "one", 3) == 0);
    CHECK(read(packets[0], text, sizeof text) == 5 && memcmp(text, "three", 5) == 0);
    CHECK(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5);
    /* The full one: take a page out, put a page in. */
    for (int i = 0; i < 4096; i++) {
      CHECK(read(full[0], &byte, 1) == 1);
      CHECK(byte == (unsigned char)random_number(&out));
    }
    for (int i = 0; i < 4096; i++) {
      byte = (unsigned char)random_number(&in);
      if (write(full[1], &byte, 1) != 1) FAIL("no room for byte %d", i);
    }
    CHECK(fcntl(full[0], F_GETPIPE_SZ) == 1 << 17);
    CHECK(read(wake[0], text, 1) < 0 && errno == EAGAIN);
    check_flags(small[0], 0), check_flags(full[1], O_NONBLOCK), check_flags(packets[1], O_DIRECT);
    check_flags(wake[0], O_NONBLOCK);
    CHECK(fcntl(packets[0], F_GETFD) == FD_CLOEXEC && fcntl(small[0], F_GETFD) == 0);
    step("main", n);
    rest(5);
  }
  char text[16];
  CHECK(read(ended[0], text, sizeof text) == 10 && memcmp(text, "last words", 10) == 0);
  CHECK(read(ended[0], text, sizeof text) == 0);
  return done();
}
