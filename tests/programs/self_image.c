/* What the kernel says of the process: its executable, the files that are mapped, command line, environment, auxiliary vector, heap and stack. */
#include "steps.h"
#include <sys/auxv.h>

extern char **environ;

static ssize_t slurp(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY);
  ssize_t n, got = 0;
  CHECK(fd >= 0);
  while ((n = read(fd, text + got, size - 1 - got)) > 0) got += n;
  CHECK(n == 0 && close(fd) == 0);
  text[got] = 0;
  return got;
}

static int is_in_map(const char *label, const void *inside) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  int found = 0;
  CHECK(maps);
  while (fgets(line, sizeof line, maps)) {
    unsigned long low, high;
    if (sscanf(line, "%lx-%lx", &low, &high) == 2 && strstr(line, label))
      found |= (unsigned long)inside >= low && (unsigned long)inside < high;
  }
  fclose(maps);
  return found;
}

/* A reading that was cut in two by a restart tells nothing: the text of the file is that of another process. */
static void check_map(const char *label, const void *inside) {
  for (int i = 0; i < 3; i++)
    if (is_in_map(label, inside)) return;
  FAIL("%p is not in %s", inside, label);
}

/* The tool's own variables may change: the coordinator of a restart is another one. All others stay, in their places. */
static void check_environment(const char *was, const char *is, ssize_t size) {
  for (ssize_t i = 0; i < size; i += strlen(was + i) + 1)
    if (strncmp(was + i, "DMTCP_", 6) && strcmp(was + i, is + i)) FAIL("variable %s is %s", was + i, is + i);
}

/* Addresses in /proc/self/stat: code, stack, data, start of the heap, arguments, environment. */
static void addresses(unsigned long list[10]) {
  char text[2048];
  slurp("/proc/self/stat", text, sizeof text);
  char *at = strrchr(text, ')') + 2;
  for (int field = 3, found = 0; found < 10; field++, at = strchr(at, ' ') + 1)
    if ((field >= 26 && field <= 28) || (field >= 45 && field <= 51)) list[found++] = strtoul(at, NULL, 10);
}

static int deep(int level) {
  volatile char frame[4096];
  frame[0] = (char)level;
  return level == 0 ? 0 : deep(level - 1) + (frame[0] == (char)level);
}

int main(int argc, char **argv) {
  static char line[1 << 16], line_now[1 << 16], env[1 << 17], env_now[1 << 17];
  char exe[512] = "", now[512];
  (void)argc;
  CHECK(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
  ssize_t line_size = slurp("/proc/self/cmdline", line, sizeof line);
  ssize_t env_size = slurp("/proc/self/environ", env, sizeof env);
  CHECK(strstr(env, "STEPS_LOG=") || memmem(env, env_size, "STEPS_LOG=", 10));
  char *small = sbrk(4096);
  CHECK(small != (void *)-1);
  strcpy(small, "on the heap");
  unsigned long entry = getauxval(AT_ENTRY), random = *(unsigned long *)getauxval(AT_RANDOM);
  char comm[32];
  slurp("/proc/self/comm", comm, sizeof comm);
  char vector[1024], vector_now[1024];
  ssize_t vector_size = slurp("/proc/self/auxv", vector, sizeof vector);
  unsigned long places[10], places_now[10];
  addresses(places);
  char *end = sbrk(0);
  for (long n = 1; !stopping(); n++) {
    memset(now, 0, sizeof now);
    CHECK(readlink("/proc/self/exe", now, sizeof now - 1) > 0);
    if (strcmp(now, exe)) FAIL("exe is %s, was %s", now, exe);
    CHECK(slurp("/proc/self/cmdline", line_now, sizeof line_now) == line_size && !memcmp(line, line_now, line_size));
    CHECK(slurp("/proc/self/environ", env_now, sizeof env_now) > 0);
    check_environment(env, env_now, env_size);
    slurp("/proc/self/comm", now, sizeof now);
    if (strcmp(now, comm)) FAIL("comm is %s, was %s", now, comm);
    CHECK(getauxval(AT_ENTRY) == entry && *(unsigned long *)getauxval(AT_RANDOM) == random);
    CHECK(strcmp(argv[1], "argument one") == 0);
    CHECK(slurp("/proc/self/auxv", vector_now, sizeof vector) == vector_size && !memcmp(vector, vector_now, vector_size));
    addresses(places_now);
    for (int i = 0; i < 10; i++)
      if (places[i] != places_now[i]) FAIL("address %d in stat is %lx, was %lx", i, places_now[i], places[i]);
    char *more = sbrk(4096);
    CHECK(more == end);
    more[4095] = 1;
    check_map("[heap]", more);
    check_map("[stack]", &n);
    check_map(exe, (void *)(uintptr_t)main);
    check_map("/libc", (void *)(uintptr_t)qsort);
    CHECK(deep((int)(n % 500) + 500) == (int)(n % 500) + 500);
    CHECK(strcmp(small, "on the heap") == 0);
    step("main", n);
    rest(10);
    CHECK((end = sbrk(0)) >= more + 4096);
  }
  return done();
}
