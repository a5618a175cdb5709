/* Uses tickets, which must be good whenever they are used. What is said to the server is not cut by a checkpoint. */
#include "dmtcp.h"
#include "steps.h"
#include <dlfcn.h>

int main(void) {
  void *library = dlopen(in_dir("libticket.so"), RTLD_NOW);
  CHECK(library != NULL);
  long (*ticket_take)(void) = (long (*)(void))dlsym(library, "ticket_take");
  int (*ticket_use)(long) = (int (*)(long))dlsym(library, "ticket_use");
  int (*ticket_give)(long) = (int (*)(long))dlsym(library, "ticket_give");
  CHECK(ticket_take && ticket_use && ticket_give);
  long kept = ticket_take(), last = -1;
  CHECK(kept >= 0);
  for (long n = 1; !stopping(); n++) {
    dmtcp_disable_ckpt();
    long other = ticket_take();
    CHECK(other >= 0 && other != kept);
    CHECK(ticket_use(kept) == 0 && ticket_use(other) == 0 && ticket_give(other) == 0);
    CHECK(ticket_use(other) == -1 && ticket_give(1000000) == -1);
    /* One more is held over checkpoints for some rounds. */
    if (n % 3 == 1) {
      CHECK(last < 0 || ticket_give(last) == 0);
      CHECK((last = ticket_take()) >= 0);
    }
    CHECK(ticket_use(last) == 0);
    dmtcp_enable_ckpt();
    step("main", n);
    rest(10);
  }
  CHECK(ticket_give(kept) == 0 && ticket_use(kept) == -1);
  return done();
}
