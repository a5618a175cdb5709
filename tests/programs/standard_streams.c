/* Buffered text in stdout and stderr, which are inherited, and a pipe as stdin: nothing lost, nothing twice.
   Its steps are in the log; what it prints goes to whoever launched or restarted it. */
#include "steps.h"

int main(void) {
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  printf("begin\n");
  for (long n = 1; !stopping(); n++) {
    if (n % 8 == 0) CHECK(printf("line %ld\n", n) > 0);
    step("main", n);
    rest(5);
  }
  printf("end\n");
  CHECK(fflush(stdout) == 0);
  fprintf(stderr, "complaint\n");
  return done();
}
