/* A family: so many processes, which do nothing; the first one says all the time that it is there. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 1;
  for (int i = 1; i < count; i++) {
    pid_t pid = fork();
    if (pid < 0) {
      perror("fork");
      return 1;
    }
    if (pid == 0)
      for (;;) pause();
  }
  for (;;) {
    if (write(1, ".", 1) != 1) return 1;
    usleep(1000);
  }
}
