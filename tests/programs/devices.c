/* Nodes of /dev that need nothing but to be opened again. */
#include "steps.h"

int main(void) {
  int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY);
  int random = open("/dev/urandom", O_RDONLY), full = open("/dev/full", O_WRONLY | O_APPEND);
  CHECK(null >= 0 && zero >= 0 && random >= 0 && full >= 0);
  for (long n = 1; !stopping(); n++) {
    char a[32], b[32], zeros[32] = {0};
    CHECK(write(null, a, sizeof a) == sizeof a && read(null, a, sizeof a) == 0);
    CHECK(read(zero, a, sizeof a) == sizeof a && memcmp(a, zeros, sizeof a) == 0);
    CHECK(read(random, a, sizeof a) == sizeof a && read(random, b, sizeof b) == sizeof b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK(write(full, a, 1) < 0 && errno == ENOSPC);
    CHECK(fcntl(full, F_GETFL) & O_APPEND);
    step("main", n);
    rest(10);
  }
  return done();
}
