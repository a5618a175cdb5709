/* A heap that grows by brk at every step, in pieces too small for mmap; each piece keeps what was written to it. */
#include "steps.h"
#include <malloc.h>

enum { PIECES = 32, SIZE = 60000, AT_A_TIME = 8 };

static void fill(unsigned char *piece, long n) { memset(piece, (int)(n * 7 + 1), SIZE); }

static void check(const unsigned char *piece, long n) {
  for (int i = 0; i < SIZE; i += 997)
    if (piece[i] != (unsigned char)(n * 7 + 1)) FAIL("piece %ld has %d at %d", n, piece[i], i);
}

int main(void) {
  static unsigned char *pieces[PIECES];
  long made = 0;
  CHECK(mallopt(M_TRIM_THRESHOLD, 256 << 10) == 1);
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < AT_A_TIME; i++, made++) {
      unsigned char *piece = malloc(SIZE);
      CHECK(piece != NULL);
      fill(piece, made);
      pieces[made % PIECES] = piece;
    }
    for (long i = made - PIECES < 0 ? 0 : made - PIECES; i < made; i++) check(pieces[i % PIECES], i);
    if (made % PIECES == 0) {
      /* The heap shrinks, and grows again. */
      for (int i = 0; i < PIECES; i++) free(pieces[i]);
      made = 0;
    }
    step("main", n);
    rest(10);
  }
  return done();
}
