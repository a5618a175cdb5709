/* What every program under test shares: steps, the stop file, strict checks.
   The meaning of the lines is in tests/src/progress.rs. */
#ifndef STEPS_H
#define STEPS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define MAYBE_UNUSED __attribute__((unused))

/* The exit status that tests/src/case.rs expects. */
enum { STATUS = 7 };

/* One line, one write, and the log is not kept open; `-` is standard output. */
MAYBE_UNUSED static void note(const char *format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line - 1, format, args);
  va_end(args);
  if (n > (int)sizeof line - 2) n = sizeof line - 2;
  line[n++] = '\n';
  const char *path = getenv("STEPS_LOG");
  int kept = strcmp(path, "-") == 0;
  int fd = kept ? 1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, line, n) != n) _exit(98);
  if (!kept) close(fd);
}

#define FAIL(...) do { note("FAIL " __VA_ARGS__); _exit(97); } while (0)
#define CHECK(condition) do { if (!(condition)) \
    FAIL("%s:%d: %s (errno %d)", __FILE__, __LINE__, #condition, errno); } while (0)
/* For pthread-style calls, which return the error. */
#define OK(call) do { int rc_ = (call); if (rc_) FAIL("%s:%d: %s gives %d", __FILE__, __LINE__, #call, rc_); } while (0)

MAYBE_UNUSED static void step(const char *stream, long n) { note("p %s %ld", stream, n); }

MAYBE_UNUSED static int stopping(void) { return access(getenv("STEPS_STOP"), F_OK) == 0; }

/* Rest a moment. A checkpoint must not show: neither as an error nor as a shorter rest. */
MAYBE_UNUSED static void rest(int ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
  CHECK(nanosleep(&t, NULL) == 0);
}

MAYBE_UNUSED static int done(void) {
  note("DONE");
  return STATUS;
}

MAYBE_UNUSED static uint64_t random_number(uint64_t *state) {
  *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
  return *state >> 33;
}

/* A path in the directory of the case. */
MAYBE_UNUSED static const char *in_dir(const char *name) {
  static __thread char path[512];
  snprintf(path, sizeof path, "%s/%s", getenv("STEPS_DIR"), name);
  return path;
}
#endif
