/* A family whose first process says which signals it is sent, and ends as a file says: by an exit with that status, or by
   that signal. Its child, in a group of its own, is told nothing by anybody, and goes on until it sees the same file. */
#include "steps.h"
#include <signal.h>

static const int HEARD[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};
enum { COUNT = sizeof HEARD / sizeof *HEARD };
static volatile sig_atomic_t heard[COUNT];

static void hear(int number) {
  for (int i = 0; i < COUNT; i++)
    if (HEARD[i] == number) heard[i]++;
}

/* What the file `end` holds; 0: there is none yet. */
static int end(void) {
  char text[16] = "";
  int fd = open(in_dir("end"), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t length = read(fd, text, sizeof text - 1);
  CHECK(close(fd) == 0);
  return length > 0 && text[length - 1] == '\n' ? atoi(text) : 0;
}

int main(void) {
  int told[COUNT] = {0};
  struct sigaction action = {.sa_handler = hear, .sa_flags = SA_RESTART};
  for (int i = 0; i < COUNT; i++) CHECK(sigaction(HEARD[i], &action, NULL) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  const char *stream = child ? "first" : "child";
  if (!child) CHECK(setpgid(0, 0) == 0);
  int how = 0;
  for (long n = 1; !how; n++) {
    for (int i = 0; i < COUNT; i++)
      for (; told[i] < heard[i]; told[i]++) {
        if (!child) FAIL("the child heard signal %d", HEARD[i]);
        note("heard %d", HEARD[i]);
      }
    step(stream, n);
    /* A signal may end it. */
    struct timespec t = {0, 10000000};
    nanosleep(&t, NULL);
    how = end();
  }
  if (!child) return 0;
  done();
  if (how > 0) return how;
  signal(-how, SIG_DFL);
  raise(-how);
  return 96;
}
