/* Lines to a file that somebody else has opened for it, as its standard input: none lost, none twice. */
#include "steps.h"

int main(void) {
  for (long n = 1; !stopping(); n++) {
    CHECK(dprintf(0, "%ld\n", n) > 0);
    step("main", n);
    rest(5);
  }
  return done();
}
