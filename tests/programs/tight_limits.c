/* Limits that leave the program nearly nothing beyond what it has: address space, data, locked memory, file size, queued
   signals. Arguments: `soft` lowers what a program may raise again, `hard` what it may not; which limits, one bit each;
   KiB of memory that are left. */
#include "steps.h"
#include <sys/resource.h>

enum { MEGA = 1 << 20 };

/* A field of /proc/self/status, in bytes. */
static unsigned long long field(const char *name) {
  static char text[8192];
  int fd = open("/proc/self/status", O_RDONLY);
  ssize_t n = read(fd, text, sizeof text - 1);
  CHECK(n > 0 && close(fd) == 0);
  text[n] = 0;
  char *at = strstr(text, name);
  CHECK(at);
  return strtoull(at + strlen(name), NULL, 10) << 10;
}

static struct { int resource; rlim_t value; } wanted[] = {
    {RLIMIT_AS, 0}, {RLIMIT_DATA, 0}, {RLIMIT_STACK, 256 << 10}, {RLIMIT_MEMLOCK, 0}, {RLIMIT_FSIZE, 64 << 10},
    {RLIMIT_SIGPENDING, 0}, {RLIMIT_CPU, 3600}};

int main(int argc, char **argv) {
  CHECK(argc == 4);
  int hard = strcmp(argv[1], "hard") == 0;
  unsigned long which = strtoul(argv[2], NULL, 0), room = strtoul(argv[3], NULL, 0) << 10;
  char *memory = mmap(NULL, 8 * MEGA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  memset(memory, 'm', 8 * MEGA);
  /* The allocator has what it needs from here on. */
  note("begins");
  wanted[0].value = field("VmSize:") + room, wanted[1].value = field("VmData:") + room;
  enum { COUNT = sizeof wanted / sizeof *wanted };
  struct rlimit now[COUNT], is;
  for (int i = 0; i < COUNT; i++) {
    CHECK(getrlimit(wanted[i].resource, &now[i]) == 0);
    if (!(which >> i & 1)) continue;
    now[i].rlim_cur = wanted[i].value;
    if (hard) now[i].rlim_max = wanted[i].value;
    CHECK(setrlimit(wanted[i].resource, &now[i]) == 0);
  }
  for (long n = 1; !stopping(); n++) {
    for (int i = 0; i < COUNT; i++)
      if (getrlimit(wanted[i].resource, &is) || is.rlim_cur != now[i].rlim_cur || is.rlim_max != now[i].rlim_max)
        FAIL("limit %d is %llu, %llu in step %ld", i, (unsigned long long)is.rlim_cur, (unsigned long long)is.rlim_max, n);
    for (int i = 0; i < 8 * MEGA; i += 4096) CHECK(memory[i] == 'm');
    if (which & 1) CHECK(mmap(NULL, 64 * MEGA, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
    step("main", n);
    rest(10);
  }
  return done();
}
