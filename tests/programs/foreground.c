/* A job of an interactive shell: it counts its steps, answers each line that is typed, and says when it is interrupted.
   Whenever it reads or is interrupted it must have the terminal. From when there is a file `read` it does not look whether
   it has that before it reads. */
#include "steps.h"
#include <poll.h>
#include <termios.h>

static volatile sig_atomic_t interrupts;

static void interrupted(int number) {
  (void)number;
  interrupts++;
}

static void answer(const char *format, const char *text, int number) {
  CHECK(tcgetpgrp(0) == getpgrp());
  printf(format, text, number);
  CHECK(fflush(stdout) == 0);
}

int main(void) {
  struct sigaction action = {.sa_handler = interrupted, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGINT, &action, NULL) == 0);
  int told = 0;
  pid_t group = getpgrp(), session = getsid(0);
  CHECK(group == getpid() && session != group);
  for (long n = 1; !stopping(); n++) {
    CHECK(getpgrp() == group);
    step("job", n);
    if (interrupts != told) answer("interrupted%s %d\n", "", told = interrupts);
    /* In the background a read would stop it. */
    struct pollfd in = {.fd = 0, .events = POLLIN};
    if (access(in_dir("read"), F_OK) == 0 || (tcgetpgrp(0) == group && poll(&in, 1, 10) == 1)) {
      char line[64];
      ssize_t length = read(0, line, sizeof line - 1);
      CHECK(length > 0);
      line[length - 1] = 0;
      answer("heard <%s> %d\n", line, told);
    } else {
      /* The interrupt may come just when it gets the foreground. */
      poll(NULL, 0, 10);
    }
  }
  return done();
}
