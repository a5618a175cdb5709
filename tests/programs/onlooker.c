/* Reports all that it can see of itself, for a comparison: descriptors, dispositions, mask, limits, children. */
#include "steps.h"
#include <dirent.h>
#include <sys/resource.h>

int main(void) {
  DIR *dir = opendir("/proc/self/fd");
  CHECK(dir);
  for (struct dirent *e; (e = readdir(dir));)
    if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(dir)) note("descriptor %s", e->d_name);
  closedir(dir);
  for (int sig = 1; sig < 32; sig++) {
    struct sigaction sa;
    if (sigaction(sig, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL) note("disposition of %d: %p", sig, sa.sa_handler);
  }
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  for (int sig = 1; sig <= 64; sig++)
    if (sigismember(&mask, sig) == 1) note("blocked %d", sig);
  for (int i = 0; i < RLIM_NLIMITS; i++) {
    struct rlimit limit;
    if (getrlimit(i, &limit) == 0) note("limit %d: %lu %lu", i, limit.rlim_cur, limit.rlim_max);
  }
  note("umask %o", umask(0));
  note("DONE");
  return STATUS;
}
