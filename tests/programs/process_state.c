/* What a process has beside memory and descriptors: directory, umask, limits, priorities, name, flags. */
#include "steps.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int main(void) {
  char cwd[512], before[512];
  struct rlimit limit = {100, 200}, now;
  CHECK(mkdir(in_dir("inner"), 0700) == 0 && chdir(in_dir("inner")) == 0 && getcwd(before, sizeof before));
  umask(0137);
  CHECK(setrlimit(RLIMIT_CORE, &limit) == 0);
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max < 777 ? limit.rlim_max : 777;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHECK(setpriority(PRIO_PROCESS, 0, 5) == 0);
  CHECK(prctl(PR_SET_NAME, "renamed") == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  CHECK(prctl(PR_SET_TIMERSLACK, 123456) == 0);
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  cpu_set_t cpus, all;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  CPU_ZERO(&cpus);
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &all)) { CPU_SET(i, &cpus); break; }
  CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
  uid_t uid = getuid();
  gid_t gid = getgid();
  for (long n = 1; !stopping(); n++) {
    mode_t mask = umask(0);
    umask(mask);
    CHECK(mask == 0137);
    CHECK(getcwd(cwd, sizeof cwd) && strcmp(cwd, before) == 0);
    CHECK(getrlimit(RLIMIT_CORE, &now) == 0 && now.rlim_cur == 100 && now.rlim_max == 200);
    CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == limit.rlim_cur && now.rlim_max == limit.rlim_max);
    errno = 0;
    CHECK(getpriority(PRIO_PROCESS, 0) == 5 && errno == 0);
    char name[16];
    int reaper = 0;
    CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, "renamed") == 0);
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &reaper) == 0 && reaper == 1);
    CHECK(prctl(PR_GET_TIMERSLACK) == 123456);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_DUMPABLE) == 1);
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0 && CPU_EQUAL(&all, &cpus));
    CHECK(getuid() == uid && geteuid() == uid && getgid() == gid && getegid() == gid);
    step("main", n);
    rest(10);
  }
  return done();
}
